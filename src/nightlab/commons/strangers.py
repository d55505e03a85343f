"""How strangers' claims held here, by their size. Pure.

Names cost nothing, so what a stranger's claim is worth is learned from all strangers together: claims of one size, in
whole sigmas, have one record for all authors. However many names a liar has, a few failed claims of a size put all
strangers' claims of that size behind the others. Which size has the next turn is drawn by Thompson sampling (1933).
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping

from nightlab.commons.second_hand import visible
from nightlab.commons.trust import PeerVerdict, Trust, weigh

LARGEST = 6  # sigmas; claims that are larger count as one size


def size_of(claimed: float, sigma: float) -> int:
    """The size of a claimed gain: the whole ``sigma`` in it, at most ``LARGEST``."""
    sigmas = claimed / sigma if sigma else claimed * math.inf
    return int(min(sigmas, LARGEST)) if sigmas > 0 else 0


def records(first: Iterable[tuple[int, PeerVerdict]], now: float) -> dict[int, Trust]:
    """The record of each size of claims. ``first``: each author's first claim that was measured here, with its size."""
    found: dict[int, Trust] = {}
    for size, verdict in first:
        known, (good, bad) = found.get(size, Trust()), weigh(verdict, now)
        found[size] = Trust(known.good + good, known.bad + bad)
    return found


def draw_ranks(known: Mapping[int, Trust], draw: random.Random) -> list[float]:
    """The rank of each size for one turn, the largest first: how probable such a gain is, by its noise and record."""
    return [
        visible(size / math.sqrt(2)) * draw.betavariate(one.good, one.bad)
        for size, one in ((size, known.get(size, Trust())) for size in range(LARGEST + 1))
    ]
