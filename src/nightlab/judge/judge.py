"""The verdict on one experiment: limits that hold under every rule, then the rule's own comparison.

A *keep* steers the search: it has to be cheap and may be wrong now and then. What is *claimed* to the user is decided
separately, from confidence intervals: see ``intervals``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from nightlab.core.config import allowed
from nightlab.core.text import counted
from nightlab.core.types import SEED, Measurement, Metric, Verdict, average, mean_of
from nightlab.judge.common_luck import of_pairs, without_common_luck
from nightlab.judge.noise import Noise, clamped
from nightlab.judge.scale import exp_of, logs, no_ratio
from nightlab.judge.words import worse

CRASHES = {"crashed": "crashed", "timed out": "timed out", "no metric": "crashed", "lost": "crashed"}
LESS_MEMORY = 0.95  # share of the champion's peak memory below which a program of the same length counts as simpler
SAME = 1e-9  # share of a value by which an answer that was only polished may differ
LEAST_MEMORY = 4.0  # MB that it has to save: the peaks of one small program differ by one or two


@dataclass(frozen=True, slots=True)
class Contestant:
    """What a rule knows about a genome: its measurements by seed, and its number of lines of code.

    ``information``: the bytes that these compress to, 0 if unknown.

    ``bar``: the champion's estimated value, corrected for selection bias; None for a candidate.
    ``first``: the first seed it gets in the search, after those in ``seeds``, which come in this order.
    ``warm``: it starts from an earlier answer, so that a tie says nothing of the program.
    """

    runs: Mapping[int, Measurement]
    lines: int
    bar: float | None = None
    first: int = SEED
    information: int = 0
    seeds: tuple[int, ...] = ()
    warm: bool = False

    @property
    def mean(self) -> Measurement:
        """The mean of the runs that yielded a metric (a champion may fail on a later seed), else of all runs."""
        return mean_of([run for run in self.runs.values() if run.measured] or list(self.runs.values()))

    def values(self) -> dict[int, float]:
        """The finite metric values, by seed."""
        found = {seed: run.metric for seed, run in self.runs.items() if run.measured}
        return {seed: value for seed, value in found.items() if value is not None and math.isfinite(value)}

    @property
    def stated_error(self) -> float:
        """The standard error of one run, as its runs state it (root mean square); 0 where they don't."""
        errors = [self.runs[seed].standard_error or 0.0 for seed in self.values()]
        return math.hypot(*errors) / math.sqrt(len(errors)) if errors else 0.0


@dataclass(frozen=True, slots=True)
class NeedsTrial:
    """The rule needs one more measurement before it can decide."""

    who: Literal["candidate", "champion"]
    seed: int
    why: str = ""


class Rule(Protocol):
    """Decides whether a candidate that yielded a metric within the limits replaces the champion."""

    @property
    def baseline_runs(self) -> int:
        """How many measurements of the baseline the first bar is the mean of."""
        ...

    @property
    def same_seeds(self) -> bool:
        """True when all genomes are measured on the same seeds and compared in pairs; False when each has its own."""
        ...

    def compare(
        self, metric: Metric, champion: Contestant, candidate: Contestant, noise: Noise
    ) -> Verdict | NeedsTrial:
        """The verdict, with the new bar if it is a keep; or the measurement that is missing."""
        ...

    def remeasured(self, bar: float, weight: int, value: float) -> float:
        """The champion's bar after one more unselected measurement; so far it is worth ``weight`` measurements."""
        ...


@dataclass(frozen=True, slots=True)
class Judge:
    """Turns measurements into a verdict. Pure: no I/O, no state."""

    metric: Metric
    limits: Mapping[str, str | float]
    rule: Rule

    def judge(self, champion: Contestant | None, candidate: Contestant, noise: Noise) -> Verdict | NeedsTrial:
        """The verdict on ``candidate``; without a champion it is the baseline, kept if it yielded a metric."""
        if refusal := self.refusal(champion, candidate):
            return refusal
        if champion is None:
            if len(candidate.runs) < self.rule.baseline_runs:
                return NeedsTrial("candidate", next_seed(candidate), "the first bar should not be one run's luck")
            if noise.scale == "ratio" and (fault := no_ratio(self.metric, candidate.values().values())):
                return Verdict("discard", "inconclusive", f'{fault}: say scale = "difference" under [metric]')
            return Verdict("keep", "baseline", bar=_bar_of(candidate, noise))
        if not candidate.runs:
            return NeedsTrial("candidate", next_seed(candidate))
        if candidate.warm and self._same_answer(champion, candidate):
            return Verdict("discard", "inconclusive", "as good as the answer that it started from")
        if noise.scale == "difference":
            return self._compare(champion, candidate, noise)
        if fault := no_ratio(self.metric, [*candidate.values().values(), champion.bar or 0.0]):
            return Verdict("discard", "inconclusive", fault)
        decision = self._compare(_on_logs(champion), _on_logs(candidate), noise)
        if isinstance(decision, Verdict) and decision.bar is not None:
            return replace(decision, bar=exp_of(decision.bar))
        return decision

    def remeasured(self, bar: float, weight: int, value: float, noise: Noise) -> float:
        """The champion's bar after one more unselected measurement; so far it is worth ``weight`` measurements."""
        if noise.scale == "difference":
            return self.rule.remeasured(bar, weight, value)
        if min(bar, value) <= 0 or not math.isfinite(value):
            return bar
        return exp_of(self.rule.remeasured(math.log(bar), weight, math.log(value)))

    def _compare(self, champion: Contestant, candidate: Contestant, noise: Noise) -> Verdict | NeedsTrial:
        """The rule's decision, on the scale of ``noise``, as far as what was measured allows a keep."""
        noise, measured = noise.at_least(max(champion.stated_error, candidate.stated_error)), candidate
        alike, spread = None, noise
        if not self.rule.same_seeds and (alike := without_common_luck(champion, candidate, noise)):
            candidate, noise = alike
            spread = of_pairs(spread)
        decision = self.rule.compare(self.metric, champion, candidate, noise)
        if not isinstance(decision, Verdict) or decision.status != "keep":
            return decision
        paired = self.rule.same_seeds or alike is not None
        if (loss := measured_loss(self.metric, champion, measured, spread, paired=paired)) > 0:
            return Verdict("discard", "regressed", f"{worse(-loss, noise)} than the champion's own measurements")
        if why := _doubt(candidate, noise):
            return NeedsTrial("candidate", next_seed(candidate), why)
        return decision

    def _same_answer(self, champion: Contestant, candidate: Contestant) -> bool:
        """Whether a candidate that started from an answer found nothing else than that, but for its last digits."""
        value, bar = candidate.mean.metric, champion.bar
        return value is not None and bar is not None and abs(value - bar) <= SAME * abs(bar)

    def refusal(self, champion: Contestant | None, candidate: Contestant) -> Verdict | None:
        """The verdict on a candidate that no rule may keep: it yielded no metric, or exceeds a limit. Else None."""
        for run in candidate.runs.values():
            if refusal := _unfit(run):
                return refusal
        if champion is None or not champion.runs or not candidate.runs:
            return None
        return self._over_limit(champion.mean, candidate.mean)

    def _over_limit(self, champion: Measurement, candidate: Measurement) -> Verdict | None:
        before, now = champion.quantities, candidate.quantities
        for name, limit in self.limits.items():
            if math.isnan(now.get(name, math.nan)):
                return Verdict("discard", "over limit", f"{name} has a limit but was not measured")
            most = allowed(limit, before.get(name, now[name]), name)
            if now[name] > most:
                return Verdict("discard", "over limit", f"{name} {now[name]:g} exceeds the limit of {most:g}")
        return None


def measured_loss(metric: Metric, champion: Contestant, candidate: Contestant, noise: Noise, *, paired: bool) -> float:
    """By how much the candidate measured worse than the champion, if by more than their standard errors; else 0.

    No candidate is kept with such a loss, whatever the rule: a bar that is far from what the champion measured, because
    its noise was overestimated, would keep losses. ``paired``: they are compared on the seeds that both ran on.
    """
    before, after = champion.values(), candidate.values()
    common = before.keys() & after.keys() if paired else set()
    if common:
        before, after = ({seed: values[seed] for seed in common} for values in (before, after))
    if not before or not after:
        return 0.0
    one, other = list(before.values()), list(after.values())
    loss = -clamped(metric.gain(average(one), average(other)))
    error = noise.near([average(one), average(other)]) * math.sqrt(1 / len(one) + 1 / len(other))
    return loss if loss > error else 0.0


def _doubt(candidate: Contestant, noise: Noise) -> str:
    """Why a win is measured once more before it is kept, whatever the rule; empty if it need not be."""
    if len(candidate.runs) > 1:
        return ""
    if noise.sigma == 0 and noise.replicates and not noise.exact:
        return "every seed gave the same number so far: does the seed matter?"
    far = noise.is_far(average(list(candidate.values().values())))
    return "far from what was measured before: its noise may differ too" if far else ""


def _bar_of(baseline: Contestant, noise: Noise) -> float | None:
    """The first bar: the mean of the baseline's runs, on their scale."""
    if noise.scale == "difference":
        return baseline.mean.metric
    return exp_of(average([math.log(value) for value in baseline.values().values()]))


def _on_logs(contestant: Contestant) -> Contestant:
    bar = contestant.bar
    return replace(contestant, runs=logs(contestant.runs), bar=None if bar is None else math.log(bar))


def _unfit(measurement: Measurement) -> Verdict | None:
    """The verdict on a trial that yielded no number to compare; None if it yielded one."""
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
    """The first seed of the search that a genome has not been measured on."""
    seeds = itertools.chain(contestant.seeds, itertools.count(contestant.first))
    return next(seed for seed in seeds if seed not in contestant.runs)


def simpler(champion: Contestant, candidate: Contestant) -> str:
    """How the candidate is simpler than the champion (fewer lines of code, then less memory); empty if it is not.

    Never with more information: several lines written as one, or code as data, are no simpler. Nor one that is as good
    because it starts from an earlier answer.
    """
    if candidate.warm or 0 < champion.information < candidate.information:
        return ""
    if fewer := champion.lines - candidate.lines:
        return f"with {counted(fewer, 'line')} fewer" if fewer > 0 else ""
    before, now = champion.mean.peak_memory_mb, candidate.mean.peak_memory_mb
    return (
        f"with {before - now:,.0f} MB less memory" if 0 < now < min(LESS_MEMORY * before, before - LEAST_MEMORY) else ""
    )
