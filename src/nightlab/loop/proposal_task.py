"""A proposer's turn, in a separate thread: it may think for minutes. It dies with the program."""

from __future__ import annotations

import math
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable

from nightlab.proposers import Briefing, Proposal


class ProposalTask(threading.Thread):
    """Asks for a proposal, and keeps count of the seconds in which a slot had nothing to do but wait for it."""

    def __init__(self, ask: Callable[[Briefing], Proposal | None], briefing: Briefing) -> None:
        super().__init__(daemon=True)
        self.ask, self.briefing = ask, briefing
        self.proposal: Proposal | None = None
        self.error: BaseException | None = None
        self.waited = self.seconds = 0.0
        self._since: float | None = None
        self.start()

    def run(self) -> None:
        begun = time.monotonic()
        try:
            self.proposal = self.ask(self.briefing)
        except BaseException as error:  # raised where it can be told
            self.error = error
        self.seconds = time.monotonic() - begun

    def waits(self, slot: bool) -> None:
        """From now on a ``slot`` waits for it, or none does."""
        now = time.monotonic()
        if self._since is not None:
            self.waited += now - self._since
        self._since = now if slot else None


class ProposalPace:
    """How many turns at the same time make as many proposals as ``slots`` use up, by the latest turns and trials."""

    LATEST = 20
    MARGIN = 1.25  # more turns than the means ask for: a slot that waits costs more than a candidate that does

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._turns, self._trials = deque[float](maxlen=self.LATEST), deque[float](maxlen=self.LATEST)

    def proposed(self, seconds: float) -> None:
        """A turn that brought a proposal took ``seconds``."""
        self._turns.append(seconds)

    def measured(self, seconds: float) -> None:
        """A trial took ``seconds``."""
        self._trials.append(seconds)

    @property
    def turns(self) -> int:
        """Turns at the same time, at most; one for each slot before a turn and a trial have ended."""
        if not (self._turns and self._trials):
            return self.slots
        trial = max(statistics.fmean(self._trials), 0.01)
        return max(math.ceil(self.MARGIN * self.slots * statistics.fmean(self._turns) / trial), 1)
