"""Programs that fix their seed: their runs are all but the same, which says nothing of how lucky that one seed is.

They need not be the same to the last digit: a budget in seconds or an accelerator adds a little noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from nightlab.core.types import PairedGain, average

STEADIER = 0.1  # share of the spread before, at most, that a clock or a kernel leaves of a fixed seed's runs
SURE = 0.001  # significance level of that
FIXED_SEED = (
    "the champion's runs are all but the same on every seed, those of the genome before it are not: it fixes its seed, "
    "and its number is the luck of one; its interval is widened by that luck"
)


def fixes_seed(own: Sequence[float], before: Sequence[float], *, timed: bool = False) -> bool:
    """Whether a program's runs on different seeds are all but the same, while those of the one before it are not.

    By the ratio of variances (F test), which must be small besides: a program may well train more steadily, and noise
    in proportion to a value is smaller where that is. Times (``timed``) have the machine's noise, whatever the seed:
    another program's may be far smaller, and only equal ones count.
    """
    from scipy.special import fdtr

    if len(own) < 2 or len(before) < 2 or _same(before):
        return False
    if timed or _same(own):
        return _same(own)
    level, other = abs(average(list(own))), abs(average(list(before)))
    expected = _spread(before) * (level / other if level < other else 1.0)
    ratio = _spread(own) / expected if expected else math.inf
    return ratio <= STEADIER and float(fdtr(len(own) - 1, len(before) - 1, ratio * ratio)) < SURE


def varying(groups: Sequence[Sequence[float]]) -> list[Sequence[float]]:
    """The groups of runs that tell how much luck there is: all if no group varies, else those that do."""
    found = [group for group in groups if not _same(group)]
    return found or list(groups)


def with_unseen_luck(gain: PairedGain, before: Sequence[float]) -> PairedGain:
    """The interval of a gain over the runs ``before`` of a program that fixes its seed.

    All its runs have the luck of one seed, which no number of pairs averages out. It is assumed to be as large as that
    of the runs before: so much is added to both sides, by Student's t.
    """
    from scipy.special import stdtrit

    more = float(stdtrit(len(before) - 1, (1 + gain.level) / 2)) * _spread(before)
    return replace(gain, low=gain.low - more, high=gain.high + more, times=None)


def _spread(values: Sequence[float]) -> float:
    middle = average(list(values))
    return math.hypot(*(value - middle for value in values)) / math.sqrt(len(values) - 1)


def _same(values: Sequence[float]) -> bool:
    return all(value == values[0] for value in values)
