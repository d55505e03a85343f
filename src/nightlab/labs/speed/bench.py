"""Frozen: calls the genome with points that it has never seen, checks each answer, and prints the time of a call.

nightlab runs it as the evaluator, in a process of its own. By hand: python bench.py
"""

import random
import statistics
import sys
import time
from array import array
from math import dist

try:
    import nightlab_guest
except ImportError:
    nightlab_guest = None

POINTS, RADIUS, CALLS = 1200, 0.02, 11
# Not from the seed of the trial, which the genome knows too: it could work the answers out beforehand.
draw = random.SystemRandom()


def true_count(points):
    """The pairs of points closer than RADIUS, by a grid of cells of that size."""
    count, cells = 0, {}
    for point in points:
        column, row = int(point[0] // RADIUS), int(point[1] // RADIUS)
        near = ((c, r) for c in (column - 1, column, column + 1) for r in (row - 1, row, row + 1))
        count += sum(dist(point, other) < RADIUS for cell in near for other in cells.get(cell, ()))
        cells.setdefault((column, row), []).append(point)
    return count


def served():
    """The genome's function in the candidate's process: one call, sent when the one before was answered."""
    link = nightlab_guest.Served()

    def call(points):
        sent = array("d", [number for point in points for number in point] + [RADIUS])
        return next(link.map([sent], "q", (1,)))[0]

    return call


def by_hand():
    from solve import close_pairs

    return lambda points: close_pairs(points, RADIUS)


call = served() if nightlab_guest else by_hand()
seconds = []
for _ in range(CALLS):
    points = [(draw.random(), draw.random()) for _ in range(POINTS)]
    begun = time.perf_counter()
    try:
        found = call(points)
    except Exception as error:
        print(f"no metric: {error}")
        sys.exit(4)
    seconds.append(time.perf_counter() - begun)
    if found != (wanted := true_count(points)):
        print(f"a wrong answer: {found} pairs, there are {wanted}")
        sys.exit(4)
# The median: one answer in eighty can be guessed, and the best of all calls would be that one.
print(f"METRIC milliseconds={statistics.median(seconds) * 1000:.4f}")
