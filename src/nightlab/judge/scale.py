"""Whether values of a metric are compared by differences or by ratios, and how a ratio is judged.

A time, an error or a throughput usually varies by a share of itself: 10 % of 100 ms, 10 % of 1 ms. Its values are then
compared on logarithms, where the noise is the same at every level. A score that may be zero or negative is compared
by differences.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from nightlab.core.types import Measurement, Metric, Scale, average

FAR = 2.0  # factor between two levels from which on it matters how the noise depends on the level
WIDE = 0.3  # spread of one program's runs, as a share of their mean, that is no longer symmetric
SURE = 3.0  # log-likelihood by which the data have to contradict what is believed: ratios, where levels differ much


def find_scale(groups: Sequence[Sequence[float]], found: Scale | None = None) -> tuple[Scale, str] | None:
    """The scale that fits the repeated runs of some programs, and why; None while it can't be told or does not matter.

    ``groups``: the runs of each program. ``found``: the scale found so far, which only clear evidence changes.
    Method: the restricted likelihoods of a constant standard deviation and of one in proportion to the level.
    """
    repeated = [group for group in groups if len(group) > 1 and all(map(math.isfinite, group))]
    if not repeated or not all(value > 0 for group in repeated for value in group):
        return None
    levels = [average(group) for group in repeated]
    least, most = min(levels), max(levels)
    if most < FAR * least:
        return ("ratio", "the runs of one program differ by a large share of their mean") if _wide(repeated) else None
    if _lead_of_ratio(repeated, levels) >= (SURE if found == "difference" else -SURE):
        return "ratio", f"its noise is in proportion to its value, from {least:.3g} to {most:.3g}"
    return "difference", f"its noise is the same from {least:.3g} to {most:.3g}"


def _wide(groups: Sequence[Sequence[float]]) -> bool:
    return any(max(group) - min(group) > math.sqrt(2) * WIDE * average(group) for group in groups)


def _lead_of_ratio(groups: Sequence[Sequence[float]], levels: Sequence[float]) -> float:
    """By how much the log-likelihood of noise in proportion to the level exceeds that of constant noise."""
    df = sum(len(group) - 1 for group in groups)
    deviations = [[value - level for value in group] for group, level in zip(groups, levels, strict=True)]
    same = math.hypot(*(each for group in deviations for each in group))
    shares = [each / level for group, level in zip(deviations, levels, strict=True) for each in group]
    relative = math.hypot(*shares)
    if same == 0 or relative == 0:
        return 0.0
    scaled = sum((len(group) - 1) * math.log(level) for group, level in zip(groups, levels, strict=True))
    return df * math.log(same) - df * math.log(relative) - scaled


def no_ratio(metric: Metric, values: Iterable[float]) -> str:
    """Why these values can't be compared by ratios; empty if they can."""
    bad = next((value for value in values if value <= 0), None)
    return "" if bad is None else f"{metric.name} is {bad:g}, which has no ratio to another value"


def log_of(value: float | None) -> float | None:
    """The logarithm of a positive value; None and values that are no number stay as they are."""
    return math.log(value) if value is not None and 0 < value < math.inf else value


def logs(runs: Mapping[int, Measurement]) -> dict[int, Measurement]:
    """Measurements with the logarithms of their metrics, and their standard errors on that scale."""
    return {
        seed: replace(run, metric=log_of(run.metric), standard_error=share_of(run.standard_error, run.metric))
        for seed, run in runs.items()
    }


def share_of(error: float | None, value: float | None) -> float | None:
    """A standard error as a share of the value: that of its logarithm. None where there is no such share."""
    if error is None or value is None or not 0 < abs(value) < math.inf:
        return None
    return min(error / abs(value), 1e300)


def exp_of(value: float) -> float:
    """The value whose logarithm this is, within what a float holds."""
    return math.exp(max(min(value, 709.0), -745.0))
