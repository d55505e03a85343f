"""How large a gain is, from paired measurements: what may be claimed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nightlab.core.types import Metric, NightlabError, PairedGain, average
from nightlab.judge.noise import Noise, finite


def paired_gain(
    metric: Metric,
    baseline: Sequence[float],
    champion: Sequence[float],
    level: float = 0.95,
    noise: Noise | None = None,
) -> PairedGain:
    """Student's t interval of the gain of ``champion`` over ``baseline``, measured on the same seeds in order.

    With ``noise`` the spread is the session's pooled one: for many small comparisons of a few runs each.
    Without, it is the pairs' own, which assumes nothing of other programs: for claims.

    Raises NightlabError with fewer than two pairs, or one without a pooled spread: one pair has no spread.
    """
    if len(baseline) != len(champion) or len(baseline) < (2 if noise is None else 1):
        raise NightlabError(
            f"an interval needs at least two pairs of measurements, there are {min(len(baseline), len(champion))}",
            "measure on more seeds",
        )
    from scipy.special import stdtrit

    gains = [finite(metric.gain(before, after)) for before, after in zip(baseline, champion, strict=True)]
    n, mean = len(gains), average(gains)
    if noise is None:
        spread, df = math.hypot(*(gain - mean for gain in gains)) / math.sqrt(n - 1), float(n - 1)
    else:
        spread, df = math.sqrt(2) * noise.sigma, noise.df
    half = float(stdtrit(df, (1 + level) / 2)) * spread / math.sqrt(n)
    return PairedGain(mean, mean - half, mean + half, level, n)


def level_of_look(held_out_check: int, level: float = 0.95) -> float:
    """The level of the ``held_out_check``-th interval on one question, the first being 0.

    Whoever looks again with more seeds after a disappointment pays for it: each look has half the error of the
    one before. So a genome that is no better is confirmed with a chance of at most ``1 - level``, however often
    one looks (the union bound; an interval errs to either side with half of its error).
    """
    return 1 - (1 - level) * 0.5**held_out_check
