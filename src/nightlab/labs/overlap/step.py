"""The genome: a step function on [0, 2] that overlaps its complement little, however shifted. Writes steps.json."""

import json
import math
import os
import random
import time
from pathlib import Path

STEPS = 50               # of equal width [8..200]
STARTS = 1               # functions that are tried [1..100]
JITTER = 0.1             # by how much a value is changed at random [0.01..0.5 log]

SEED = int(os.environ.get("NIGHTLAB_SEED", "0"))
UNTIL = 0.7 * float(os.environ.get("NIGHTLAB_BUDGET", "10"))


def start(draw, number):
    """One wave, high in the middle; all but the first are jittered."""
    wave = [0.5 - 0.5 * math.cos(2 * math.pi * (i + 0.5) / STEPS) for i in range(STEPS)]
    return balanced([min(max(h + draw.gauss(0, JITTER), 0), 1) for h in wave] if number else wave)


def balanced(values):
    """The values with a mean of 1/2, each from 0 to 1 still: all are lowered, or raised, by one factor."""
    mean = sum(values) / len(values)
    return [h * 0.5 / mean if mean > 0.5 else 1 - (1 - h) * 0.5 / (1 - mean) for h in values]


def overlap(values):
    """The largest overlap of the function with its complement: it is at a shift by whole steps."""
    import numpy as np

    h = np.array(values)
    return np.correlate(h, 1 - h, "full").max() * 2 / len(h)


def improve(values):
    """A better function near this one: none is looked for yet."""
    return values


def main():
    draw, best = random.Random(SEED), None
    for number in range(STARTS):
        values = improve(start(draw, number))
        if best is None or overlap(values) < overlap(best):
            best = values
        if time.process_time() > UNTIL:
            break
    Path("steps.json").write_text(json.dumps([float(h) for h in best]))


if __name__ == "__main__":
    main()
