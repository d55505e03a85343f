"""The genome: place 11 points in a triangle so that the smallest triangle of any three is large. Writes points.json."""

import json
import os
import random
import time
from itertools import combinations
from pathlib import Path

N = 11                   # [fixed]
STARTS = 1               # arrangements that are tried [1..2000]

SEED = int(os.environ.get("NIGHTLAB_SEED", "0"))
UNTIL = 0.7 * float(os.environ.get("NIGHTLAB_BUDGET", "10"))


def arrange(draw, number):
    """Points of the triangle with the corners (0, 0), (1, 0), (0, 1): evenly spread at first, then at random."""
    spread = [((i + 0.5) / N, 0.414214 * i * i % 1) for i in range(N)]
    points = [(draw.random(), draw.random()) for _ in range(N)] if number else spread
    return [(x, y) if x + y < 1 else (1 - x, 1 - y) for x, y in points]


def smallest(points):
    """The area of the smallest triangle of three points, as a share of the whole one's."""
    triples = combinations(points, 3)
    return min(abs((b - x) * (d - y) - (c - x) * (a - y)) for (x, y), (b, a), (c, d) in triples)


def improve(points):
    """Better points near these: none are looked for yet."""
    return points


def main():
    draw, best = random.Random(SEED), None
    for number in range(STARTS):
        points = improve(arrange(draw, number))
        if best is None or smallest(points) > smallest(best):
            best = points
        if time.process_time() > UNTIL:
            break
    Path("points.json").write_text(json.dumps([[float(x), float(y)] for x, y in best]))


if __name__ == "__main__":
    main()
