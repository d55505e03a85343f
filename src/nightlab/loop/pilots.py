"""Pilots: a short trial first, and a whole one for the candidates that do best in it.

What they measured is read from the ledger, so a session that was killed goes on where it was: a candidate of which a
whole trial was started has been promoted, whatever came after it.
"""

from __future__ import annotations

import math
from dataclasses import replace

from nightlab.core.types import Budget, Experiment, Measurement, TrialRequest, Verdict
from nightlab.judge import Contestant
from nightlab.loop.scheduler import Scheduler
from nightlab.proposers.selection import Cascade, Rung
from nightlab.session.replicates import PILOT_SEED, SUBMITTERS, runs


class Pilots:
    """The pilots of one session; its contract has a ``search.pilot``."""

    def __init__(self, scheduler: Scheduler, share: float, eta: float) -> None:
        self.scheduler, self.session, self.ledger = scheduler, scheduler.session, scheduler.ledger
        usual = self.session.budget.record()
        amount = usual.amount * share
        self.budget = Budget(usual.clock, max(round(amount), 1) if usual.clock == "work" else amount)
        self.cascade = Cascade(self.session.metric, eta)
        self.rung, self.known = Rung(), set[int]()
        self.since = -1  # trials that ran before the machine changed, whose pilots are no measure

    def judge(self, experiment: Experiment, champion: Experiment) -> TrialRequest | tuple[Contestant, Verdict] | None:
        """The pilot to run first, the verdict on a candidate that gets no more than that, or None for a whole trial."""
        if experiment.candidate.proposer in SUBMITTERS or self.ledger.trials(experiment.number, "search"):
            return None
        mine, other = self._run(experiment), self._run(champion)
        if not (mine and other):
            number = experiment.number if mine is None else champion.number
            return TrialRequest(number, "pilot", PILOT_SEED, budget=self.budget)
        judged = Contestant({PILOT_SEED: mine}, experiment.candidate.lines)
        if refusal := self.session.judge.refusal(None, judged):
            return judged, refusal
        assert mine.metric is not None
        why = self.cascade.refusal(mine.metric, self._rung(experiment.number, mine.metric), other.metric)
        if not why:
            return None
        # The number is none of a whole trial: it must not be compared with one.
        measured = replace(mine, outcome="not promoted", metric=None, detail=why)
        return Contestant({PILOT_SEED: measured}, judged.lines), Verdict("discard", "not promoted", why)

    def _run(self, experiment: Experiment) -> Measurement | None:
        return runs(self.ledger.trials(experiment.number, "pilot", self.scheduler.since), "pilot").get(PILOT_SEED)

    def _rung(self, number: int, value: float) -> Rung:
        """The pilots so far, with this one; read from the ledger once, and again when the machine has changed."""
        if self.since != self.scheduler.since:
            self.since, self.rung, self.known = self.scheduler.since, Rung(), set()
            for trial, measured in self.ledger.trials(purpose="pilot", since=self.since):
                if measured and measured.measured and not measured.disturbed:
                    self._add(trial.experiment, measured.metric)
        self._add(number, value)
        return self.rung

    def _add(self, number: int, value: float | None) -> None:
        if value is not None and math.isfinite(value) and number not in self.known:
            self.known.add(number)
            self.rung.add(value)
