"""Keep rules behind one small protocol."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from nightlab.lab import allowed
from nightlab.records import Measurement, Metric, Verdict

CRASHES = {"crashed": "crashed", "timed out": "timed out", "no metric": "crashed", "lost": "crashed"}


@dataclass(frozen=True, slots=True)
class Contestant:
    """What a rule may know of a genome: its measurement and how long the program is (lines)."""

    measurement: Measurement
    lines: int


class Rule(Protocol):
    """Decides whether a candidate takes the champion's place."""

    def judge(self, champion: Contestant | None, candidate: Contestant) -> Verdict:
        """The verdict on ``candidate``; without a champion it is the baseline, kept if it was measured."""
        ...


@dataclass(frozen=True, slots=True)
class Greedy:
    """Keep whatever measured better, as karpathy/autoresearch does; a tie goes to the shorter program.

    It takes luck for progress where effects are as small as the noise of a seed.
    """

    metric: Metric
    limits: Mapping[str, str | float]

    def judge(self, champion: Contestant | None, candidate: Contestant) -> Verdict:
        if refusal := _unfit(candidate.measurement):
            return refusal
        if champion is None:
            return Verdict("keep", "baseline")
        if refusal := self._over_limit(champion.measurement, candidate.measurement):
            return refusal
        now, before = candidate.measurement.metric, champion.measurement.metric
        assert now is not None and before is not None
        if self.metric.better(now, before):
            return Verdict("keep", "improved", f"{self.metric.gain(before, now):.6f} better")
        if now == before:
            fewer = champion.lines - candidate.lines
            if fewer > 0:
                return Verdict("keep", "simpler", f"equal, with {fewer} lines fewer")
            return Verdict("discard", "inconclusive", "equal, and no simpler")
        return Verdict("discard", "regressed", f"{self.metric.gain(now, before):.6f} worse")

    def _over_limit(self, champion: Measurement, candidate: Measurement) -> Verdict | None:
        before, now = _quantities(champion), _quantities(candidate)
        for name, limit in self.limits.items():
            if name not in now:
                return Verdict("discard", "over limit", f"{name} was not measured, and it has a limit")
            most = allowed(limit, before.get(name, now[name]), name)
            if now[name] > most:
                return Verdict("discard", "over limit", f"{name} {now[name]:g}, at most {most:g} is allowed")
        return None


def make_rule(name: str, metric: Metric, limits: Mapping[str, str | float]) -> Rule:
    """The rule that a contract names."""
    return {"greedy": Greedy}[name](metric, limits)


def _unfit(measurement: Measurement) -> Verdict | None:
    """The verdict on a trial that yielded no number to compare."""
    outcome = measurement.outcome
    if outcome in CRASHES:
        return Verdict("crash", CRASHES[outcome], measurement.detail)
    if outcome != "measured":
        return Verdict("discard", outcome, measurement.detail)
    if measurement.metric is None or not math.isfinite(measurement.metric):
        return Verdict("crash", "crashed", f"the metric is {measurement.metric}")
    return None


def _quantities(measurement: Measurement) -> dict[str, float]:
    measured = ("peak_memory_mb", "peak_gpu_memory_mb", "startup_seconds", "evaluation_seconds", "wall_seconds")
    return {**{name: getattr(measurement, name) for name in measured}, **measurement.secondary}
