"""Frozen: calls the genome with series that it has never seen, checks each answer, and prints the time of a call.

nightlab runs it as the evaluator, in a separate process, which calls two of the genome's, one after the other.
By hand: python bench.py
"""

import secrets
import statistics
import sys
import time
from array import array

import numpy as np

try:
    import nightlab_guest
except ImportError:
    nightlab_guest = None

SIZE, WIDTH, CALLS, CLOSE = 20_000, 301, 7, 1e-9  # of a timed call; timed calls of each process; the tolerance
# Of calls that are not timed: the size, the width, the share that is missing.
OTHERS = (1, 1, 0.0), (1, 9, 1.0), (2, 9, 0.5), (50, 201, 0.3), (3000, 1, 0.1), (3000, 301, 0.9), (3000, 7, 1.0)
# Not from the seed of the trial, which the genome knows too: it could work the answers out beforehand.
draw = np.random.default_rng(secrets.randbits(128))


def series(size, missing):
    """Values around a level that may be far from zero, some of them missing."""
    made = draw.normal(draw.choice([0.0, 1e6]), 1.0, size)
    made[draw.random(size) < missing] = np.nan
    return made


def calls():
    """A series and a width of each call, and whether it is timed: those that are not come at random places."""
    some = [(series(SIZE, 0.1), WIDTH, True) for _ in range(CALLS)]
    for size, width, missing in OTHERS:
        some.append((series(size, missing), width, False))
    draw.shuffle(order := np.arange(len(some)))
    return [some[index] for index in order]


def truth(numbers, width):
    """The moving mean by sums of everything before, of how far each is from the level: exact enough to judge by."""
    there, half = ~np.isnan(numbers), width // 2
    level = np.nanmedian(numbers) if there.any() else 0.0
    before = np.concatenate([[0], np.cumsum(np.where(there, numbers - level, 0), dtype=np.longdouble)])
    counts = np.concatenate([[0], np.cumsum(there)])
    first = np.maximum(np.arange(len(numbers)) - half, 0)
    last = np.minimum(np.arange(len(numbers)) + half + 1, len(numbers))
    count = counts[last] - counts[first]
    sums = np.asarray(before[last] - before[first], dtype=float)
    return np.where(count > 0, level + sums / np.maximum(count, 1), np.nan)


def agree(found, numbers, width):
    wanted = truth(numbers, width)
    scale = np.nanmax(np.abs(numbers)) if (~np.isnan(numbers)).any() else 1.0
    near = np.abs(found - wanted) <= CLOSE * scale
    return bool((near | (np.isnan(found) & np.isnan(wanted))).all())


def served(process):
    """The genome's function in a process: one call, sent when the one before was answered."""
    link = nightlab_guest.Served(process=process)
    return lambda sent: next(link.map([sent], "d", (len(sent) - 1,)))


def by_hand():
    import build

    smooth = build.loaded(build.compiled())
    return lambda sent: smooth(sent[:-1], int(sent[-1]))


def main():
    seconds = []
    for process in (0, 1):
        call = served(process) if nightlab_guest else by_hand()
        for numbers, width, timed in calls():
            sent = array("d", numbers.tobytes() + array("d", [width]).tobytes())
            begun = time.perf_counter()
            try:
                found = call(sent)
            except Exception as error:
                print(f"no metric: {error}")
                sys.exit(4)
            if timed:
                seconds.append(time.perf_counter() - begun)
            if not agree(np.frombuffer(found, dtype=float), numbers, width):
                print(f"a wrong answer for {len(numbers):,} values and a width of {width}")
                sys.exit(4)
    print(f"METRIC milliseconds={statistics.median(seconds) * 1000:.4f}")


if __name__ == "__main__":
    main()
