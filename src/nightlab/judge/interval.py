"""How large a gain is, from paired measurements."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nightlab.records import Metric, NightlabError, PairedGain


def paired_gain(
    metric: Metric, baseline: Sequence[float], champion: Sequence[float], level: float = 0.95
) -> PairedGain:
    """Student's t interval of the gain of ``champion`` over ``baseline``, measured on the same seeds in order.

    Raises NightlabError with fewer than two pairs: one pair has no spread.
    """
    if len(baseline) != len(champion) or len(baseline) < 2:
        raise NightlabError(
            f"an interval needs at least two pairs of measurements, there are {min(len(baseline), len(champion))}",
            "measure on more seeds",
        )
    from scipy.special import stdtrit

    gains = [metric.gain(before, after) for before, after in zip(baseline, champion, strict=True)]
    n, mean = len(gains), math.fsum(gains) / len(gains)
    spread = math.sqrt(math.fsum((gain - mean) ** 2 for gain in gains) / (n - 1))
    half = float(stdtrit(n - 1, (1 + level) / 2)) * spread / math.sqrt(n)
    return PairedGain(mean, mean - half, mean + half, level, n)
