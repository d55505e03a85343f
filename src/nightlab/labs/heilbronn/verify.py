"""Frozen: reads the points that the genome left, and prints the smallest triangle of any three of them.

nightlab runs it after the genome has ended, in a separate process. By hand: python place.py && python verify.py

Areas are shares of the whole triangle's. ``area`` is strict: the whole triangle grows until it has all points, in exact
arithmetic; what is printed is no larger. ``tolerant`` is the area in the triangle as it is, allowing points outside by
up to TOLERANCE, which is how published figures are often checked. A point further out is no answer, nor are three
points on a line.
"""

import json
import math
import os
import sys
from fractions import Fraction
from itertools import combinations
from pathlib import Path

N, TOLERANCE = 11, 1e-6
MOST = 100_000  # bytes of an answer


def read(path):
    """The points in a file, exactly. Raises ValueError for anything but N pairs of numbers between -10 and 10."""
    with path.open("rb") as file:
        text = file.read(MOST + 1)
    if len(text) > MOST:
        raise ValueError(f"{path.name} has more than {MOST:,} bytes")
    points = json.loads(text)
    if not isinstance(points, list) or len(points) != N:
        raise ValueError(f"{path.name} has to hold a list of {N} points")
    for number, point in enumerate(points):
        numbers = point if isinstance(point, list) else ()
        if len(numbers) != 2 or not all(type(c) in (int, float) and -10 < c < 10 for c in numbers):
            raise ValueError(f"point {number} is no x, y: {str(point)[:80]!r}")
    return [tuple(map(Fraction, point)) for point in points]


def violation(points):
    """By how much a point is outside, at most; zero where none is."""
    return max(0, *(max(-x, -y, x + y - 1) for x, y in points))


def smallest(points):
    """The smallest area of three points, as a share of the triangle with the corners (0, 0), (1, 0), (0, 1)."""
    triples = combinations(points, 3)
    return min(abs((b - x) * (d - y) - (c - x) * (a - y)) for (x, y), (b, a), (c, d) in triples)


def strict(points):
    """The smallest area as a share of the least triangle of that shape around all points and the given one."""
    left, low = (min(0, *axis) for axis in zip(*points, strict=True))
    side = max(1, *(x + y for x, y in points)) - left - low
    return smallest(points) / side**2


def no_more(exact):
    """The largest float that is no larger than a fraction."""
    near = float(exact)
    return near if Fraction(near) <= exact else math.nextafter(near, -math.inf)


def main():
    try:
        points = read(Path(os.environ.get("NIGHTLAB_ARTEFACTS", ".")) / "points.json")
        outside = violation(points)
        if outside > TOLERANCE:
            raise ValueError(f"a point is {float(outside):.3g} outside the triangle")
        if not smallest(points):
            raise ValueError("three points are on a line, or two are one")
    except (OSError, OverflowError, ValueError, RecursionError) as error:
        print(f"no answer: {error}")
        sys.exit(4)
    print(f"METRIC violation={float(outside)!r}")
    print(f"METRIC tolerant={float(smallest(points))!r}")
    print(f"METRIC area={no_more(strict(points))!r}")


if __name__ == "__main__":
    main()
