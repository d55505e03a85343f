"""What experiments gained and what they cost: for whoever shares turns out, ends a session, or looks back at one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nightlab.ledger import Ledger
from nightlab.propose.earnings import cost_of
from nightlab.records import Experiment, Metric, Spent
from nightlab.watch.page import Part


@dataclass(frozen=True, slots=True)
class Earned:
    """One experiment. ``gain``: of its bar over that of the champion before it, so without their luck; 0 if not kept.

    ``trials``: seconds of a slot. ``cost`` has the proposer's turn in it.
    """

    experiment: Experiment
    gain: float
    trials: float

    @property
    def cost(self) -> float:
        return cost_of(self.experiment.candidate.usage, self.trials)


def earned_by(ledger: Ledger, metric: Metric, experiment: Experiment, before: Experiment | None) -> Earned:
    """What one experiment earned, when ``before`` was champion."""
    gain = 0.0
    if experiment.kept and before and before.bar is not None and experiment.bar is not None:
        gain = metric.gain(before.bar, experiment.bar)
    trials = (m for t, m in ledger.trials(experiment.number) if m and t.purpose in ("search", "pilot"))
    return Earned(experiment, gain, sum(measured.wall_seconds for measured in trials))


def earned(ledger: Ledger, metric: Metric, last: int = -1) -> Iterator[Earned]:
    """What the judged experiments earned, or the ``last`` ones, in the order of their verdicts; not the baseline."""
    before: Experiment | None = None
    for n, experiment in enumerate(ledger.judged(last)):
        before = before if n else ledger.champion(before=experiment.judged_at)
        if experiment.number:
            yield earned_by(ledger, metric, experiment, before)
        before = experiment if experiment.kept else before


def by_proposer(ledger: Ledger, metric: Metric) -> list[Part]:
    """What each proposer had, gained and cost, failed turns included; who had most experiments comes first."""
    tried, kept, failed = Counter[str](), Counter[str](), Counter[str]()
    gained, trials, waited = (defaultdict[str, float](float) for _ in range(3))
    spent = defaultdict[str, Spent](Spent)

    def took(name: str, usage: Mapping[str, Any]) -> None:
        waited[name] += usage.get("waited") or 0.0
        spent[name] = spent[name].plus(usage)

    for one in earned(ledger, metric):
        name = one.experiment.candidate.proposer
        tried[name] += 1
        kept[name] += one.experiment.kept
        gained[name] += one.gain
        trials[name] += one.trials
        took(name, one.experiment.candidate.usage)
    for note in ledger.notes("refused"):
        failed[note["proposer"]] += 1
        took(note["proposer"], note.get("usage", {}))
    return [
        Part(n, tried[n], kept[n], failed[n], gained[n], trials[n], waited[n], spent[n].tokens, spent[n].money)
        for n in [*(name for name, _ in tried.most_common()), *sorted(failed.keys() - tried.keys())]
    ]
