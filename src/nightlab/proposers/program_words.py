"""What a program said in its turn: its last words, how it says the turn ended, and the usage that it reports.

The last words of an agent are its last message, which the protocol's client writes down; those of a command are the end
of its output. A hypothesis in ``hypothesis.txt`` counts as a last line if it was written after the last edit.
"""

from __future__ import annotations

import contextlib
import json
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nightlab.core.text import one_line, plain
from nightlab.proposers.edited_files import HYPOTHESIS, TURN, USAGE

TAIL = 65536  # bytes that are read from the end of its output
KEY_REFUSED = re.compile(
    r"\b401 unauthori[sz]ed|\bstatus:? 401\b|^\W*(error:? )?401\b|api error: 401\b|authentication_error"
    r"|(invalid|incorrect) (x-)?api[ _-]?key|\bapi key not valid",
    re.IGNORECASE | re.MULTILINE,
)
LAST_LINES = 10  # in which a program says why it gave up
MOST_WRITTEN, MOST_TURN = 4000, 200_000  # bytes that are read of its hypothesis and usage, and of an agent's last words


@dataclass(frozen=True, slots=True)
class ProgramWords:
    """``stop``: the stop reason that an agent gave, empty for a command. ``login``: it asks for one."""

    said: str
    stop: str = ""
    login: bool = False

    @property
    def last_line(self) -> str:
        """The last line that has words; ``nothing`` if there is none."""
        lines = [line.strip() for line in self.said.splitlines() if any(map(str.isalnum, line))]
        return one_line(lines[-1], 300) if lines else "nothing"

    @property
    def key_refused(self) -> bool:
        """Whether its last lines say that its endpoint refused its key."""
        lines = [line for line in self.said.splitlines() if line.strip()][-LAST_LINES:]
        return KEY_REFUSED.search("\n".join([*lines, self.stop])) is not None

    def with_hypothesis(self, work: Path, edited: Iterable[str]) -> str:
        """What was said, with the content of ``hypothesis.txt`` as its last line if that is newer than all edits."""
        path = work / HYPOTHESIS
        with contextlib.suppress(OSError):
            written = path.lstat().st_mtime_ns
            if all(written >= (work / name).lstat().st_mtime_ns for name in edited):
                line = one_line(_read(path, MOST_WRITTEN))
                label = "" if line.lower().lstrip("*#_ ").startswith("hypothesis") else "HYPOTHESIS: "
                return f"{self.said}\n{label}{line}" if line else self.said
        return self.said


def words_of_command(output: Path) -> ProgramWords:
    """The end of a command's output, sanitised."""
    try:
        with output.open("rb") as file:
            file.seek(max(output.stat().st_size - TAIL, 0))
            return ProgramWords(plain(file.read(TAIL), TAIL))
    except OSError:
        return ProgramWords("")


def words_of_agent(work: Path) -> ProgramWords:
    """An agent's last message and stop reason, as the protocol's client wrote them down; empty if it was ended."""
    told = _json(work / TURN, MOST_TURN)
    said, stop = (plain(str(told.get(name, "")), TAIL) for name in ("said", "stop"))
    return ProgramWords(said, one_line(stop, 300), told.get("login") is True)


def told_usage(work: Path) -> dict[str, Any]:
    """The usage that it reports for its turn (tokens, cost, model), as far as it is plausible. Self-reported."""
    found: dict[str, Any] = {}
    for name, value in _json(work / USAGE, MOST_WRITTEN).items():
        if name in ("agent", "model") and isinstance(value, str):
            found[name] = one_line(value, 80)
        elif name in ("input_tokens", "output_tokens") and isinstance(value, int) and 0 <= value < 1e12:
            found[name] = int(value)
        elif name == "cost_usd" and isinstance(value, int | float) and 0 <= value < 1e9:
            found[name] = float(value)
    return found


def _json(path: Path, most: int) -> dict[str, Any]:
    try:
        found = json.loads(_read(path, most) or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _read(path: Path, most: int) -> str:
    """The content of a small file; empty if it does not exist."""
    with contextlib.suppress(OSError):
        if stat.S_ISREG(path.lstat().st_mode):
            with path.open("rb") as file:
                return file.read(most).decode(errors="replace")
    return ""
