"""Ctrl-C and the other signals while a command runs trials. A program that uses the API handles its own signals."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from nightlab.core.observer import Observer


class StopOnSignals(Observer):
    """Ctrl-C once finishes the running trials, twice stops now; a termination stops now.

    A terminal that goes away (SIGHUP) stops nothing: the session goes on unseen. ``shown`` says what happens.
    """

    def __init__(self, shown: Observer) -> None:
        self.shown = shown
        self._before: dict[int, Any] = {}

    def began(self, stop: Callable[[bool], None]) -> None:
        asked = False

        def ask(number: int, frame: FrameType | None) -> None:
            nonlocal asked
            now = asked or number == signal.SIGTERM
            if not now:
                self.shown.say("finishing what is in flight; Ctrl-C again stops now")
            asked = True
            stop(now)

        self._before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def ended(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
