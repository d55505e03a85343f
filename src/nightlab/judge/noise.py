"""How far two runs of one program lie apart by luck alone: pooled over everything that was run twice.

Method: the spread of language-model training over seeds hardly differs between programs (measured on 1,104
public runs in 86 groups, median 0.04 % of the loss), so one number serves a whole session, and a handful of
programs that ran twice are enough to learn it; two or three runs of one candidate never are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nightlab.records import average

PRIOR_SHARE = 0.0004  # of the baseline's metric: what is believed before anything ran twice
PRIOR_DF = 2.0  # how many degrees of freedom that belief is worth: data soon overrule it
LARGEST = 1e300  # a spread above this is as good as infinite, and can still be squared by halves
CHANGED = 0.01  # how seldom a spread that did not change is said to have changed
UNUSUAL = 0.001  # how seldom a program with the usual spread is said to be noisier


@dataclass(frozen=True, slots=True)
class Noise:
    """The standard deviation of one trial's metric over seeds, in the metric's unit.

    ``df`` is how well it is known, the prior included, ``replicates`` how many runs beyond the first of a
    program say so.
    """

    sigma: float
    df: float
    replicates: int = 0


def pooled(groups: Sequence[Sequence[float]], prior: float) -> Noise:
    """The noise that groups of runs of one program each show, with ``prior`` as a weak belief."""
    deviations = [math.sqrt(PRIOR_DF) * abs(prior)]
    replicates = 0
    for group in groups:
        if len(group) > 1:
            middle = average(group)
            deviations += [value - middle for value in group]
            replicates += len(group) - 1
    df = PRIOR_DF + replicates
    return Noise(min(math.hypot(*deviations) / math.sqrt(df), LARGEST), df, replicates)


def prior_sigma(baseline: float | None, stated: float | None) -> float:
    """What to believe before anything ran twice: what the contract states, else a share of the baseline."""
    if stated is not None:
        return stated
    return PRIOR_SHARE * abs(baseline) if baseline is not None else 0.0


def pairs_needed(noise: Noise, effect: float, level: float = 0.95, power: float = 0.8) -> int:
    """How many pairs of trials show an effect of this size with this power, two-sided at ``level``."""
    from scipy.special import ndtri

    if effect <= 0:
        raise ValueError("an effect is larger than zero")
    z = float(ndtri((1 + level) / 2) + ndtri(power))
    return max(2, math.ceil(min(2 * (z * (noise.sigma / effect)) ** 2, 1e9)))


def smallest_effect(noise: Noise, pairs: int, level: float = 0.95, power: float = 0.8) -> float:
    """The smallest effect that so many pairs of trials show with this power."""
    from scipy.special import ndtri

    return float(ndtri((1 + level) / 2) + ndtri(power)) * noise.sigma * math.sqrt(2 / pairs)


def change_of_noise(groups: Sequence[Sequence[float]], recent: int = 6) -> tuple[float, float] | None:
    """The spread before and lately, where they differ more than chance explains; else None.

    ``groups`` in the order in which they were measured. The last groups with ``recent`` degrees of freedom
    stand against all before them, by the ratio of variances (F test, two-sided).
    """
    from scipy.special import fdtrc

    later: list[Sequence[float]] = []
    earlier = [group for group in groups if len(group) > 1]
    while earlier and _df(later) < recent:
        later.insert(0, earlier.pop())
    if _df(later) < recent or _df(earlier) < recent:
        return None
    old, new = _spread(earlier), _spread(later)
    if old == new or not (math.isfinite(old) and math.isfinite(new)):
        return None
    if old == 0 or new == 0:
        return old, new
    ratio, more, less = (new / old) ** 2, _df(later), _df(earlier)
    chance = float(fdtrc(more, less, ratio)) if ratio > 1 else float(fdtrc(less, more, 1 / ratio))
    return (old, new) if 2 * chance < CHANGED else None


def noisier(group: Sequence[float], noise: Noise) -> bool:
    """Whether one program's runs lie further apart than the session's noise explains."""
    from scipy.special import chdtrc

    df = len(group) - 1
    if df < 1 or noise.sigma <= 0:
        return False
    return bool(chdtrc(df, df * (_spread([group]) / noise.sigma) ** 2) < UNUSUAL)


def _df(groups: Sequence[Sequence[float]]) -> int:
    return sum(len(group) - 1 for group in groups)


def _spread(groups: Sequence[Sequence[float]]) -> float:
    return math.hypot(*(v - average(g) for g in groups for v in g)) / math.sqrt(_df(groups))
