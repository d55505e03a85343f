"""Times, compared in rounds: candidate and champion run in turn, and each round yields the ratio of their times.

A machine's speed drifts, and a bar is a number of the machine as it was. Two trials that follow each other share most
of what the machine does, so their ratio varies less than either of them. Who runs first alternates: what favours the
second one (a machine that gets slower, a warm cache) is a difference between odd and even rounds, and is taken off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from nightlab.core.types import Metric, Verdict, average
from nightlab.judge.scale import exp_of, no_ratio
from nightlab.judge.words import times_words

LEAST, MOST = 4, 8  # rounds
CLEAR = 2.0  # half-widths of its interval from no gain to a ratio that needs to be known no better
LEVEL = 0.95  # of the interval, by Student's t: few rounds don't tell well how much they vary


def compare_rounds(
    metric: Metric, rounds: Sequence[tuple[float, float]], precision: float, decision: Verdict, *, last: bool
) -> Verdict | None:
    """The verdict on a candidate that the rule would keep by ``decision``; None where another round is needed.

    ``rounds``: the values of champion and candidate in each. They go on until the interval of the mean log ratio is
    at most ± ``precision``, or the ratio clear all the same. ``last``: there is no further round.
    """
    from scipy.special import stdtrit

    if fault := no_ratio(metric, [value for pair in rounds for value in pair]):
        return Verdict("discard", "inconclusive", fault)
    if len(rounds) < LEAST:
        return Verdict("discard", "inconclusive", "the champion failed beside it") if last else None
    gains = [metric.gain(math.log(before), math.log(after)) for before, after in rounds]
    gain, error = _estimate(gains)
    width = error * float(stdtrit(len(gains) - 2, (1 + LEVEL) / 2))
    if width > max(precision, abs(gain) / CLEAR) and not last:
        return None
    said = (
        f"{times_words(abs(gain))} {'better' if gain >= 0 else 'worse'}, ± {100 * width:.2g} %, in {len(gains)} rounds"
    )
    if gain > 0 and gain >= width:
        return Verdict("keep", "improved", said, exp_of(average([math.log(after) for _, after in rounds])))
    if decision.reason == "simpler" and gain >= -error:
        return Verdict("keep", "simpler", f"{decision.detail}; {said}", decision.bar)
    return Verdict("discard", "regressed" if gain < 0 else "inconclusive", said)


def _estimate(gains: Sequence[float]) -> tuple[float, float]:
    """The gain without the effect of who runs first, and its standard error, by least squares."""
    orders = gains[0::2], gains[1::2]
    means = [average(list(one)) for one in orders]
    rest = math.hypot(*(each - mean for one, mean in zip(orders, means, strict=True) for each in one))
    spread = rest / math.sqrt(len(gains) - 2)
    return average(means), spread * math.sqrt(sum(1 / len(one) for one in orders)) / 2
