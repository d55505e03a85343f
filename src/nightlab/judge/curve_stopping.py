"""Early stopping: whether a running trial can still win, given the loss curves of the trials that finished.

Method: for each part of the budget, a robust line (Theil 1950, Sen 1968) relates the loss in that part to the final
metric. The *lateness* of a trial is how far its loss lies above that line, in median deviations. The threshold is the
largest lateness seen in any finished trial, in any part. A running trial is stopped once it is later than that for a
program that would barely win. Among n + 1 exchangeable trials each is the latest with probability 1 / (n + 1),
whatever the noise distribution and however often the curve is checked (conformal prediction: Vovk, Gammerman and Shafer
2005), so nothing is stopped before that probability is below the stated risk. The remaining risk is a kind of program
not seen yet: after w winners that finished, such programs make up at most 1 / (e w) of the winners, and that too has to
be below the stated risk.

A stopped trial cannot show that stopping it was a mistake. Two precautions: the threshold is the largest lateness seen,
which missing trials cannot lower; and every fifth experiment is a control that always runs to its end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nightlab.core.types import Metric

CONTROL_EVERY = 5  # one experiment in this many runs to its end, regardless of its curve
SHOWN = 4.0  # standard errors of Kendall's tau above which the loss in a part is taken to predict the metric
LATEST = 64  # most recent trials that a line is fitted through


@dataclass(frozen=True, slots=True)
class FinishedCurve:
    """A trial that finished: its loss in each part of the budget, its metric, and whether it was kept."""

    losses: tuple[float, ...]
    metric: float
    won: bool


@dataclass(frozen=True, slots=True)
class CurveLine:
    """The fit for one part of the budget: the expected loss is ``middle - slope * gain``, within ``spread``."""

    middle: float
    slope: float
    spread: float

    def lateness(self, loss: Any, gain: Any) -> Any:
        """How many median deviations ``loss`` (a number or an array) lies above the loss expected for ``gain``."""
        return (loss + self.slope * gain - self.middle) / self.spread


class CurveModel:
    """Early stopping fitted to finished trials. ``risk``: accepted probability of stopping a winner; 0 disables it."""

    def __init__(self, metric: Metric, ran: Sequence[FinishedCurve], risk: float) -> None:
        import numpy as np

        self.metric, self.lines, self.reach = metric, list[CurveLine | None](), math.inf
        full = [trial for trial in ran if all(map(math.isfinite, (trial.metric, *trial.losses)))]
        self.count = len(full)
        if not enough_curves(full, risk):
            return
        self.zero = full[-1].metric  # the origin of gains; any finite value works
        gains = np.array([metric.gain(self.zero, trial.metric) for trial in full])
        parts = np.array([trial.losses for trial in full]).T
        with np.errstate(all="ignore"):  # absurd values from a candidate give no line, or one that stops nothing
            self.lines = _lines(parts, gains)
            lateness = [
                line.lateness(losses, gains).max() for line, losses in zip(self.lines, parts, strict=True) if line
            ]
        self.reach = float(max(lateness, default=math.inf))

    def unpromising(self, losses: Sequence[float], champion: Sequence[float], bar: float) -> int | None:
        """The part of the budget (from 0) after which a trial with these losses can no longer reach ``bar``.

        None while it still can, where the curves do not predict the metric, and for a trial ahead of the champion's
        own curve. ``losses``: one for each completed part; ``champion``: one for each part.
        """
        for part, (loss, line) in enumerate(zip(losses, self.lines, strict=False)):
            if line and loss > champion[part] and line.lateness(loss, self.metric.gain(self.zero, bar)) > self.reach:
                return part
        return None


def enough_curves(ran: Sequence[FinishedCurve], risk: float) -> bool:
    """Whether enough trials finished to bound the probability of stopping a winner by ``risk``."""
    return risk * (len(ran) + 1) >= 1 and risk * math.e * sum(trial.won for trial in ran) >= 1


def is_control(experiment: int) -> bool:
    """Whether an experiment is a control, which always runs to its end."""
    return experiment % CONTROL_EVERY == 0


def _lines(parts: Any, gains: Any) -> list[CurveLine | None]:
    """The robust line through losses and gains for each part; None where the two are not clearly related."""
    import numpy as np

    x, y = gains[-LATEST:], parts[:, -LATEST:]
    n = len(x)
    one, other = np.triu_indices(n, 1)
    more, less = x[other] - x[one], y[:, one] - y[:, other]
    tau = (np.sign(less) @ np.sign(more)) / max(len(more), 1)
    apart = more != 0
    found: list[CurveLine | None] = []
    for place, losses in enumerate(parts):
        if tau[place] * math.sqrt(9 * n * (n - 1) / (4 * n + 10)) < SHOWN:
            found.append(None)
            continue
        slope = float(np.median(less[place, apart] / more[apart]))
        level = losses + slope * gains
        middle = float(np.median(level))
        spread = float(np.median(np.abs(level - middle)))
        sound = 0 < spread < math.inf and 0 < slope < math.inf
        found.append(CurveLine(middle, slope, spread) if sound else None)
    return found
