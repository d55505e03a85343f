"""Asynchronous successive halving as a cascade of two: a short pilot, and the whole trial for the best of them.

After ASHA (Li et al., MLSys 2020, arXiv:1810.05934), in the form that decides once, on arrival, as in Ray Tune and
Optuna: whoever is among the best ``1 / eta`` of the pilots so far is promoted. Nobody waits for a rung to fill, and a
verdict is final, where in the paper one may be promoted later.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, field

from nightlab.core.types import Metric


@dataclass(frozen=True, slots=True)
class Cascade:
    """Who gets a whole trial. ``eta``: one of so many, at least."""

    metric: Metric
    eta: float

    def refusal(self, value: float, rung: Rung, champions: float | None) -> str:
        """Why a pilot of this ``value``, one of the ``rung``, gets no whole trial; nothing if it does.

        ``champions`` is what the champion's own pilot measured, if it did.
        """
        if champions is not None and self.metric.better(value, champions):
            return ""
        better = rung.better(self.metric, value)
        most = max(int(len(rung.values) / self.eta), 1)
        if better < most:
            return ""
        return f"its pilot measured {value:.6f}, worse than {better} of {len(rung.values)}: room is for the best {most}"


@dataclass(slots=True)
class Rung:
    """The values of the pilots so far, in order."""

    values: list[float] = field(default_factory=list)

    def add(self, value: float) -> None:
        insort(self.values, value)

    def better(self, metric: Metric, value: float) -> int:
        """How many were strictly better."""
        if metric.goal == "minimise":
            return bisect_left(self.values, value)
        return len(self.values) - bisect_right(self.values, value)
