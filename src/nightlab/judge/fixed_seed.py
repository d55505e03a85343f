"""Programs that fix their seed: their runs are all the same, which says nothing of how lucky that one seed is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from nightlab.core.types import PairedGain, average

FIXED_SEED = (
    "the champion's runs are the same on every seed, those of the genome before it are not: it fixes its seed, and its "
    "number is the luck of one; sigma is not learned from it, and its interval is widened by that luck"
)


def fixes_seed(own: Sequence[float], before: Sequence[float]) -> bool:
    """Whether a program's runs on different seeds are all the same, while those of the one before it are not."""
    return len(own) > 1 and _same(own) and len(before) > 1 and not _same(before)


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

    middle = average(before)
    spread = math.hypot(*(value - middle for value in before)) / math.sqrt(len(before) - 1)
    more = float(stdtrit(len(before) - 1, (1 + gain.level) / 2)) * spread
    return replace(gain, low=gain.low - more, high=gain.high + more, times=None)


def _same(values: Sequence[float]) -> bool:
    return all(value == values[0] for value in values)
