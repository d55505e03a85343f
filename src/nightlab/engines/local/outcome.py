"""How a trial ended, as outcome and text."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Sequence

SETTING_UP = ("bwrap: ", "setpriv: ", "sandbox-exec: ")  # programs that set up a sandbox, here and on macOS
REFUSALS = (errno.EBUSY, errno.EAGAIN, errno.EINTR, errno.ENOMEM, errno.ENOSPC, errno.EMFILE, errno.ENFILE)
TRANSIENT = tuple(os.strerror(number) for number in REFUSALS)  # what a kernel says that may do the same later


class TrialEnded(Exception):
    """Ends the trial: ``outcome`` is one of ``Measurement.outcome``, ``detail`` is for people."""

    def __init__(self, outcome: str, detail: str = "") -> None:
        super().__init__(detail)
        self.outcome, self.detail = outcome, detail


def describe_status(status: int) -> str:
    """An exit status as text, with the signal's name; a sandbox returns 128 + the signal, as shells do."""
    number = -status if status < 0 else status - 128
    with contextlib.suppress(ValueError):
        return f"{abs(status)} ({signal.Signals(number).name})"
    return f"{status}"


def check_not_killed(status: int) -> None:
    """End the trial as lost if the evaluator was killed (by the user, or out of memory): it says nothing then."""
    if status in (-signal.SIGKILL, 128 + signal.SIGKILL):
        raise TrialEnded("lost", "the evaluator was killed from outside")


def last_line(text: str) -> str:
    """The last non-empty line of a process's output."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"


def failed_setup(prefix: Sequence[str], output: str) -> str:
    """What the sandbox that ``prefix`` starts said where the machine kept it from being set up; empty if it did not.

    Its programs say that in one line and exit with status 1, without having run the command. A command that does the
    same gains nothing: the trial runs again, a few times. What is missing, or in the way of a mount, is the lab's.
    """
    said = output.strip()
    ours = bool(prefix) and "\n" not in said and said.startswith(SETTING_UP)
    return said if ours and said.endswith(TRANSIENT) else ""
