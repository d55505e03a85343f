"""The genome: place 16 points so that the largest distance over the smallest is small. Writes points.json."""

import json
import math
import os
import random
import time
from itertools import combinations
from pathlib import Path

N = 16                   # [fixed]
STARTS = 1               # arrangements that are tried [1..2000]
JITTER = 0.5             # how far a point is moved at random, where the next is at 1.5 [0.05..2 log]

SEED = int(os.environ.get("NIGHTLAB_SEED", "0"))
UNTIL = 0.7 * float(os.environ.get("NIGHTLAB_BUDGET", "10"))


def arrange(draw, number):
    """A spiral like a sunflower's seeds; all but the first are jittered."""
    turns = [(math.sqrt(i + 0.5), 2.39996 * i) for i in range(N)]
    spiral = [(far * math.cos(angle), far * math.sin(angle)) for far, angle in turns]
    return [tuple(c + draw.gauss(0, JITTER) for c in point) for point in spiral] if number else spiral


def ratio(points):
    """The largest distance of two points over the smallest, squared."""
    squares = [(x - u) ** 2 + (y - v) ** 2 for (x, y), (u, v) in combinations(points, 2)]
    return max(squares) / min(squares)


def improve(points):
    """Better points near these: none are looked for yet."""
    return points


def main():
    draw, best = random.Random(SEED), None
    for number in range(STARTS):
        points = improve(arrange(draw, number))
        if best is None or ratio(points) < ratio(best):
            best = points
        if time.process_time() > UNTIL:
            break
    Path("points.json").write_text(json.dumps([[float(x), float(y)] for x, y in best]))


if __name__ == "__main__":
    main()
