"""Gains of metrics that are counts, successes in trials: a sequential test whose interval holds whenever one stops.

Method: the mixture sequential probability ratio test for two proportions, and the confidence sequence that goes with it
(Robbins 1970; Johari, Pekelis and Walsh, "Always valid inference: bringing sequential analysis to A/B testing", 2017,
arXiv:1512.04922, section 5). The mixture is normal around no effect. Its variance only decides where the interval is
narrowest; it is that of the difference after the first pair. Variances are those of the observed proportions, smoothed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from nightlab.core.types import Measurement, Metric, PairedGain

Counts = tuple[int, int]  # successes, trials


def counts_of(measurements: Sequence[Measurement]) -> list[Counts] | None:
    """The counts of each measurement; None unless all have them."""
    found = [(m.successes, m.out_of) for m in measurements if m.successes is not None and m.out_of]
    return found if found and len(found) == len(measurements) else None


def always_valid_gain(
    metric: Metric, before: Sequence[Counts], after: Sequence[Counts], level: float = 0.95
) -> PairedGain:
    """The gain in the proportion of successes from ``before`` to ``after``, counts of each pair in order.

    A genome that is no better shows a gain with a probability of at most ``(1 - level) / 2``, however often one looks
    and whenever one stops. Counts of a side that are the same in every pair count once: its trials may be the same.
    """
    pairs = min(len(before), len(after))
    mixture = _variance(before[0]) + _variance(after[0])
    first, second = (_total(side[:1] if len(set(side)) == 1 else side) for side in (before, after))
    gain = metric.gain(first[0] / first[1], second[0] / second[1])
    variance = _variance(first) + _variance(second)
    evidence = math.log(1 / (1 - level)) + math.log((variance + mixture) / variance) / 2
    half = math.sqrt(2 * variance * (variance + mixture) / mixture * evidence)
    return PairedGain(gain, gain - half, gain + half, level, pairs)


def _total(counts: Sequence[Counts]) -> Counts:
    return sum(successes for successes, _ in counts), sum(trials for _, trials in counts)


def _variance(counts: Counts) -> float:
    """The variance of a proportion; not zero where all trials ended alike."""
    successes, trials = counts
    smoothed = (successes + 0.5) / (trials + 1)
    return smoothed * (1 - smoothed) / trials
