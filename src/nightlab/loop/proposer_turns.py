"""The turns that proposers have at the same time, and what each may spend of what the stop rules leave."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nightlab.core.config import StopRules
from nightlab.core.types import ProposerUsage
from nightlab.loop.proposal_task import ProposalPace, ProposalTask
from nightlab.proposers import Briefing
from nightlab.proposers.mixture import Mixture
from nightlab.sandbox.traffic import TrafficCaps

MOMENT = 0.05  # seconds that a free slot waits for a proposal
FAREWELL = 10.0  # seconds that a turn has to end


class ProposerTurns:
    """As many turns as the trials use up candidates, and a quick one where a slot has nothing to do but wait.

    ``brief``: what the next turn is told, from what it may spend. ``dry``: the proposers had nothing, as things stood.
    """

    def __init__(self, proposers: Mixture, slots: int, brief: Callable[[TrafficCaps], Briefing]) -> None:
        self.proposers, self.brief = proposers, brief
        self.spent = ProposerUsage()  # by turns that have ended; a resumed session adds what was before
        self.stop_rules = StopRules()  # what is left of them caps the next turn
        self.halted = False
        self._main: ProposalTask | None = None
        self._more: list[ProposalTask] = []  # of slow proposers, while the main turn is a slow one's too
        self._quick: ProposalTask | None = None  # of one that is asked while a slow one thinks
        self._pace = ProposalPace(slots)
        self.dry = self._quick_dry = False
        self._outdated = False  # a trial has ended since the main turn began

    @property
    def under_way(self) -> bool:
        """Whether a proposer thinks, the quick one that fills a wait aside."""
        return self._main is not None or bool(self._more)

    @property
    def waiting(self) -> bool:
        """Whether a proposer thinks, or rests and will be asked again."""
        return self.under_way or self.proposers.wakes < math.inf

    @property
    def exhausted(self) -> bool:
        """Whether the proposers had nothing, and only a trial's result could change that."""
        return self.dry and not self._more and self.proposers.wakes == math.inf

    def on_result(self, seconds: float) -> None:
        """A trial that took ``seconds`` has ended: proposers that had nothing may have something now."""
        self._pace.measured(seconds)
        self.dry = self._quick_dry = False
        self._outdated = self._main is not None

    def spend(self, usage: Mapping[str, Any]) -> None:
        """A turn that has ended took ``usage``."""
        self.spent = self.spent.plus(usage)

    def ended(self) -> list[ProposalTask]:
        """The turns beside the main one that have ended since the last call."""
        if time.monotonic() >= self.proposers.wakes:
            self.dry = False  # a proposer has rested
        ended = self._end_quick()
        for task in [task for task in self._more if not task.is_alive()]:
            self._more.remove(task)
            self.dry = False  # its proposer may be asked again
            ended.append(task)
        return [self._timed(task) for task in ended]

    def main(self, wait: float) -> ProposalTask | None:
        """The main turn if it ends within ``wait`` seconds. Begins one where none is under way, and more beside it."""
        if self.dry or self.halted:
            return None
        if self._main is None:
            if self._quick:
                return None
            self._main = self._begin(self.proposers.propose)
        self._main.join(wait)
        if self._main.is_alive():
            if self.proposers.slow and self._room_for_another():
                self._more.append(self._begin(self.proposers.think))
            return None
        task, self._main, self._quick_dry = self._main, None, False
        task.waits(slot=False)
        self.dry = task.proposal is None and not self.proposers.overtaken and not self._outdated
        self._outdated = False
        return self._timed(task)

    def rest(self, seconds: float) -> None:
        """Wait until the main turn has ended, at most ``seconds``; for that long where none is under way."""
        if self._main and self._main.is_alive():
            self._main.join(seconds)
        else:
            time.sleep(seconds)

    def slot_waits(self, slot: bool) -> list[ProposalTask]:
        """A slot has nothing to do but wait for the main turn, or no longer.

        If that turn may take minutes, a proposer that takes none has one: returned when it has ended.
        """
        if self._main is None:
            return []
        self._main.waits(slot)
        if not slot:
            return []
        if self._quick is None and self.proposers.slow and not (self._quick_dry or self.halted):
            self._quick = self._begin(self.proposers.quick)
        return self._end_quick(wait=MOMENT)

    def halt(self) -> None:
        """End the turns under way, and begin no other."""
        if not self.halted:
            self.halted = True
            self.proposers.stop()

    def close(self) -> list[ProposalTask]:
        """Halt, and wait for the turns under way, which are returned."""
        self.halt()
        until = time.monotonic() + FAREWELL
        tasks = [task for task in (self._main, self._quick, *self._more) if task]
        for task in tasks:
            task.join(max(until - time.monotonic(), 0.0))
        self._main, self._quick, self._more = None, None, []
        return tasks

    def _begin(self, ask: Callable[[Briefing], Any]) -> ProposalTask:
        return ProposalTask(ask, self.brief(self._left()))

    def _end_quick(self, wait: float = 0.0) -> list[ProposalTask]:
        if self._quick is None:
            return []
        self._quick.join(wait)
        if self._quick.is_alive():
            return []
        quick, self._quick = self._quick, None
        self._quick_dry = quick.proposal is None
        return [quick]

    def _timed(self, task: ProposalTask) -> ProposalTask:
        if task.proposal and self.proposers.is_slow(task.proposal.proposer):
            self._pace.proposed(task.seconds)
        return task

    def _room_for_another(self) -> bool:
        """Whether trials use up more candidates than the turns under way make, and the stop rules leave enough for it.

        What the turns under way will have used is taken to be the mean of those before.
        """
        under_way = 1 + len(self._more)
        stop, spent = self.stop_rules, self.spent
        caps = ((stop.requests, spent.requests), (stop.tokens, spent.tokens), (stop.money, spent.money))
        part = 1 + under_way / max(spent.turns, 1)
        enough = all(most is None or used * part < most for most, used in caps)
        return enough and under_way < self._pace.turns and self.proposers.another_ready

    def _left(self) -> TrafficCaps:
        """What the next turn may spend of what the stop rules leave: turns at the same time share it."""
        stop, spent = self.stop_rules, self.spent
        given = [task.briefing.left for task in (self._main, *self._more) if task and task.briefing.left]
        lanes = max(min(self._pace.turns, self.proposers.lanes) - len(given), 1)

        def share(most: float | None, used: float, others: Iterable[float | None]) -> float | None:
            return None if most is None else max(most - used - sum(other or 0 for other in others), 0) / lanes

        requests = share(stop.requests, spent.requests, (each.requests for each in given))
        tokens = share(stop.tokens, spent.tokens, (each.tokens for each in given))
        return TrafficCaps(
            None if requests is None else math.ceil(requests),
            None if tokens is None else math.ceil(tokens),
            share(stop.money, spent.money, (each.money for each in given)),
        )
