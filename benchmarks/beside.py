"""What training loses to what works beside it on another core: python benchmarks/beside.py [--pairs 10] [--seeds 4]

The language-model lab on a CPU. One training goes on while two more, which yield as an evaluation does, run beside it
for some seconds and rest for some, in turn: steps for each second of its own CPU time, with over without. What so many
fewer steps cost is measured by whole runs with a tenth less of the budget, in standard deviations of the metric from
seed to seed. ``--beside``: seconds of a trial's training in which something works beside it.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import psutil
from lm import run
from machine import heading, table

from nightlab.engines.local.launch import YIELDS
from nightlab.session.create import make_lab

PART = 5.0  # seconds with, and without
LESS = 0.9  # of the budget
STEP = re.compile(rb"^step +(\d+)")


def train(folder: Path, *, nice: int = 0) -> subprocess.Popen[bytes]:
    """A training that goes on for long enough."""
    env = {**os.environ, "NIGHTLAB_CLOCK": "cpu", "NIGHTLAB_BUDGET": "100000", "NIGHTLAB_DEVICE": "cpu"}
    command = [sys.executable, "train.py"]
    return subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, preexec_fn=lambda: os.nice(nice))


def rates(folder: Path, pairs: int) -> list[tuple[bool, float]]:
    """Steps per second of CPU time of one training, in turn with others beside it and without."""
    subject, others = train(folder), [train(folder, nice=YIELDS) for _ in range(2)]
    try:
        for one in others:
            assert one.stdout
            one.stdout.readline()  # it has begun
            one.send_signal(signal.SIGSTOP)
        cpu, found, beside = psutil.Process(subject.pid), list[tuple[bool, float]](), False
        seen, until = list[tuple[int, float]](), time.monotonic() + PART
        assert subject.stdout
        for line in subject.stdout:
            if not (step := STEP.match(line)):
                continue
            seen.append((int(step[1]), sum(cpu.cpu_times()[:2])))
            if time.monotonic() < until:
                continue
            (first, begun), (last, ended) = seen[1], seen[-1]  # what came before the first is of both parts
            found.append((beside, (last - first) / (ended - begun)))
            if len(found) > 2 * pairs:
                return found
            seen, until, beside = [], time.monotonic() + PART, not beside
            for one in others:
                one.send_signal(signal.SIGCONT if beside else signal.SIGSTOP)
        sys.exit("train.py ended: run it by hand")
    finally:
        for one in (subject, *others):
            one.kill()
            one.wait()


def row(name: str, values: Sequence[float]) -> tuple[str, ...]:
    error = statistics.stdev(values) / len(values) ** 0.5
    return name, *(f"{f(values):.4f}" for f in (statistics.median, statistics.mean)), f"{error:.4f}"


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--pairs", type=int, default=10, help=f"parts of {PART:g} s with others beside it")
    ask.add_argument("--seeds", type=int, default=4, help="runs with the whole budget, and with less")
    ask.add_argument("--budget", type=float, default=10, help="seconds of CPU time of those")
    ask.add_argument("--beside", type=float, default=10, help="of these, with something beside them")
    wanted = ask.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = make_lab(Path(place) / "lab", "lm")
        subprocess.run([sys.executable, "prepare.py"], cwd=folder, check=True)
        found = rates(folder, wanted.pairs)

        def bits(seed: int, budget: float) -> float:
            told = {"NIGHTLAB_CLOCK": "cpu", "NIGHTLAB_BUDGET": f"{budget:g}", "NIGHTLAB_DEVICE": "cpu"}
            return run(folder, "train.py", **told, NIGHTLAB_SEED=str(seed))["val_bpb"]

        runs = [(bits(seed, wanted.budget), bits(seed, LESS * wanted.budget)) for seed in range(wanted.seeds)]
    sigma = statistics.stdev(whole for whole, _ in runs)
    heading(f"beside a training on a CPU; sigma of {wanted.budget:g} s is {sigma:.4f}")
    # Each part with others is compared with the parts without before and after it.
    ratios = [
        2 * b / (a + c) for (_, a), (beside, b), (_, c) in zip(found, found[1:], found[2:], strict=False) if beside
    ]
    lost = [(less - whole) / sigma for whole, less in runs]
    still = [b / a for (x, a), (y, b) in pairwise(found[::2]) if not (x or y)]
    rows = [
        row("steps in a second of CPU time, with over without", ratios),
        row("the same without, one part over the one before", still),
        row(f"a run with {1 - LESS:.0%} less of the budget: worse by so many sigma", lost),
    ]
    table(("", "median", "mean", "standard error"), rows)
    part = (1 - statistics.mean(ratios)) * wanted.beside / wanted.budget
    print(f"\na trial of {wanted.budget:g} s, {wanted.beside:g} of them with others: {part:.2%} fewer steps,", end=" ")
    print(f"{part / (1 - LESS) * statistics.mean(lost):.2f} sigma")


if __name__ == "__main__":
    main()
