"""The verdict on one experiment: what must hold under every rule, then the rule's own comparison.

Two questions are kept apart everywhere. *Keep* steers the search: it may be wrong now and then, and must be
cheap. What is *claimed* to a human is another matter, see ``interval``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from nightlab.core.config import allowed
from nightlab.core.types import SEED, Measurement, Metric, Verdict, mean_of
from nightlab.judge.noise import Noise

CRASHES = {"crashed": "crashed", "timed out": "timed out", "no metric": "crashed", "lost": "crashed"}
LESS_MEMORY = 0.95  # of the champion's: below this a program of the same length is simpler


@dataclass(frozen=True, slots=True)
class Contestant:
    """What a rule may know of a genome: what it measured with each seed, and how many lines of code it has.

    A champion has a ``bar`` as well: its value as it is believed to be, without the luck that made it champion.
    ``first`` is the first seed that it meets in the search.
    """

    runs: Mapping[int, Measurement]
    lines: int
    bar: float | None = None
    first: int = SEED

    @property
    def mean(self) -> Measurement:
        """Of the runs that measured something: a champion may fail with a seed that it meets later."""
        return mean_of([run for run in self.runs.values() if run.measured] or list(self.runs.values()))

    def values(self) -> dict[int, float]:
        found = {seed: run.metric for seed, run in self.runs.items() if run.measured}
        return {seed: value for seed, value in found.items() if value is not None and math.isfinite(value)}


@dataclass(frozen=True, slots=True)
class NeedsTrial:
    """The rule wants one more measurement before it says anything."""

    who: Literal["candidate", "champion"]
    seed: int
    why: str = ""


class Rule(Protocol):
    """Whether a candidate that was measured, and is within its limits, takes the champion's place."""

    @property
    def baseline_runs(self) -> int:
        """How many measurements the first bar is made of."""
        ...

    @property
    def same_seeds(self) -> bool:
        """Whether all genomes meet the same seeds, to be compared one by one, or each its own."""
        ...

    def compare(
        self, metric: Metric, champion: Contestant, candidate: Contestant, noise: Noise
    ) -> Verdict | NeedsTrial:
        """The verdict, with the new bar if it is a keep; or which measurement is missing."""
        ...

    def remeasured(self, bar: float, weight: int, value: float) -> float:
        """The champion's bar, so far worth ``weight`` measurements, after one more that nothing selected."""
        ...


@dataclass(frozen=True, slots=True)
class Judge:
    """Measurements in, verdict out. Pure."""

    metric: Metric
    limits: Mapping[str, str | float]
    rule: Rule

    def judge(self, champion: Contestant | None, candidate: Contestant, noise: Noise) -> Verdict | NeedsTrial:
        """The verdict on ``candidate``; without a champion it is the baseline, kept if it was measured."""
        if refusal := self.refusal(champion, candidate):
            return refusal
        if champion is None:
            if len(candidate.runs) < self.rule.baseline_runs:
                return NeedsTrial("candidate", next_seed(candidate), "the first bar should not be one run's luck")
            return Verdict("keep", "baseline", bar=candidate.mean.metric)
        if not candidate.runs:
            return NeedsTrial("candidate", candidate.first)
        return self.rule.compare(self.metric, champion, candidate, noise)

    def refusal(self, champion: Contestant | None, candidate: Contestant) -> Verdict | None:
        """The verdict on a candidate that no rule may keep: it measured nothing, or is over a limit."""
        for run in candidate.runs.values():
            if refusal := _unfit(run):
                return refusal
        if champion is None or not champion.runs or not candidate.runs:
            return None
        return self._over_limit(champion.mean, candidate.mean)

    def _over_limit(self, champion: Measurement, candidate: Measurement) -> Verdict | None:
        before, now = _quantities(champion), _quantities(candidate)
        for name, limit in self.limits.items():
            if math.isnan(now.get(name, math.nan)):
                return Verdict("discard", "over limit", f"{name} was not measured, and it has a limit")
            most = allowed(limit, before.get(name, now[name]), name)
            if now[name] > most:
                return Verdict("discard", "over limit", f"{name} {now[name]:g}, at most {most:g} is allowed")
        return None


def _unfit(measurement: Measurement) -> Verdict | None:
    """The verdict on a trial that yielded no number to compare."""
    outcome, value = measurement.outcome, measurement.metric
    if outcome in CRASHES:
        return Verdict("crash", CRASHES[outcome], measurement.detail)
    if outcome == "hopeless":
        return Verdict("discard", "stopped early", measurement.detail)
    if outcome != "measured":
        return Verdict("discard", outcome, measurement.detail)
    if value is None or not math.isfinite(value):
        return Verdict("crash", "crashed", f"the metric is {value}")
    return None


def next_seed(contestant: Contestant) -> int:
    """The first seed of the search that a genome has not met."""
    return next(seed for seed in itertools.count(contestant.first) if seed not in contestant.runs)


def simpler(champion: Contestant, candidate: Contestant) -> str:
    """In which way the candidate is the simpler program: fewer lines of code, then less memory; or nothing."""
    if fewer := champion.lines - candidate.lines:
        return f"with {fewer} lines fewer" if fewer > 0 else ""
    before, now = champion.mean.peak_memory_mb, candidate.mean.peak_memory_mb
    return f"with {before - now:,.0f} MB less memory" if 0 < now < LESS_MEMORY * before else ""


def _quantities(measurement: Measurement) -> dict[str, float]:
    measured = ("peak_memory_mb", "peak_gpu_memory_mb", "startup_seconds", "evaluation_seconds", "wall_seconds")
    return {**{name: getattr(measurement, name) for name in measured}, **measurement.secondary}
