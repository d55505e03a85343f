"""Confidence intervals of a gain from paired measurements: what may be claimed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from nightlab.core.types import Metric, NightlabError, PairedGain, Scale, average
from nightlab.judge.noise import Noise, clamped
from nightlab.judge.scale import exp_of, no_ratio


def paired_gain(
    metric: Metric,
    baseline: Sequence[float],
    champion: Sequence[float],
    level: float = 0.95,
    noise: Noise | None = None,
    scale: Scale = "difference",
) -> PairedGain:
    """Student's t interval of the gain of ``champion`` over ``baseline``, measured on the same seeds in order.

    With ``noise``, the spread is the session's pooled one: use it for many small comparisons of a few runs each.
    Without, it is estimated from the pairs alone, with no assumption about other programs: use it for claims.
    On the ``scale`` ratio the interval is that of the logarithms, in the metric's unit at the baseline's level and as
    ``times``; with a value that is not positive it is that of the differences. ``noise`` is on the same scale.

    Raises NightlabError with fewer than two pairs (with ``noise``: fewer than one), or lists of different lengths.
    """
    if scale == "ratio" and not no_ratio(metric, [*baseline, *champion]):
        one, other = ([math.log(value) for value in side] for side in (baseline, champion))
        found = paired_gain(metric, one, other, level, noise)
        return _in_unit(metric, exp_of(average(one)), found)
    if noise is not None and baseline:
        noise = noise.local(average(baseline))
    if len(baseline) != len(champion) or len(baseline) < (2 if noise is None else 1):
        raise NightlabError(
            f"an interval needs at least two pairs of measurements, got {min(len(baseline), len(champion))}",
            "measure on more seeds",
        )
    from scipy.special import stdtrit

    gains = [clamped(metric.gain(before, after)) for before, after in zip(baseline, champion, strict=True)]
    n, mean = len(gains), average(gains)
    if noise is None:
        spread, df = math.hypot(*(gain - mean for gain in gains)) / math.sqrt(n - 1), float(n - 1)
    else:
        spread, df = math.sqrt(2) * noise.sigma, noise.df
    half = float(stdtrit(df, (1 + level) / 2)) * spread / math.sqrt(n)
    return PairedGain(mean, mean - half, mean + half, level, n)


def exact_gain(metric: Metric, before: float, after: float, scale: Scale = "difference") -> PairedGain:
    """The gain between two numbers that are the same on every seed: its interval is that number."""
    gain, times = metric.gain(before, after), None
    if scale == "ratio" and not no_ratio(metric, (before, after)):
        times = exp_of(metric.gain(math.log(before), math.log(after)))
    return PairedGain(gain, gain, gain, 1.0, 1, None if times is None else (times, times, times))


LEVEL = 0.95  # of an interval, unless another is asked for
Stated = tuple[float | None, float | None]  # a number, and its standard error by its own account


def with_stated_errors(gain: PairedGain, before: Sequence[Stated], after: Sequence[Stated]) -> PairedGain:
    """The interval of a gain between numbers that are the same on every seed, but have errors by their own account.

    Repeating them averages nothing out, so that the errors of one measurement of each are added to both sides.
    """
    if any(len({value for value, _ in side}) > 1 for side in (before, after)):
        return gain
    error = math.hypot(*(side[0][1] or 0.0 for side in (before, after)))
    if not error:
        return gain
    from scipy.special import ndtri

    level = gain.level if gain.level < 1 else LEVEL  # an exact gain is known no better than that now
    half = float(ndtri((1 + level) / 2)) * error
    return replace(gain, level=level, low=gain.low - half, high=gain.high + half, times=None)


def _in_unit(metric: Metric, before: float, found: PairedGain) -> PairedGain:
    """An interval of logarithms, in the metric's unit for a baseline of ``before``, with its ratios beside it."""
    ends = (found.mean, found.low, found.high)
    after = [exp_of(metric.worsened(math.log(before), -end)) for end in ends]
    mean, low, high = (clamped(metric.gain(before, value)) for value in after)
    return PairedGain(mean, low, high, found.level, found.pairs, (exp_of(ends[0]), exp_of(ends[1]), exp_of(ends[2])))


def repeated_check_level(check: int, level: float = 0.95) -> float:
    """The confidence level of the ``check``-th interval (from 0) on one question.

    Repeated checks are corrected for: each has half the error of the one before. So a genome that is no better is
    confirmed with probability at most ``1 - level``, however many checks are made (union bound; each side of an
    interval has half of its error).
    """
    return 1 - (1 - level) * 0.5**check
