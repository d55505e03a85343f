"""Back-off: a proposer pauses after turns that brought nothing, in proportion to what a turn costs.

So an outage costs neither time nor money, and a quick script that repeats itself holds up nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any, Protocol

from nightlab.proposers.proposer import Briefing, NoProposal, Proposal, RejectedProposal

LEAST, FIRST, LONGEST = 0.05, 10.0, 900.0  # seconds: the shortest pause, the longest first one, and the longest


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
    """Asks a thinker, and pauses it after a turn that brought nothing.

    The pause is as long as the turn took, 10 s at most, or 10 s if the turn was paid for. It doubles with each further
    failure in a row, or refusal of a proposal that was paid for: a duplicate that cost nothing is no outage.
    ``gone``: why it is not asked again in this run, if so. Several ``thinkers`` of one name have their turns at the
    same time, each one turn at once.
    """

    def __init__(self, *thinkers: Thinker) -> None:
        self.name, self.thinker = thinkers[0].name, thinkers[0]
        self.thinkers, self._busy, self._lock = thinkers, set[int](), threading.Lock()
        self.wakes = 0.0  # on the monotonic clock
        self.gone = ""
        self._in_a_row = 0
        self._took = 0.0  # seconds of the last turn
        self._failed: list[RejectedProposal] = []

    @property
    def rests(self) -> bool:
        return self._in_a_row > 0 and not self.gone

    @property
    def awake(self) -> bool:
        return not self.gone and time.monotonic() >= self.wakes

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
        begun = time.monotonic()
        try:
            proposal = self.thinkers[idle].propose(briefing)
        except NoProposal as failure:
            self._took = time.monotonic() - begun
            self.fail(failure)
            return None
        finally:
            with self._lock:
                self._busy.discard(idle)
        self._took = time.monotonic() - begun
        if proposal is None:  # the turn did not fail, so there is nothing to wait for
            self._in_a_row = 0
        return proposal

    def fail(self, failure: NoProposal) -> None:
        """Record a failed turn, and rest; after a final one, such as a wrong key, it is not asked again in this run."""
        why = str(failure)
        if failure.final:
            self.gone, why = why, f"{why}; it is not asked again in this run"
        self._failed.append(RejectedProposal(self.name, why, usage=failure.usage))
        self._in_a_row += 1
        self._rest(failure.usage, failure.rest)

    def tell(self, proposal: Proposal, refusal: str | None) -> None:
        if refusal is None:
            self._in_a_row = 0
        else:
            self._in_a_row = self._in_a_row + 1 if _paid(proposal.usage) else 1
            self._rest(proposal.usage)

    def take_failed(self) -> list[RejectedProposal]:
        failed, self._failed = self._failed, []
        return failed

    def stop(self) -> None:
        for thinker in self.thinkers:
            thinker.stop()

    def _rest(self, usage: Mapping[str, Any], least: float = 0.0) -> None:
        first = FIRST if _paid(usage) else min(FIRST, max(self._took, LEAST))
        rest = min(first * 2 ** min(self._in_a_row - 1, 30), LONGEST)
        self.wakes = max(self.wakes, time.monotonic() + max(rest, min(least, 4 * LONGEST)))


def _paid(usage: Mapping[str, Any]) -> bool:
    """Whether a turn used money, or tokens, which mostly cost some."""
    return any(usage.get(name) for name in ("cost_usd", "input_tokens", "output_tokens"))
