"""Frozen: reads the points that the genome left, and prints the largest distance over the smallest, squared.

nightlab runs it after the genome has ended, in a separate process. By hand: python place.py && python verify.py

Floats are fractions, so the ratio is exact; what is printed is no smaller. A point may be anywhere, so there is nothing
for a tolerance to allow.
"""

import json
import math
import os
import sys
from fractions import Fraction
from itertools import combinations
from pathlib import Path

N = 16
MOST = 100_000  # bytes of an answer


def read(path):
    """The points in a file, exactly. Raises ValueError for anything but N pairs of numbers between -1000 and 1000."""
    with path.open("rb") as file:
        text = file.read(MOST + 1)
    if len(text) > MOST:
        raise ValueError(f"{path.name} has more than {MOST:,} bytes")
    points = json.loads(text)
    if not isinstance(points, list) or len(points) != N:
        raise ValueError(f"{path.name} has to hold a list of {N} points")
    for number, point in enumerate(points):
        numbers = point if isinstance(point, list) else ()
        if len(numbers) != 2 or not all(type(c) in (int, float) and -1000 < c < 1000 for c in numbers):
            raise ValueError(f"point {number} is no x, y: {str(point)[:80]!r}")
    return [tuple(map(Fraction, point)) for point in points]


def squared_ratio(points):
    """The largest squared distance over the smallest, a fraction. Raises ValueError where two points are one."""
    squares = [(x - u) ** 2 + (y - v) ** 2 for (x, y), (u, v) in combinations(points, 2)]
    if not min(squares):
        raise ValueError("two points are one")
    return max(squares) / min(squares)


def no_less(exact):
    """The least float that is no smaller than a fraction."""
    near = float(exact)
    return near if Fraction(near) >= exact else math.nextafter(near, math.inf)


def main():
    try:
        found = no_less(squared_ratio(read(Path(os.environ.get("NIGHTLAB_ARTEFACTS", ".")) / "points.json")))
    except (OSError, OverflowError, ValueError, RecursionError) as error:
        print(f"no answer: {error}")
        sys.exit(4)
    print(f"METRIC squared_ratio={found!r}")


if __name__ == "__main__":
    main()
