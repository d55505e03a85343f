"""Whether a trial in flight can still win: its curve against those of the trials that ran to their end.

Method: for each part of the budget a robust line (Theil 1950, Sen 1968) says which loss goes with which metric at the
end. How far a finished trial's loss lay above that line, in usual deviations, is how late it was; the latest of all, in
whatever part, is the *reach*. A trial in flight is hopeless once it is later than that for a program that would just
win. Of n + 1 trials in no particular order each is the latest with the same chance, 1 / (n + 1), whatever the noise is
like and however often one looks (conformal prediction: Vovk, Gammerman and Shafer 2005): nothing is given up before
that is below the stated risk. What is left is a kind of program that was never met. One so rare as to be missed could
still be many of the winners: after w winners that ran to their end, at most 1 / (e w) of them. That is no more than the
stated risk either.

What was given up can't show that it was a mistake. So it is the furthest reach that counts, which no missing trial
makes smaller; and every fifth experiment is a witness, which runs to its end whatever its curve.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nightlab.core.types import Metric

WITNESS = 5  # every so many experiments one runs to its end whatever its curve
SHOWN = 4.0  # standard errors of Kendall's tau from which on a curve goes with the metric beyond doubt
LATEST = 64  # trials that a line is laid through


@dataclass(frozen=True, slots=True)
class FinishedCurve:
    """A trial that ran to its end: its loss in each part of the budget, what it measured, whether it was kept."""

    losses: tuple[float, ...]
    metric: float
    won: bool


@dataclass(frozen=True, slots=True)
class CurveLine:
    """Of one part of the budget: the loss of a program is ``middle - slope * gain``, give or take ``spread``."""

    middle: float
    slope: float
    spread: float

    def late(self, loss: Any, gain: Any) -> Any:
        """How many usual deviations a loss, or an array of them, lies above what goes with a gain."""
        return (loss + self.slope * gain - self.middle) / self.spread


class CurveModel:
    """What the trials that ran to their end say of one in flight. ``risk``: of giving up a winner; 0: none is."""

    def __init__(self, metric: Metric, ran: Sequence[FinishedCurve], risk: float) -> None:
        import numpy as np

        self.metric, self.lines, self.reach = metric, list[CurveLine | None](), math.inf
        full = [trial for trial in ran if all(map(math.isfinite, (trial.metric, *trial.losses)))]
        self.count = len(full)
        if not enough(full, risk):
            return
        self.zero = full[-1].metric  # gains are counted from here: any place would do
        gains = np.array([metric.gain(self.zero, trial.metric) for trial in full])
        parts = np.array([trial.losses for trial in full]).T
        with np.errstate(all="ignore"):  # absurd numbers of a candidate make no line, or one that ends nothing
            self.lines = _lines(parts, gains)
            late = [line.late(losses, gains).max() for line, losses in zip(self.lines, parts, strict=True) if line]
        self.reach = float(max(late, default=math.inf))

    def hopeless(self, losses: Sequence[float], champion: Sequence[float], bar: float) -> int | None:
        """The part of the budget (from 0) after which a trial with these losses could no longer reach ``bar``.

        None while it may, where curves do not compare, and for one that is ahead of the champion's own curve.
        ``losses``: one for each part that is over; ``champion``: one for each part.
        """
        for part, (loss, line) in enumerate(zip(losses, self.lines, strict=False)):
            if line and loss > champion[part] and line.late(loss, self.metric.gain(self.zero, bar)) > self.reach:
                return part
        return None


def enough(ran: Sequence[FinishedCurve], risk: float) -> bool:
    """Whether so many trials ran to their end that the chance to give up a winner is known to be below ``risk``."""
    return risk * (len(ran) + 1) >= 1 and risk * math.e * sum(trial.won for trial in ran) >= 1


def witness(experiment: int) -> bool:
    """Whether an experiment runs to its end whatever its curve."""
    return experiment % WITNESS == 0


def _lines(parts: Any, gains: Any) -> list[CurveLine | None]:
    """The robust line through the losses of each part and the gains; None where the ones do not go with the others."""
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
