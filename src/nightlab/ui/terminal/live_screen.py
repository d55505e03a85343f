"""A running session's screen, which prints the session's messages when it closes."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from nightlab.core.observer import RunningTrialStatus, SessionOpened
from nightlab.core.types import Experiment, Trial
from nightlab.ui.terminal.lines import LineObserver
from nightlab.ui.terminal.outlet import Outlet
from nightlab.ui.terminal.screen import Followed, Screen
from nightlab.ui.terminal.terminal import SuspendHandler, Terminal

KEPT = 200  # messages printed when the screen closes; the log has all of them
ENDING = 2.0  # seconds that a screen may take to close
KEYS = 0  # standard input


class LiveScreen(LineObserver):
    """Draws in its own thread, which follows the ledger, so that the session never waits for its screen.

    ``follow`` opens the follower in that thread. Standard output is the ``outlet``. Call it from the main thread.
    """

    def __init__(self, outlet: Outlet, follow: Callable[[Path], Followed], console: Console | None = None) -> None:
        super().__init__(console)
        self.follow = follow
        self.terminal = Terminal(outlet, KEYS, self.console)
        self.screen: Screen | None = None
        self.thread = threading.Thread(target=self._show, name="screen", daemon=True)
        self.fault = ""
        self._stops: SuspendHandler | None = None
        self._said: deque[str] = deque()
        self._left_out = 0

    def opened(self, opening: SessionOpened) -> None:
        super().opened(opening)
        if not (self.screen or self.thread.ident) and self.terminal.in_front():
            self.folder = opening.folder
            self.screen = Screen(self.terminal, may_leave=False)
            self._stops = SuspendHandler(self.terminal)
            self.thread.start()

    def started(self, experiment: Experiment, trial: Trial) -> None:
        if not self.screen:  # otherwise the screen shows it
            super().started(experiment, trial)

    def say(self, words: str) -> None:
        if self.screen:
            self.screen.tell(Text.from_markup(words.strip()))
        super().say(words)

    def tick(self, trials: Sequence[RunningTrialStatus]) -> None:
        if self.screen and not self.thread.is_alive():  # its terminal was closed, or it failed
            self.close()

    def close(self) -> None:
        """Restore the terminal, and print the messages."""
        if not self.screen:
            return
        self.screen.stop()
        self.thread.join(ENDING)
        self.terminal.leave()
        self.screen = None
        if self._stops:
            self._stops.close()
        if self._left_out:
            self._line(f"[dim]{self._left_out:,} earlier lines: nightlab log --all[/]")
        for words in self._said:
            self._line(words)
        if self.fault:
            self._line(f"[dim]the screen failed, lines from here: {self.fault}[/]")

    def _line(self, words: str) -> None:
        if not self.screen:
            super()._line(words)
            return
        self._said.append(words)
        if len(self._said) > KEPT:
            self._said.popleft()
            self._left_out += 1

    # -- in the screen's thread ------------------------------------------------------------------

    def _show(self) -> None:
        assert self.screen
        try:
            self.screen.run(self.follow(self.folder))
        except Exception as error:  # on any error the session continues without its screen
            self.fault = f"{type(error).__name__}: {error}"
