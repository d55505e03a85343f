"""A proposer's turn, in a thread of its own: it may think for minutes. It dies with the program."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from nightlab.proposers import Briefing, Proposal


class ProposalTask(threading.Thread):
    """Asks for a proposal, and keeps count of the seconds in which a slot had nothing to do but wait for it."""

    def __init__(self, ask: Callable[[Briefing], Proposal | None], briefing: Briefing) -> None:
        super().__init__(daemon=True)
        self.ask, self.briefing = ask, briefing
        self.proposal: Proposal | None = None
        self.error: BaseException | None = None
        self.waited = 0.0
        self._since: float | None = None
        self.start()

    def run(self) -> None:
        try:
            self.proposal = self.ask(self.briefing)
        except BaseException as error:  # raised where it can be told
            self.error = error

    def waits(self, slot: bool) -> None:
        """From now on a ``slot`` waits for it, or none does."""
        now = time.monotonic()
        if self._since is not None:
            self.waited += now - self._since
        self._since = now if slot else None
