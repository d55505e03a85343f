"""Seed-to-seed noise: the spread between runs of one program, pooled over all repeated runs of a session.

Method: on the right scale (``scale``) the spread over seeds hardly differs between programs (of language-model
training, on 1,104 public runs in 86 groups, median 0.04 % of the loss). So one number serves a whole session, and a
handful of programs with two runs each are enough to estimate it; two or three runs of a single candidate are not.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nightlab.core.types import Metric, Scale, average
from nightlab.judge.scale import FAR

PRIOR_SHARE = 0.0004  # prior spread, as a share of the baseline's metric
PRIOR_DF = 1.0  # degrees of freedom that the prior counts for: small, because an overestimate costs most
KNOWN = 1000  # pairs from which on the spread is treated as known
MANY = 1e9  # upper bound on a number of pairs
LARGEST = 1e300  # larger spreads are clamped to this, so that they can still be squared in halves
CHANGED = 0.01  # significance level for a change of the spread
OUTLYING = 10.0  # in median spreads: a group with a larger one contains a failed run rather than noise
UNUSUAL = 0.001  # significance level for one program being noisier than the session
EXACT = 2  # equal repeats, of two programs or more, after which the numbers count as exact
LOW = 1e-6  # probability that sigma is below its lower bound


@dataclass(frozen=True, slots=True)
class Noise:
    """The standard deviation of one trial's metric over seeds, on ``scale``.

    ``sigma`` is in the metric's unit, or under the scale ``ratio`` that of the metric's logarithm. ``df``: degrees of
    freedom of the estimate, the prior included. ``replicates``: repeated runs (beyond the first of each program) that
    it is based on. ``levels``: the smallest and the largest mean of those programs, zeros where one is not positive.
    ``unsettled``: more repeats may still show that the noise depends on the level. ``stated``: the standard error that
    the measurements say they have themselves, on the same scale; ``sigma`` is never smaller. ``rho``: the share of the
    variance that is the seed's and common to all programs, as far as it shows. ``usual``: the spread that a
    third of the programs do not exceed, as a share of ``sigma``.
    """

    sigma: float
    df: float
    replicates: int = 0
    scale: Scale = "difference"
    levels: tuple[float, float] = (0.0, 0.0)
    unsettled: bool = False
    stated: float = 0.0
    rho: float = 0.0
    usual: float = 1.0

    @property
    def exact(self) -> bool:
        """Whether several programs measured the same number on every seed."""
        return self.sigma == 0 and self.replicates >= EXACT

    @property
    def surely(self) -> float:
        """A lower bound of sigma: with few degrees of freedom the estimate may be several times too large.

        Where tails are heavy a few runs can make it so, however many others there are: a third of the programs vary
        less.
        """
        from scipy.special import chdtri

        found = min(math.sqrt(self.df / float(chdtri(self.df, LOW))), self.usual) * self.sigma if self.sigma else 0.0
        return max(found, self.stated)

    def at_least(self, stated: float) -> Noise:
        """The same noise, no smaller than the standard error that a measurement states."""
        if not self.stated < stated < math.inf:
            return self
        return replace(self, sigma=max(self.sigma, stated), stated=stated)

    def local(self, level: float | None) -> Noise:
        """The same noise in the metric's unit at this level."""
        if self.scale == "difference":
            return self
        level = abs(level or 0.0)
        sigma, stated = (min(share * level, LARGEST) for share in (self.sigma, self.stated))
        return replace(self, sigma=sigma, stated=stated, scale="difference")

    @property
    def relative(self) -> float:
        """``sigma`` as a share of a value, where values are compared by ratios; else 0."""
        return self.sigma if self.scale == "ratio" else 0.0

    def near(self, values: Sequence[float]) -> float:
        """A lower bound of the standard deviation near these values: at a lower level noise may be smaller too."""
        least = min(map(abs, values), default=0.0)
        known = self.scale == "difference" and self.levels[0] > 0 and all(value > 0 for value in values)
        return max(self.surely * min(1.0, least / self.levels[1]), self.stated) if known else self.surely

    def is_far(self, value: float) -> bool:
        """Whether a value is so far from all programs that ran more than once that its noise may be another one."""
        low, high = self.levels
        return self.unsettled and low > 0 and not low / FAR < value < high * FAR


def in_sigmas(metric: Metric, value: float | None, gain: float, sigma: float, relative: float = 0.0) -> float | None:
    """The gain of a ``value`` over a bar, in units of one trial's noise; None where that is not known.

    ``sigma``: the noise in the metric's unit. ``relative``: the same as a share of a value, where values are compared
    by ratios, and a step from 0.4 to 0.1 is as large as one from 0.04 to 0.01; 0 elsewhere.
    """
    if relative > 0 and value is not None:
        bar = value + gain if metric.goal == "minimise" else value - gain
        if 0 < bar < math.inf and 0 < value < math.inf:
            return math.copysign(abs(math.log(bar / value)), gain) / relative
    return gain / sigma if sigma > 0 else None


def pooled(groups: Sequence[Sequence[float]], prior: float, scale: Scale = "difference") -> Noise:
    """The noise pooled over groups of runs of one program each, with ``prior`` as a weak prior on that ``scale``.

    A group with a failed (e.g. diverged) run is left out: one such run would inflate the noise for the rest of the
    session. On the scale ``ratio`` so is a value that is not positive.
    """
    if scale == "ratio":
        groups = [[math.log(value) for value in group if 0 < value < math.inf] for group in groups]
    repeated = _usual(_repeated(groups))
    df = PRIOR_DF + _df(repeated)
    sigma = math.hypot(math.sqrt(PRIOR_DF) * prior, *_deviations(repeated)) / math.sqrt(df)
    known = bool(repeated) and 0 < sigma < math.inf
    usual = sorted(_spread([group]) for group in repeated)[(len(repeated) - 1) // 3] / sigma if known else 1.0
    means = [average(group) for group in repeated] if scale == "difference" else []
    levels = (min(means), max(means)) if means and min(means) > 0 else (0.0, 0.0)
    return Noise(min(sigma, LARGEST), df, _df(repeated), scale, levels, usual=usual)


def same_on_every_seed(groups: Sequence[Sequence[float]]) -> bool:
    """Whether every program that ran more than once measured the same number each time."""
    repeated = _repeated(groups)
    return bool(repeated) and all(value == group[0] for group in repeated for value in group)


def prior_sigma(baseline: float | None, stated: float | None) -> float:
    """The spread assumed before anything ran twice: what the contract states, else a share of the baseline."""
    if stated is not None:
        return stated
    return PRIOR_SHARE * abs(baseline) if baseline is not None and math.isfinite(baseline) else 0.0


def pairs_needed(noise: Noise, effect: float, level: float = 0.95, power: float = 0.8) -> int:
    """How many pairs of trials detect an effect of this size with this power, two-sided at ``level``."""
    if not effect > 0:
        raise ValueError("an effect is larger than zero")
    ratio = noise.sigma / effect
    # Start from the normal approximation, which is never too large; then add pairs until the t test has the power.
    pairs = max(2, math.ceil(min(2 * (_normal(level, power) * ratio) * (_normal(level, power) * ratio), MANY)))
    while pairs < KNOWN and smallest_effect(noise, pairs, level, power) > effect:
        pairs += 1
    return pairs


def smallest_effect(noise: Noise, pairs: int, level: float = 0.95, power: float = 0.8) -> float:
    """The smallest effect that this number of pairs detects with this power.

    A claim estimates its spread from its own pairs, so this is the power of Student's t test: for three pairs it is
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
    """The spread before and recently, where they differ significantly; else None.

    ``groups`` in the order of measurement. The last groups, with ``recent`` degrees of freedom in total, are compared
    with all earlier ones by the ratio of variances (two-sided F test).
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


def is_noisier(group: Sequence[float], noise: Noise) -> bool:
    """Whether the spread of one program's runs significantly exceeds the session's noise (chi-squared test)."""
    from scipy.special import chdtrc

    repeated = _repeated([group])
    if not repeated or noise.sigma <= 0:
        return False
    df, ratio = _df(repeated), _spread(repeated) / noise.sigma
    return bool(chdtrc(df, df * ratio * ratio) < UNUSUAL)


def clamped(gain: float) -> float:
    """A difference clamped to the largest finite value that can still be computed with."""
    return max(min(gain, LARGEST), -LARGEST)


def _repeated(groups: Sequence[Sequence[float]]) -> list[list[float]]:
    """The groups with more than one finite value, without their other values."""
    numbers = [[value for value in group if math.isfinite(value)] for group in groups]
    return [group for group in numbers if len(group) > 1]


def _usual(groups: list[list[float]]) -> list[list[float]]:
    """The groups without those whose spread is far out of proportion, where there are at least three groups."""
    spreads = [_spread([group]) for group in groups]
    most = OUTLYING * statistics.median(spreads) if len(groups) > 2 else 0.0
    return [group for group, spread in zip(groups, spreads, strict=True) if spread <= most] if most else groups


def _df(groups: Sequence[Sequence[float]]) -> int:
    return sum(len(group) - 1 for group in groups)


def _deviations(groups: Sequence[Sequence[float]]) -> list[float]:
    middles = [average(group) for group in groups]
    return [value - middle for group, middle in zip(groups, middles, strict=True) for value in group]


def _spread(groups: Sequence[Sequence[float]]) -> float:
    return math.hypot(*_deviations(groups)) / math.sqrt(_df(groups))
