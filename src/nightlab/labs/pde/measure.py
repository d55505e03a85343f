"""Frozen: has the genome solve an equation from starts that it has never seen; prints its time and its largest error.

The truth is computed here: ETDRK4 (Kassam and Trefethen 2005, doi:10.1137/S1064827502410633) at a small step. nightlab
runs this file as the evaluator, in a separate process. By hand: python measure.py
"""

import math
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

POINTS, LENGTH, END, STARTS, FINE = 64, 22.0, 5.0, 16, 1 / 64
AGAIN, SAME = 8, 1e-6  # starts that a second process is asked again, and by how much an answer may differ there
# Not from the seed of the trial, which the genome knows too: it could work the answers out beforehand.
draw = np.random.default_rng(secrets.randbits(128))


def start():
    """Four waves of random height and place."""
    x = 2 * np.pi * np.arange(POINTS) / POINTS
    return sum(np.dot(draw.normal(size=2) / k, [np.cos(k * x), np.sin(k * x)]) for k in range(1, 5))


def truth(values, step=FINE):
    """The solution at the end, with a relative error of less than 1e-6."""
    waves = 2 * np.pi * np.fft.rfftfreq(POINTS, LENGTH / POINTS)
    z = step * (waves**2 - waves**4)
    around = z[:, None] + np.exp(1j * np.pi * (np.arange(32) + 0.5) / 32)  # means over a circle: no cancellation
    grown = np.exp(around)
    half = step * np.mean((np.exp(around / 2) - 1) / around, axis=1).real
    first = step * np.mean((-4 - around + grown * (4 - 3 * around + around**2)) / around**3, axis=1).real
    second = step * np.mean((2 + around + grown * (around - 2)) / around**3, axis=1).real
    third = step * np.mean((-4 - 3 * around - around**2 + grown * (4 - around)) / around**3, axis=1).real
    whole, part = np.exp(z), np.exp(z / 2)

    def bent(state):
        return -0.5j * waves * np.fft.rfft(np.fft.irfft(state, POINTS) ** 2)

    state = np.fft.rfft(values)
    for _ in range(round(END / step)):
        n = bent(state)
        a = part * state + half * n
        n_a = bent(a)
        n_b = bent(part * state + half * n_a)
        n_c = bent(part * a + half * (2 * n_b - n))
        state = whole * state + first * n + 2 * second * (n_a + n_b) + third * n_c
    return np.fft.irfft(state, POINTS)


def error(found, values):
    """The distance of an answer from the truth, as a share of the truth's size; infinity for what is no number."""
    wanted = truth(values)
    with np.errstate(over="ignore"):
        away = float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
    return away if math.isfinite(away) else math.inf


def served(process):
    """The genome's solver in a process: one call, sent when the one before was answered."""
    link = nightlab_guest.Served(process=process)
    return lambda values: next(link.map([array("d", [*values, LENGTH, END])], "d", (POINTS,)))


def by_hand():
    import solver

    return lambda values: solver.solve(values, LENGTH, END)


def main():
    starts, solutions, seconds, errors = [start() for _ in range(STARTS)], {}, [], []
    order = [(0, number) for number in range(STARTS)] + [(1, number) for number in draw.permutation(STARTS)[:AGAIN]]
    for turn, (process, number) in enumerate(order):
        if turn in (0, STARTS):
            call = served(process) if nightlab_guest else by_hand()
        values, begun = starts[number], time.perf_counter()
        try:
            found = call(values)
        except Exception as fault:
            print(f"no metric: {fault}")
            sys.exit(4)
        seconds.append(time.perf_counter() - begun)
        solution = np.array(np.frombuffer(found, dtype=float))  # a copy: an answer is valid until the next one
        errors.append(error(solution, values))
        first = solutions.setdefault(number, solution)
        if np.linalg.norm(solution - first) > SAME * np.linalg.norm(first):
            print("an answer is another one in another process, where it is asked in another order")
            sys.exit(3)
    if max(errors) == math.inf:
        print("no metric: an answer that is no number; a step that is too long does not converge")
        sys.exit(4)
    print(f"METRIC error={max(errors):.3e}")
    print(f"METRIC milliseconds={statistics.median(seconds) * 1000:.4f}")


if __name__ == "__main__":
    main()
