"""What experiments gained and what they cost: for sharing out turns, stop rules and reports."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from nightlab.core.types import BASELINE, Experiment, Metric, ProposerStats
from nightlab.proposers.shares import cost_of
from nightlab.storage.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Credit:
    """One experiment. ``gain``: of its bar over that of the champion before it, so without their luck; 0 if not kept.

    ``trials``: seconds of a slot. ``cost`` has the proposer's turn in it.
    """

    experiment: Experiment
    gain: float
    trials: float

    @property
    def cost(self) -> float:
        return cost_of(self.experiment.candidate.usage, self.trials)


def credit_of(ledger: Ledger, metric: Metric, experiment: Experiment, before: Experiment | None) -> Credit:
    """What one experiment earned, when ``before`` was champion."""
    gain = 0.0
    if experiment.kept and before and before.bar is not None and experiment.bar is not None:
        gain = metric.gain(before.bar, experiment.bar)
    trials = (m for t, m in ledger.trials(experiment.number) if m and t.purpose in ("search", "pilot"))
    return Credit(experiment, gain, sum(measured.wall_seconds for measured in trials))


def iter_credits(ledger: Ledger, metric: Metric, last: int = -1) -> Iterator[Credit]:
    """What the judged experiments earned, or the ``last`` ones, in the order of their verdicts; not the baseline."""
    before: Experiment | None = None
    for n, experiment in enumerate(ledger.judged(last)):
        before = before if n else ledger.champion(before=experiment.judged_at)
        if experiment.number:
            yield credit_of(ledger, metric, experiment, before)
        before = experiment if experiment.kept else before


def by_proposer(ledger: Ledger, metric: Metric) -> list[ProposerStats]:
    """What each proposer had, gained and cost, failed turns included; who had most experiments comes first."""
    gained, trials = defaultdict[str, float](float), defaultdict[str, float](float)
    for one in iter_credits(ledger, metric):
        name = one.experiment.candidate.proposer
        gained[name] += one.gain
        trials[name] += one.trials
    shares = {name: share for name, share in ledger.shares().items() if name != BASELINE}
    return [
        ProposerStats(
            name, share.tried, share.kept, share.failed, gained[name], trials[name],
            share.spent.waited, share.spent.tokens, share.spent.money,
        )
        for name, share in sorted(shares.items(), key=lambda one: (-one[1].tried, one[0]))
    ]  # fmt: skip
