"""The expected gain of further experiments, from the recent ones: whether it pays to continue."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEVEL = 0.95  # confidence of the upper bound


@dataclass(frozen=True, slots=True)
class GainRate:
    """A gain per unit of cost: the recent rate, and an upper bound on it."""

    gain: float
    most: float


def gain_rate(gains: Sequence[float], cost: float, another: float, level: float = LEVEL) -> GainRate:
    """The rate of gain of experiments with these ``gains`` (0: not kept), whose total cost is ``cost``.

    ``another``: the smallest gain that one more keep would bring; the bound rests on it where nothing was kept.
    The bound is one-sided and conservative, for a weighted Poisson process (Fay and Feuer 1997, Statistics in
    Medicine 16:791). It assumes that the next experiments are like the given ones.
    """
    from scipy.special import chdtri

    found = [gain for gain in gains if gain > 0]
    largest = max([another, *found])
    if not (cost > 0 and 0 < largest < math.inf):
        return GainRate(0.0, math.inf)
    # Scaled by the largest gain, because the squares of huge gains would overflow.
    total, squares = math.fsum(gain / largest for gain in found), math.fsum((gain / largest) ** 2 for gain in found)
    spread = (squares + 1) / (total + 1)
    most = spread / 2 * float(chdtri(2 * (total + 1) / spread, 1 - level))
    return GainRate(largest * total / cost, largest * most / cost)
