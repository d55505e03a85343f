"""What the sealed box costs: python benchmarks/box.py [--runs 5]

One program, the language-model lab's train.py at a fixed amount of work, run in turn as bare ``python train.py`` (which
evaluates in its own process) and as a trial: exported, supervised, sandboxed, evaluated by a process of its own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import heading, table

from nightlab.core.types import Budget, Trial
from nightlab.sandbox.bubblewrap import PROTECTIONS
from nightlab.session.create import make_lab
from nightlab.session.session import Session
from nightlab.storage.git import Repo


def bare(folder: Path, budget: Budget) -> float:
    env = {
        **os.environ,
        "NIGHTLAB_CLOCK": budget.clock,
        "NIGHTLAB_BUDGET": f"{budget.amount:.0f}",
        "NIGHTLAB_SEED": "1",
    }
    begun = time.perf_counter()
    subprocess.run([sys.executable, "train.py"], cwd=folder, env=env, check=True, capture_output=True)
    return time.perf_counter() - begun


def boxed(session: Session, budget: Budget, number: int) -> float:
    trial = Trial(f"bench-{number}", 0, session.base, 1, "replay", budget)
    begun = time.perf_counter()
    running = session.local_engine.start(trial)
    while not running.finished():
        time.sleep(0.005)
    measurement = session.local_engine.collect(running)
    if measurement.outcome != "measured":
        sys.exit(f"the trial {measurement.outcome}: {measurement.detail}")
    return time.perf_counter() - begun


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--runs", type=int, default=5)
    ask.add_argument("--work", type=int, default=230_000, help="tokens of training; about 20 s on a small CPU")
    wanted = ask.parse_args()
    budget = Budget("work", wanted.work)
    with tempfile.TemporaryDirectory() as place:
        folder = make_lab(Path(place) / "lab", "lm")
        subprocess.run([sys.executable, "prepare.py"], cwd=folder, check=True)
        session = Session.create(Repo(folder), "bench", device="cpu", allow=PROTECTIONS)
        pairs = []
        for number in range(wanted.runs + 1):
            pair = bare(folder, budget), boxed(session, budget, number)
            if number:  # the first pair warms the caches
                pairs.append(pair)
        session.close()
    heading(f"the cost of the box ({session.sandbox.name}), {wanted.work:,} tokens of training, {wanted.runs} pairs")
    ratios = [b / a for a, b in pairs]
    rows = [
        ("python train.py, seconds", *(f"{f([a for a, _ in pairs]):.2f}" for f in (min, statistics.median, max))),
        ("a trial in the box, seconds", *(f"{f([b for _, b in pairs]):.2f}" for f in (min, statistics.median, max))),
        ("ratio, pair by pair", *(f"{f(ratios):.3f}" for f in (min, statistics.median, max))),
    ]
    table(("", "min", "median", "max"), rows)


if __name__ == "__main__":
    main()
