"""A keep rule with a margin."""

from __future__ import annotations

from pydantic import BaseModel, Field

from nightlab.core.types import Metric, Verdict
from nightlab.judge import Contestant, NeedsTrial, Noise


class Margin:
    """Keeps a candidate that is better by more than ``least``, in the metric's unit."""

    class Config(BaseModel):
        """Its keys, in ``[judge] options`` of ``lab.toml``."""

        least: float = Field(default=0.0, ge=0)

    baseline_runs = 1
    same_seeds = True

    def __init__(self, config: Config, context: object) -> None:
        self.least = config.least

    def compare(
        self, metric: Metric, champion: Contestant, candidate: Contestant, noise: Noise
    ) -> Verdict | NeedsTrial:
        values = list(candidate.values().values())
        value = sum(values) / len(values)
        assert champion.bar is not None
        gain = metric.gain(champion.bar, value)
        if gain > self.least:
            return Verdict("keep", "improved", f"{gain:.6g} better", value)
        return Verdict("discard", "regressed" if gain < 0 else "inconclusive", f"{gain:.6g} of {self.least:g} needed")

    def remeasured(self, bar: float, weight: int, value: float) -> float:
        """The mean of what the champion measured."""
        return bar + (value - bar) / (weight + 1)
