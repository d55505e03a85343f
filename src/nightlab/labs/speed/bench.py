"""Frozen: calls the genome with points that it has never seen, checks each answer, and prints the time of a call.

nightlab runs it as the evaluator, in a separate process, which calls two of the genome's, one after the other.
By hand: python bench.py
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

POINTS, RADIUS, CALLS = 1200, 0.02, 6  # of a timed call, and how many of them in each process
# Not from the seed of the trial, which the genome knows too: it could work the answers out beforehand.
draw = random.SystemRandom()


def true_count(points, radius):
    """The pairs of points closer than a radius, by a grid of cells of that size."""
    count, cells = 0, {}
    for point in points if radius else ():
        column, row = int(point[0] // radius), int(point[1] // radius)
        near = ((c, r) for c in (column - 1, column, column + 1) for r in (row - 1, row, row + 1))
        count += sum(dist(point, other) < radius for cell in near for other in cells.get(cell, ()))
        cells.setdefault((column, row), []).append(point)
    return count


def calls():
    """Points and a radius of each call, and whether it is timed. What ``test_solve.py`` tests is among them, at random
    places: the function that is timed is the one that must be right there too."""
    some = [([(draw.random(), draw.random()) for _ in range(POINTS)], RADIUS, True) for _ in range(CALLS)]
    for size in (0, 1, 2, 50):
        points = [(draw.uniform(-1, 1), draw.uniform(-1, 1)) for _ in range(size)]
        some += [(points, radius, False) for radius in (0.0, 0.3, 5.0)]
    some.append(([(0.5, 0.5)] * 10, 0.1, False))
    draw.shuffle(some)
    return some


def served(process):
    """The genome's function in a process: one call, sent when the one before was answered."""
    link = nightlab_guest.Served(process=process)

    def call(points, radius):
        sent = array("d", [number for point in points for number in point] + [radius])
        return next(link.map([sent], "q", (1,)))[0]

    return call


def by_hand():
    from solve import close_pairs

    return close_pairs


seconds = []
for process in (0, 1):
    call = served(process) if nightlab_guest else by_hand()
    for points, radius, timed in calls():
        begun = time.perf_counter()
        try:
            found = call(points, radius)
        except Exception as error:
            print(f"no metric: {error}")
            sys.exit(4)
        if timed:
            seconds.append(time.perf_counter() - begun)
        if found != (wanted := true_count(points, radius)):
            print(f"a wrong answer: {found} pairs of {len(points)} points, there are {wanted} within {radius:g}")
            sys.exit(4)
# The median: one answer in eighty can be guessed, and the best of all calls would be that one.
print(f"METRIC milliseconds={statistics.median(seconds) * 1000:.4f}")
