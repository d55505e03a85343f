"""How far two runs of one program lie apart by luck alone: pooled over everything that was run twice.

Method: the spread of language-model training over seeds hardly differs between programs (measured on 1,104
public runs in 86 groups, median 0.04 % of the loss), so one number serves a whole session, and a handful of
programs that ran twice are enough to learn it; two or three runs of one candidate never are.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from nightlab.core.types import average

PRIOR_SHARE = 0.0004  # of the baseline's metric: what is believed before anything ran twice
PRIOR_DF = 1.0  # how many degrees of freedom that belief is worth: too large a belief costs most, so little
KNOWN = 1000  # pairs from which on their own spread is as good as known
MANY = 1e9  # more pairs than anybody has
LARGEST = 1e300  # a spread above this is as good as infinite, and can still be squared by halves
CHANGED = 0.01  # how seldom a spread that did not change is said to have changed
FAR = 10.0  # median spreads: a group with a larger one holds a run that went wrong, not noise
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
    """The noise that groups of runs of one program each show, with ``prior`` as a weak belief.

    A group in which a run went wrong (diverged, say) tells nothing of the others' noise, and is left out: one
    such run would make everything else look like luck for the rest of the session.
    """
    repeated = _usual(_repeated(groups))
    df = PRIOR_DF + _df(repeated)
    sigma = math.hypot(math.sqrt(PRIOR_DF) * prior, *_deviations(repeated)) / math.sqrt(df)
    return Noise(min(sigma, LARGEST), df, _df(repeated))


def prior_sigma(baseline: float | None, stated: float | None) -> float:
    """What to believe before anything ran twice: what the contract states, else a share of the baseline."""
    if stated is not None:
        return stated
    return PRIOR_SHARE * abs(baseline) if baseline is not None and math.isfinite(baseline) else 0.0


def pairs_needed(noise: Noise, effect: float, level: float = 0.95, power: float = 0.8) -> int:
    """How many pairs of trials show an effect of this size with this power, two-sided at ``level``."""
    if not effect > 0:
        raise ValueError("an effect is larger than zero")
    ratio = noise.sigma / effect
    # As if the spread were known: never too many. What learning it from the pairs takes is added one by one.
    pairs = max(2, math.ceil(min(2 * (_normal(level, power) * ratio) * (_normal(level, power) * ratio), MANY)))
    while pairs < KNOWN and smallest_effect(noise, pairs, level, power) > effect:
        pairs += 1
    return pairs


def smallest_effect(noise: Noise, pairs: int, level: float = 0.95, power: float = 0.8) -> float:
    """The smallest effect that so many pairs of trials show with this power.

    A claim takes its spread from its own pairs, so this is the power of Student's test: of three pairs it is
    half of what the normal approximation promises.
    """
    from scipy.special import nctdtrinc, stdtrit

    df = pairs - 1
    far = _normal(level, power) if pairs >= KNOWN else float(nctdtrinc(df, 1 - power, stdtrit(df, (1 + level) / 2)))
    return far * noise.sigma * math.sqrt(2 / pairs)


def _normal(level: float, power: float) -> float:
    from scipy.special import ndtri

    return float(ndtri((1 + level) / 2) + ndtri(power))


def change_of_noise(groups: Sequence[Sequence[float]], recent: int = 6) -> tuple[float, float] | None:
    """The spread before and lately, where they differ more than chance explains; else None.

    ``groups`` in the order in which they were measured. The last groups with ``recent`` degrees of freedom
    stand against all before them, by the ratio of variances (F test, two-sided).
    """
    from scipy.special import fdtrc

    later: list[Sequence[float]] = []
    earlier = _repeated(groups)
    while earlier and _df(later) < recent:
        later.insert(0, earlier.pop())
    if _df(later) < recent or _df(earlier) < recent:
        return None
    old, new = _spread(earlier), _spread(later)
    if old == new or not (math.isfinite(old) and math.isfinite(new)):
        return None
    if old == 0 or new == 0:
        return old, new
    (low, few), (high, many) = sorted([(old, _df(earlier)), (new, _df(later))])
    chance = float(fdtrc(many, few, (high / low) * (high / low)))
    return (old, new) if 2 * chance < CHANGED else None


def noisier(group: Sequence[float], noise: Noise) -> bool:
    """Whether one program's runs lie further apart than the session's noise explains."""
    from scipy.special import chdtrc

    repeated = _repeated([group])
    if not repeated or noise.sigma <= 0:
        return False
    df, ratio = _df(repeated), _spread(repeated) / noise.sigma
    return bool(chdtrc(df, df * ratio * ratio) < UNUSUAL)


def finite(gain: float) -> float:
    """A difference of two numbers so large that it has none itself, as the largest that can be reckoned with."""
    return max(min(gain, LARGEST), -LARGEST)


def _repeated(groups: Sequence[Sequence[float]]) -> list[list[float]]:
    """The groups with more than one value, of what is a number."""
    numbers = [[value for value in group if math.isfinite(value)] for group in groups]
    return [group for group in numbers if len(group) > 1]


def _usual(groups: list[list[float]]) -> list[list[float]]:
    """The groups but those that lie apart out of all proportion, where there are enough to tell."""
    spreads = [_spread([group]) for group in groups]
    most = FAR * statistics.median(spreads) if len(groups) > 2 else 0.0
    return [group for group, spread in zip(groups, spreads, strict=True) if spread <= most] if most else groups


def _df(groups: Sequence[Sequence[float]]) -> int:
    return sum(len(group) - 1 for group in groups)


def _deviations(groups: Sequence[Sequence[float]]) -> list[float]:
    middles = [average(group) for group in groups]
    return [value - middle for group, middle in zip(groups, middles, strict=True) for value in group]


def _spread(groups: Sequence[Sequence[float]]) -> float:
    return math.hypot(*_deviations(groups)) / math.sqrt(_df(groups))
