"""Frozen: reads the circles that the genome left, verifies them exactly, and prints the sum of their radii.

nightlab runs it after the genome has ended, in a separate process. By hand: python pack.py && python verify.py

Two values are printed. ``sum_of_radii`` is strict: every radius is reduced by the same amount, as little as makes all
circles lie inside the square without overlap, in exact arithmetic. ``tolerant`` is the sum as it is left, allowing
violations up to TOLERANCE, which is how many published figures are checked. A larger violation is no packing.
"""

import json
import math
import os
import sys
from fractions import Fraction
from pathlib import Path

N, TOLERANCE = 26, 1e-6
MOST = 100_000  # bytes of an answer


def read(path):
    """The circles in a file, as x, y and radius. Raises ValueError for anything but N triples of finite numbers."""
    with path.open("rb") as file:
        text = file.read(MOST + 1)
    if len(text) > MOST:
        raise ValueError(f"circles.json has more than {MOST:,} bytes")
    circles = json.loads(text)
    if not isinstance(circles, list) or len(circles) != N:
        raise ValueError(f"circles.json has to hold a list of {N} circles")
    for number, circle in enumerate(circles):
        numbers = circle if isinstance(circle, list) else ()
        good = len(numbers) == 3 and all(isinstance(c, (int, float)) and not isinstance(c, bool) for c in numbers)
        if not good or not all(math.isfinite(c) and abs(c) < 10 for c in numbers):
            raise ValueError(f"circle {number} is no x, y, radius: {str(circle)[:80]!r}")
        if circle[2] <= 0:
            raise ValueError(f"circle {number} has the radius {circle[2]}")
    return [tuple(map(float, circle)) for circle in circles]


def violation(circles):
    """By how much a radius is too large, at most: beyond a wall, or half an overlap. Negative where there is room."""
    walls = max(r - min(x, y, 1 - x, 1 - y) for x, y, r in circles)
    pairs = max(
        (r + s - math.dist((x, y), (u, v))) / 2 for i, (x, y, r) in enumerate(circles) for u, v, s in circles[:i]
    )
    return max(walls, pairs)


def holds(circles):
    """Whether all circles lie inside the square and none overlap: exactly, as floats are fractions."""
    exact = [tuple(map(Fraction, circle)) for circle in circles]
    inside = all(r > 0 and r <= x <= 1 - r and r <= y <= 1 - r for x, y, r in exact)
    return inside and all(
        (x - u) ** 2 + (y - v) ** 2 >= (r + s) ** 2 for i, (x, y, r) in enumerate(exact) for u, v, s in exact[:i]
    )


def strict(circles):
    """The circles with radii reduced by as little as makes them hold exactly. Raises ValueError if none is left."""
    less = max(violation(circles), 0.0)
    while not holds(made := [(x, y, r - less) for x, y, r in circles]):
        less = max(1.5 * less, 1e-17)
        if less >= min(r for _, _, r in circles):
            raise ValueError("a circle is smaller than what its radius is too large by")
    return made


def main():
    try:
        circles = read(Path(os.environ.get("NIGHTLAB_ARTEFACTS", ".")) / "circles.json")
        too_large = violation(circles)
        if too_large > TOLERANCE:
            raise ValueError(f"circles overlap or leave the square: a radius is {too_large:.3g} too large")
        sure = strict(circles)
    except (OSError, ValueError, RecursionError) as error:
        print(f"no packing: {error}")
        sys.exit(4)
    print(f"METRIC violation={max(too_large, 0.0)!r}")
    print(f"METRIC tolerant={math.fsum(r for _, _, r in circles)!r}")
    print(f"METRIC sum_of_radii={math.fsum(r for _, _, r in sure)!r}")


if __name__ == "__main__":
    main()
