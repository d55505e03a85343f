"""Back-off: a proposer pauses after failed turns, so that an outage or a bad idea costs neither time nor money."""

from __future__ import annotations

import math
import threading
import time
from typing import Protocol

from nightlab.proposers.proposer import Briefing, NoProposal, Proposal, RejectedProposal

FIRST, LONGEST = 10.0, 900.0  # seconds of pause after the first failure, and at most


class Thinker(Protocol):
    """A proposer whose turns take time and money, and may fail."""

    name: str

    def propose(self, briefing: Briefing) -> Proposal | None:
        """The next change to try; None when there is none now. Raises NoProposal for a turn that failed."""
        ...

    def stop(self) -> None:
        """End the current turn, if there is one."""
        ...


class Backoff:
    """Asks a thinker, and pauses it after a failed turn: ``first`` seconds, doubled after each further failure.

    A final failure, such as a wrong key, stops it for the rest of the run. Several ``thinkers`` of one name have their
    turns at the same time, each one turn at once.
    """

    def __init__(self, *thinkers: Thinker, first: float | None = None) -> None:
        self.name, self.thinker = thinkers[0].name, thinkers[0]
        self.thinkers, self._busy, self._lock = thinkers, set[int](), threading.Lock()
        self.first = FIRST if first is None else first
        self.wakes = 0.0  # on the monotonic clock
        self._in_a_row = 0
        self._failed: list[RejectedProposal] = []

    @property
    def rests(self) -> bool:
        return self._in_a_row > 0

    @property
    def awake(self) -> bool:
        return time.monotonic() >= self.wakes

    @property
    def ready(self) -> bool:
        """Whether it may be asked now: it does not rest, and one of its thinkers has no turn."""
        return self.awake and len(self._busy) < len(self.thinkers)

    def propose(self, briefing: Briefing) -> Proposal | None:
        with self._lock:
            idle = next((n for n in range(len(self.thinkers)) if n not in self._busy), None)
            if idle is None or not self.awake:
                return None
            self._busy.add(idle)
        try:
            proposal = self.thinkers[idle].propose(briefing)
        except NoProposal as failure:
            self.fail(failure)
            return None
        finally:
            with self._lock:
                self._busy.discard(idle)
        if proposal is None:  # the turn did not fail, so there is nothing to wait for
            self._in_a_row = 0
        return proposal

    def fail(self, failure: NoProposal) -> None:
        """Record a failed turn, and rest."""
        reason = f"{failure}; it is not asked again in this run" if failure.final else str(failure)
        self._failed.append(RejectedProposal(self.name, reason, usage=failure.usage))
        if failure.final:
            self._in_a_row, self.wakes = 0, math.inf
        else:
            self._rest(failure.rest)

    def tell(self, proposal: Proposal, refusal: str | None) -> None:
        if refusal is None:
            self._in_a_row = 0
        else:
            self._rest()

    def take_failed(self) -> list[RejectedProposal]:
        failed, self._failed = self._failed, []
        return failed

    def stop(self) -> None:
        for thinker in self.thinkers:
            thinker.stop()

    def _rest(self, least: float = 0.0) -> None:
        self._in_a_row += 1
        rest = min(self.first * 2 ** min(self._in_a_row - 1, 30), LONGEST)
        self.wakes = max(self.wakes, time.monotonic() + max(rest, min(least, 4 * LONGEST)))
