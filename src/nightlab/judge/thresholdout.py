"""Whether the search overfits its validation data: a check against held-out data that hardly uses that data up.

Method: Thresholdout (Dwork et al., "The reusable holdout", Science 2015). While the gains on validation and held-out
data agree within a noisy tolerance, the answer is "they agree" and reveals nothing more; only where they differ is a
number released, with fresh noise added.
"""

from __future__ import annotations

import math
import random

from nightlab.core.types import HeldOutCheck

TOLERANCE = 2.5  # standard errors of the gap


def held_out_check(search: float, held_out: float, error: float, seed: str) -> HeldOutCheck:
    """Compare a gain on validation data with the same genome's gain on held-out data.

    ``error``: the standard error of the gap between the two. ``seed`` fixes the random draws, so that repeating one
    question gives the same answer and reveals nothing more.
    """
    draw = random.Random(seed)
    tolerance = TOLERANCE * error
    scale = tolerance / 8
    gap = search - held_out
    if gap > tolerance + _laplace(draw, scale) + _laplace(draw, 2 * scale):
        return HeldOutCheck(True, gap + _laplace(draw, scale))
    return HeldOutCheck(False)


def _laplace(draw: random.Random, scale: float) -> float:
    u = draw.random() - 0.5
    return -scale * math.copysign(math.log(max(1 - 2 * abs(u), 1e-300)), u)
