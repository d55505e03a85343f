"""Decides whether a turn was finished: for models, commands and agents alike.

Neither an agent's stop reason nor its exit status says so: cut at a limit, most agents report ``end_turn`` and exit
with 0. So the briefing asks for a last line ``HYPOTHESIS: …``, and a turn without it is not a proposal. Where the
model's own finish reason is known, it has to be a regular one as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nightlab.core.text import one_line

ASKED = "HYPOTHESIS: what you changed, why it should help, and by how much"
LABEL = re.compile(r"^\W*hypothesis\W*:\W*(?P<said>.*)$", re.IGNORECASE)
THINKING = r"think|thinking|reasoning"
OPENED, CLOSED = (re.compile(rf"<{slash}({THINKING})\b[^<>]*>", re.IGNORECASE) for slash in ("", "/"))
REGULAR = {"stop", "end_turn", "stop_sequence", "completed", "eos"}  # finish reasons of a whole answer
CUT = {"length", "max_tokens", "max_output_tokens", "model_context_window_exceeded", "incomplete", "max_turn_requests"}


@dataclass(frozen=True, slots=True)
class FinishedTurn:
    """The hypothesis of a finished turn, and what was said between it and the hypothesis or thinking before it."""

    hypothesis: str
    body: str


class UnfinishedTurn(ValueError):
    """A turn that was not finished; ``cut``: its answer was cut at a limit of length, so it may be continued."""

    def __init__(self, reason: str, *, cut: bool = False) -> None:
        super().__init__(reason)
        self.cut = cut


def is_regular(stop: str) -> bool:
    """Whether a finish reason is one of a whole answer."""
    return stop.lower() in REGULAR


def is_cut(stop: str | None) -> bool:
    """Whether a finish reason is that of an answer cut at a limit of length."""
    return stop is not None and stop.lower() in CUT


def finished_turn(said: str, stop: str | None = None) -> FinishedTurn:
    """What a turn came to. ``stop`` is the model's finish reason; None where it is not known.

    Raises UnfinishedTurn unless the reason is a regular one and the last line is a hypothesis.
    """
    if stop is not None and not is_regular(stop):
        what = "its answer was cut at a limit" if is_cut(stop) else "it stopped before it was finished"
        raise UnfinishedTurn(f"{what}: {one_line(stop, 300)}", cut=is_cut(stop))
    lines = [line for line in _answer(said).split("\n") if any(map(str.isalnum, line))]
    label = LABEL.match(lines[-1].strip()) if lines else None
    if label is None or not (hypothesis := label["said"].strip(" *_`\"'")):
        last = f"; last line: {one_line(lines[-1], 200)}" if lines else ""
        raise UnfinishedTurn(f"it did not end with a line 'HYPOTHESIS: …', so it was not finished{last}")
    return FinishedTurn(one_line(hypothesis), _after_label(_answer(said)))


def _answer(said: str) -> str:
    """What follows the last thinking; empty if that was not closed."""
    text = said.replace("\r\n", "\n")
    end = max((found.end() for found in CLOSED.finditer(text)), default=0)
    return "" if OPENED.search(text, end) else text[end:]


def _after_label(answer: str) -> str:
    """The lines between the last hypothesis and the one before it, if there is one."""
    lines = answer.split("\n")
    labels = [n for n, line in enumerate(lines) if LABEL.match(line.strip())]
    start = labels[-2] + 1 if len(labels) > 1 else 0
    return "\n".join(lines[start : labels[-1]])
