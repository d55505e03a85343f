"""The search space of a genome: what values its constants may take, by their hints, their types and their names."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from nightlab.core.config import LabConfig
from nightlab.core.program.constants import RANGE, Constant, find_constants
from nightlab.core.regions import regions
from nightlab.core.source import SEED_NAME
from nightlab.proposers.proposer import Briefing

MOST = 100  # constants that are tuned, the first ones: an estimator's time grows with them
SCALE = 4.0  # factor by which a constant without a hint may differ from its baseline value, either way


def find_spaces(
    genome: Mapping[str, str], briefing: Briefing
) -> tuple[str, str, dict[str, Constant], dict[str, Any]] | None:
    """The first genome file with constants that may move: path, text, these constants, and the spaces of at most 100.

    A space is an Optuna distribution around the baseline's value. None when no file has any.
    """
    baseline = briefing.history[0].candidate.constants
    for path, text in genome.items():
        constants = movable(text, briefing.device, briefing.lab)
        found = ((n, space_of(c, baseline.get(n, c.value))) for n, c in constants.items())
        if spaces := dict(islice(((n, space) for n, space in found if space), MOST)):
            return path, text, constants, spaces
    return None


def movable(text: str, device: str, lab: LabConfig | None) -> dict[str, Constant]:
    """The constants of a genome file that may change: all, or those in its regions."""
    found = find_constants(text, device)
    bounds = regions(text, lab.between if lab else None)
    return {name: constant for name, constant in found.items() if bounds is None or constant.line in bounds.free}


def space_of(constant: Constant, centre: Any) -> Any:
    """A constant's range as an Optuna distribution; None if it must not be tuned, or its hint makes no sense."""
    try:
        return _distribution(constant, centre)
    except (ValueError, OverflowError):  # e.g. [e..1], [9..1], [0..1 log]
        return None


def value_at(space: Any, part: float) -> float:
    """The value at a part of a range, 0 to 1, on the scale of the range."""
    if space.log:
        return float(space.low * (space.high / space.low) ** part)
    return float(space.low + part * (space.high - space.low))


def _distribution(constant: Constant, centre: Any) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    hint, value = constant.hint, constant.value
    if isinstance(value, tuple) or hint == "fixed" or SEED_NAME.search(constant.name):  # seeds belong to the engine
        return None
    if found := RANGE.match(hint):
        low, high, log = float(found[1]), float(found[2]), bool(found[3])
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        if isinstance(value, int):
            return IntDistribution(int(low), int(high), log=log)
        return FloatDistribution(low, high, log=log)
    if "|" in hint:
        choices = [_literal(choice.strip(), value) for choice in hint.split("|")]
        return CategoricalDistribution(choices if value in choices else [value, *choices])
    if isinstance(value, bool):
        return CategoricalDistribution([False, True])
    if isinstance(centre, bool) or not isinstance(centre, (int, float)) or isinstance(value, str):
        return None
    if isinstance(value, float):
        if centre <= 0:
            return None
        high = min(centre * SCALE, 1.0) if 0 < centre < 1 and constant.name.endswith(FRACTIONS) else centre * SCALE
        return FloatDistribution(centre / SCALE, high, log=True)
    if isinstance(value, int) and isinstance(centre, int) and centre > 0:
        if centre >= 16 and centre & (centre - 1) == 0:
            return CategoricalDistribution([centre // 4, centre // 2, centre, centre * 2, centre * 4])
        return IntDistribution(max(1, centre // 2), max(centre * 2, centre + 2))
    return None


FRACTIONS = ("RATIO", "FRACTION", "BETA", "BETA1", "BETA2", "MOMENTUM", "DROPOUT", "WARMDOWN", "WARMUP")


def _literal(word: str, like: Any) -> Any:
    """A choice in a hint, converted to the constant's type."""
    if isinstance(like, str):
        return word.strip("\"'")
    if isinstance(like, bool):
        return word == "True"
    return type(like)(float(word)) if isinstance(like, (int, float)) else word
