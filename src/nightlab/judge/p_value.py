"""The chance of a gain like the one measured where there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nightlab.core.types import NightlabError, average


def p_of_gain(gains: Sequence[float], margin: float = 0.0, looks: int = 1) -> float:
    """The one-sided p-value of Student's t test that the mean of paired gains is above ``margin``.

    ``gains`` are in the metric's unit, one for each seed. Each look on the same question after the first doubles it, so
    that all looks together are wrong no more often than it says. Gains that are all alike have no noise: 0 or 1.
    Raises NightlabError with fewer than two.
    """
    n = len(gains)
    if n < 2:
        raise NightlabError(f"a p-value needs at least two pairs of measurements, got {n}", "measure on more seeds")
    mean = average(gains)
    spread = math.hypot(*(gain - mean for gain in gains)) / math.sqrt(n - 1)
    if spread == 0:
        return float(mean <= margin)
    from scipy.special import stdtr

    chance = float(stdtr(n - 1, -(mean - margin) * math.sqrt(n) / spread))
    return min(1.0, chance * 2.0 ** (looks - 1))
