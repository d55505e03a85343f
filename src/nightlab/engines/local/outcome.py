"""How a trial ends: the words for it, and what the end of a process says."""

from __future__ import annotations

import contextlib
import signal


class TrialEnded(Exception):
    """The trial is over: ``outcome`` in the words of records.Outcome, ``detail`` for people."""

    def __init__(self, outcome: str, detail: str = "") -> None:
        super().__init__(detail)
        self.outcome, self.detail = outcome, detail


def named(status: int) -> str:
    """An exit status, with the signal's name where it was one: a sandbox says 128 + the signal, as shells do."""
    number = -status if status < 0 else status - 128
    with contextlib.suppress(ValueError):
        return f"{abs(status)} ({signal.Signals(number).name})"
    return f"{status}"


def check_not_killed(status: int) -> None:
    """An evaluator that was killed (by you, or for lack of memory) says nothing about the candidate."""
    if status in (-signal.SIGKILL, 128 + signal.SIGKILL):
        raise TrialEnded("lost", "the evaluator was killed from outside")


def last_line(text: str) -> str:
    """What a process said last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"
