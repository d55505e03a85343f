"""How the time of some work grows with what it works on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

ROUNDS, SURE = 12, 8.0


def growth(work: Callable[[str], object], make: Callable[[int], str], size: int) -> float:
    """How many times longer four times the size takes, in seconds of CPU: 4 if linear, 16 if quadratic.

    Of the least time of each, in turn: three rounds, and more where a busy machine may be why it is much.
    """
    texts, least, ratio = (make(size), make(4 * size)), [math.inf, math.inf], math.inf
    for done in range(ROUNDS):
        for n, text in enumerate(texts):
            begun = time.process_time()
            work(text)
            least[n] = min(least[n], time.process_time() - begun)
        ratio = least[1] / max(least[0], 1e-4)
        if done >= 2 and ratio < SURE:
            break
    return ratio
