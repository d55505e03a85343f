"""What going on would gain, if the next experiments are like the last: whether it still pays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEVEL = 0.95  # of the bound: how seldom what is really to be had lies above it


@dataclass(frozen=True, slots=True)
class Prospect:
    """A gain per unit of cost: what it was lately, and at most, as far as so few keeps can tell."""

    gain: float
    most: float


def prospect(gains: Sequence[float], cost: float, another: float, level: float = LEVEL) -> Prospect:
    """The rate of gain that experiments with these ``gains`` (0: not kept), which ``cost`` so much together, show.

    ``another`` is what one more keep is believed to gain, at least; it is what the bound rests on where none was kept.
    The bound is one-sided, of a Poisson process whose events have weights, and errs to the high side (Fay and Feuer
    1997, Statistics in Medicine 16:791). It takes the future to be like the past that it is given.
    """
    from scipy.special import chdtri

    found = [gain for gain in gains if gain > 0]
    largest = max([another, *found])
    if not (cost > 0 and 0 < largest < math.inf):
        return Prospect(0.0, math.inf)
    # In units of the largest: the squares of huge gains would overflow.
    total, squares = math.fsum(gain / largest for gain in found), math.fsum((gain / largest) ** 2 for gain in found)
    spread = (squares + 1) / (total + 1)
    most = spread / 2 * float(chdtri(2 * (total + 1) / spread, 1 - level))
    return Prospect(largest * total / cost, largest * most / cost)
