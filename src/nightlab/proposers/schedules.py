"""Schedules: the values over training of the constants that may move, and how a population changes them.

Population-based training (Jaderberg et al. 2017): a member in the lower fifth goes on from one in the upper fifth, with
its constants perturbed (truncation selection). Here a member's values are a schedule over the parts of its training. A
perturbation changes what is left of it, so a member that ends has its own training written down as constants.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nightlab.core.config import LabConfig
from nightlab.core.program.constants import Constant, rounded
from nightlab.core.types import Metric
from nightlab.proposers.spaces import movable, space_of, value_at

QUANTILE = 0.2  # of the members: as many of the worst go on from one of as many of the best
FACTORS = (0.8, 1.2)  # a perturbed number is multiplied by one of these
RESAMPLE = 0.25  # chance that a constant is drawn anew instead
NONE_MOVES = "no constant of the genome is marked to move while it trains"
MARK = "let the hint beside an upper-case constant end in moves: LR = 0.1  # [0.001..1 log, moves]"

Schedule = dict[str, tuple[Any, ...]]
"""By name, the values of a constant in each part of the training."""
Space = Any
"""An Optuna distribution: what a constant may be."""


def moving_constants(text: str, device: str, lab: LabConfig) -> dict[str, tuple[Constant, Space]]:
    """The constants of a genome file that are marked to move and may change, each with what it may be."""
    found = {}
    for name, constant in movable(text, device, lab).items():
        if constant.moves:
            value = constant.value[0] if isinstance(constant.value, tuple) and constant.value else constant.value
            if (space := space_of(replace(constant, value=value), value)) is not None:
                found[name] = constant, space
    return found


def stretched(value: Any, parts: int) -> tuple[Any, ...]:
    """A constant's value as a schedule over this number of parts; one that is a schedule already keeps its course."""
    had = value if isinstance(value, tuple) else (value,)
    return tuple(had[part * len(had) // parts] for part in range(parts))


def drawn(spaces: Mapping[str, Space], parts: int, draw: random.Random) -> Schedule:
    """A schedule of values at random, the same in all parts."""
    return {name: (_sampled(space, draw),) * parts for name, space in sorted(spaces.items())}


def perturbed(schedule: Schedule, part: int, spaces: Mapping[str, Space], draw: random.Random) -> Schedule:
    """The schedule with what comes from ``part`` (from 1) on changed: each constant by a factor, or drawn anew."""
    found = dict(schedule)
    for name, space in sorted(spaces.items()):
        done, left = schedule[name][: part - 1], schedule[name][part - 1 :]
        if draw.random() < RESAMPLE:
            found[name] = done + (_sampled(space, draw),) * len(left)
        else:
            factor = draw.choice(FACTORS)
            other = _sampled(space, draw)  # of choices, which have no neighbours
            found[name] = done + tuple(_times(space, value, factor, other) for value in left)
    return found


def truncation(scores: Mapping[int, float], metric: Metric) -> tuple[set[int], list[int]]:
    """The members that should go on from another, and those to go on from, best first; of those that have a score.

    A fifth each, at least one as soon as there are two (as in Ray Tune's scheduler).
    """
    ranked = sorted(scores, key=lambda member: (-metric.gain(0.0, scores[member]), member))
    count = min(math.ceil(len(ranked) * QUANTILE), len(ranked) // 2)
    return set(ranked[len(ranked) - count :]), ranked[:count] or ranked[:1]


def _sampled(space: Space, draw: random.Random) -> Any:
    if hasattr(space, "choices"):
        return draw.choice(space.choices)
    return _within(space, value_at(space, draw.random()))


def _times(space: Space, value: Any, factor: float, other: Any) -> Any:
    """A value times a factor, within its range; an integer moves by one at least."""
    if hasattr(space, "choices"):
        return other
    moved = value * factor
    if isinstance(value, int) and round(moved) == value:
        moved = value + (1 if factor > 1 else -1)
    return _within(space, moved)


def _within(space: Space, value: float) -> Any:
    value = min(max(value, space.low), space.high)
    return round(value) if isinstance(space.low, int) else rounded(float(value))
