"""Asynchronous successive halving with two rungs: a short pilot, then a full trial for the best pilots.

After ASHA (Li et al., MLSys 2020, arXiv:1810.05934), in the variant that decides once, on arrival, as in Ray Tune and
Optuna: a candidate among the best ``1 / eta`` of the pilots so far is promoted. There is no waiting for a rung to fill,
and a decision is final, whereas in the paper a candidate may be promoted later.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, field

from nightlab.core.types import Metric


@dataclass(frozen=True, slots=True)
class Cascade:
    """Decides which candidates get a full trial: at least one in ``eta`` of the pilots."""

    metric: Metric
    eta: float

    def refusal(self, value: float, rung: Rung, champions: float | None) -> str:
        """Why a pilot with this ``value``, already in the ``rung``, gets no full trial; empty if it does.

        ``champions``: the value of the champion's pilot, if there is one.
        """
        if champions is not None and self.metric.better(value, champions):
            return ""
        better = rung.better(self.metric, value)
        most = max(int(len(rung.values) / self.eta), 1)
        if better < most:
            return ""
        return f"its pilot measured {value:.6f}, worse than {better} of {len(rung.values)}; the best {most} continue"


@dataclass(slots=True)
class Rung:
    """The values of the pilots so far, sorted."""

    values: list[float] = field(default_factory=list)

    def add(self, value: float) -> None:
        insort(self.values, value)

    def better(self, metric: Metric, value: float) -> int:
        """How many values are strictly better."""
        if metric.goal == "minimise":
            return bisect_left(self.values, value)
        return len(self.values) - bisect_right(self.values, value)
