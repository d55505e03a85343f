"""How the time of some work grows with what it works on."""

from __future__ import annotations

import time
from collections.abc import Callable


def growth(work: Callable[[str], object], make: Callable[[int], str], size: int) -> float:
    """How many times longer four times the size takes, in seconds of CPU: 4 if linear, 16 if quadratic."""

    def least(text: str) -> float:
        taken = []
        for _ in range(3):
            begun = time.process_time()
            work(text)
            taken.append(time.process_time() - begun)
        return min(taken)

    return least(make(4 * size)) / max(least(make(size)), 1e-4)
