"""Restates a packing of circles in the unit square strictly and tolerantly, whatever its evaluator allows."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Iterable
from typing import Any

from nightlab_bridge.values import WRAPPED, NotPlain, decode

Circle = tuple[float, float, float]
LOOSE = 1e-3  # a larger violation is no packing of the unit square that an evaluator could have meant
CIRCLES, DIGITS = 100, 64 * 1024  # most circles, and bytes of an answer, that are looked at
FORMATS = {"f8": "d", "f4": "f", "i8": "q", "i4": "i"}


def restated(answers: Iterable[bytes]) -> dict[str, float]:
    """The sum of radii of the last of these answers that is a packing, by ``packing/`` names; empty without one.

    ``strict``: all radii reduced by the least amount that makes the circles hold in exact arithmetic. ``tolerant``: as
    the program left them. ``violation``: by how much a radius is too large, at most.
    """
    for data in reversed([data for data in answers if len(data) <= DIGITS]):
        circles = circles_of(data)
        if circles and (too_large := violation(circles)) <= LOOSE and (sure := strict(circles)):
            told = {"tolerant": math.fsum(r for *_, r in circles), "strict": math.fsum(r for *_, r in sure)}
            return {f"packing/{name}": value for name, value in {"violation": max(too_large, 0.0), **told}.items()}
    return {}


def circles_of(data: bytes) -> list[Circle] | None:
    """The circles in an answer: rows of x, y, radius, or n centres beside n radii; None for anything else."""
    try:
        found = _rows(decode(data).get("value"))
        rows = found if _is_table(found, 3) else _beside(found)
        circles = [(float(x), float(y), float(r)) for x, y, r in rows]
    except (NotPlain, KeyError, TypeError, ValueError, OverflowError, RecursionError, struct.error):
        return None
    fine = all(math.isfinite(n) and abs(n) < 10 for circle in circles for n in circle)
    return circles if fine and 1 < len(circles) <= CIRCLES and all(r > 0 for *_, r in circles) else None


def _beside(found: Any) -> list[Any]:
    """Rows of centres and radii that stand beside each other. Raises ValueError where there are none."""
    parts = [part for part in found if isinstance(part, list)]
    for centres in (part for part in parts if _is_table(part, 2)):
        for radii in parts:
            if len(radii) == len(centres) and not any(isinstance(r, list) for r in radii):
                return [(*centre, r) for centre, r in zip(centres, radii, strict=True)]
    raise ValueError("no circles")


def _is_table(value: Any, columns: int) -> bool:
    return bool(value) and all(isinstance(row, list) and len(row) == columns for row in value)


def _rows(value: Any) -> Any:
    """A packed value with its arrays, tuples and dictionaries as lists."""
    if isinstance(value, list):
        return [_rows(item) for item in value]
    if not isinstance(value, dict):
        return value
    of: Any = value["of"]
    if value[WRAPPED] == "dict":
        return [_rows(item) for _, item in of]
    if value[WRAPPED] != "array":
        return [_rows(item) for item in of]
    raw, code = base64.b64decode(of["data"]), FORMATS[of["dtype"]]
    numbers = list(struct.unpack(f"<{len(raw) // struct.calcsize(code)}{code}", raw))
    if len(of["shape"]) != 2:
        return numbers
    wide = max(of["shape"][1], 1)
    return [numbers[at : at + wide] for at in range(0, len(numbers), wide)]


def violation(circles: list[Circle]) -> float:
    """By how much a radius is too large, at most: beyond a wall, or half an overlap."""
    walls = max(r - min(x, y, 1 - x, 1 - y) for x, y, r in circles)
    pairs = ((r + s - math.dist((x, y), (u, v))) / 2 for i, (x, y, r) in enumerate(circles) for u, v, s in circles[:i])
    return max(walls, *pairs)


def strict(circles: list[Circle]) -> list[Circle]:
    """The circles with radii reduced by as little as makes them hold exactly; empty if none is left of one."""
    less = max(violation(circles), 0.0)
    while not _holds(made := [(x, y, r - less) for x, y, r in circles]):
        less = max(1.5 * less, 1e-17)
        if less >= min(r for *_, r in circles):
            return []
    return made


def _holds(circles: list[Circle]) -> bool:
    ratios = [number.as_integer_ratio() for circle in circles for number in circle]
    unit = max(below for _, below in ratios)  # powers of two: whole numbers of 1 / unit are exact, and fast
    whole = [above * (unit // below) for above, below in ratios]
    exact = list(zip(whole[0::3], whole[1::3], whole[2::3], strict=True))
    inside = all(r > 0 and r <= x <= unit - r and r <= y <= unit - r for x, y, r in exact)
    return inside and all(
        (x - u) ** 2 + (y - v) ** 2 >= (r + s) ** 2 for i, (x, y, r) in enumerate(exact) for u, v, s in exact[:i]
    )
