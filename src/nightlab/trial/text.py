"""What a candidate prints is data: the one place where it becomes text that others may see."""

from __future__ import annotations

import math
import re

ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
# Control characters, and whatever is not seen: direction marks, joiners, fillers, variation selectors, and the
# tag characters in which instructions are hidden from people.
CONTROLS = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    r"\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)
METRIC = re.compile(r"^METRIC[ \t]+([\w.µ]+)=(\S+)[ \t]*$", re.MULTILINE)
CLAIM = re.compile(r"^([A-Za-z_]\w{0,40}):[ \t]+(\S+)[ \t]*$", re.MULTILINE)
ERROR = re.compile(r"^(?:[\w.]+(?:Error|Exception|Exit|Interrupt)\b.*|FAIL\b.*|TAMPERED:.*|.*[Kk]illed.*)$")


def plain(raw: bytes | str, limit: int = 4000) -> str:
    """Text without terminal escapes, control or direction characters, at most ``limit`` characters.

    The middle goes when it is too long: the head says what ran, the tail how it ended.
    """
    text = raw.decode("utf-8", errors="replace") if isinstance(raw, bytes) else raw
    text = CONTROLS.sub("", ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n")))
    if len(text) > limit:
        half = limit // 2
        text = f"{text[:half]}\n[… {len(text) - 2 * half:,} characters left out …]\n{text[-half:]}"
    return text


def one_line(raw: str, limit: int = 400) -> str:
    """Somebody's words, made harmless, in one line: a hypothesis, a reason."""
    line = " ".join(plain(raw, 10 * limit).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def metrics(text: str) -> dict[str, float]:
    """The ``METRIC name=value`` lines of a trusted output; the last one of a name counts."""
    return _numbers(METRIC.findall(text))


def claims(text: str) -> dict[str, float]:
    """The ``name: value`` lines of a summary block. Shown to people, trusted by nobody."""
    return _numbers(CLAIM.findall(text))


def crash_summary(text: str) -> str:
    """The one line of a log that best says why a process failed, e.g. the exception's."""
    lines = [line.strip() for line in plain(text).splitlines() if line.strip()]
    for line in reversed(lines):
        if ERROR.match(line):
            return line[:200]
    return lines[-1][:200] if lines else "it printed nothing"


def _numbers(pairs: list[tuple[str, str]]) -> dict[str, float]:
    found = {}
    for name, value in pairs:
        try:
            found[name] = float(value)
        except ValueError:
            continue
    return {name: value for name, value in found.items() if math.isfinite(value)}
