"""Frozen: reads the step function that the genome left, and prints its largest overlap with its complement.

nightlab runs it after the genome has ended, in a separate process. By hand: python step.py && python verify.py

``overlap`` is strict: values are cut to 0 and 1, and all are lowered, or raised, by the one factor that makes the
integral 1, in exact arithmetic; what is printed is no smaller. So it is an upper bound of Erdős's constant.
``tolerant`` is that of the values as they are, allowing a value outside, and an integral that is off, by up to
TOLERANCE. More is no answer.
"""

import json
import math
import os
import sys
from fractions import Fraction
from pathlib import Path

MOST_STEPS, TOLERANCE = 200, 1e-6
MOST = 100_000  # bytes of an answer


def read(path):
    """The values in a file, exactly. Raises ValueError for anything but 2 to 200 numbers between -10 and 10."""
    with path.open("rb") as file:
        text = file.read(MOST + 1)
    if len(text) > MOST:
        raise ValueError(f"{path.name} has more than {MOST:,} bytes")
    values = json.loads(text)
    if not isinstance(values, list) or not 2 <= len(values) <= MOST_STEPS:
        raise ValueError(f"{path.name} has to hold a list of 2 to {MOST_STEPS} values")
    for number, value in enumerate(values):
        if type(value) not in (int, float) or not -10 < value < 10:
            raise ValueError(f"value {number} is no number from 0 to 1: {str(value)[:80]!r}")
    return list(map(Fraction, values))


def violation(values):
    """By how much a value is outside 0 to 1, or the integral over [0, 2] is off, at most; zero where neither is."""
    return max(abs(2 * sum(values) / len(values) - 1), *(max(-h, h - 1, 0) for h in values))


def balanced(values):
    """The values from 0 to 1 with a mean of exactly 1/2, by cutting and one factor."""
    cut = [min(max(h, Fraction(0)), Fraction(1)) for h in values]
    mean = sum(cut) / len(cut)
    if mean > Fraction(1, 2):
        return [h / (2 * mean) for h in cut]
    return [1 - (1 - h) / (2 - 2 * mean) for h in cut]


def overlap(values):
    """The largest overlap with the complement, a fraction: it is at a shift by whole steps."""
    whole = math.lcm(*(h.denominator for h in values))  # fractions of one denominator: whole numbers, which are quick
    high = [int(h * whole) for h in values]
    low, size = [whole - h for h in high], len(high)
    sums = (sum(high[i] * low[i + k] for i in range(max(0, -k), min(size, size - k))) for k in range(1 - size, size))
    return Fraction(2 * max(sums), size * whole**2)


def no_less(exact):
    """The least float that is no smaller than a fraction."""
    near = float(exact)
    return near if Fraction(near) >= exact else math.nextafter(near, math.inf)


def main():
    try:
        values = read(Path(os.environ.get("NIGHTLAB_ARTEFACTS", ".")) / "steps.json")
        off = violation(values)
        if off > TOLERANCE:
            raise ValueError(f"a value is outside 0 to 1, or the integral is not 1, by {float(off):.3g}")
    except (OSError, OverflowError, ValueError, RecursionError) as error:
        print(f"no answer: {error}")
        sys.exit(4)
    print(f"METRIC violation={float(off)!r}")
    print(f"METRIC tolerant={float(overlap(values))!r}")
    print(f"METRIC overlap={no_less(overlap(balanced(values)))!r}")


if __name__ == "__main__":
    main()
