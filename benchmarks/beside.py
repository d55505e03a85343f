"""What a trial that trains loses to the start of the next one beside it: python benchmarks/beside.py [--runs 8]

The language-model lab on a CPU, whole trials of one seed on a budget of CPU time, in turn with the next one started
ahead while they train, and without. A disturbed trial makes fewer steps in its CPU time, or waits longer for it.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from machine import heading, table

from nightlab.core.types import Budget, Measurement, Trial
from nightlab.engines.slots import WHOLE, leaves_a_core
from nightlab.sandbox.bubblewrap import PROTECTIONS
from nightlab.session.create import make_lab
from nightlab.session.session import Session
from nightlab.storage.git import Repo


def trained(session: Session, name: str, seconds: float, *, beside: bool) -> Measurement:
    """One trial; ``beside``: the next one is started ahead as soon as it trains."""
    engine = session.local_engine
    trial = Trial(name, 0, session.base, 1, "replay", Budget("cpu", seconds))
    running = engine.start(trial)
    while not running.finished():
        if beside and running.phase()[0] == "training":
            engine.stand_by(trial, WHOLE)
        time.sleep(0.02)
    measured = engine.collect(running)
    engine.dismiss()
    if "num_steps" not in measured.claims:
        sys.exit(f"the trial {name} {measured.outcome}: {measured.detail}")
    return measured


def row(name: str, values: Sequence[float]) -> tuple[str, ...]:
    error = statistics.stdev(values) / len(values) ** 0.5
    return name, *(f"{f(values):.4f}" for f in (statistics.median, statistics.mean)), f"{error:.4f}"


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--runs", type=int, default=8, help="pairs of trials")
    ask.add_argument("--budget", type=float, default=20, help="seconds of CPU time of a trial")
    wanted = ask.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = make_lab(Path(place) / "lab", "lm")
        subprocess.run([sys.executable, "prepare.py"], cwd=folder, check=True)
        session = Session.create(Repo(folder), "bench", device="cpu", allow=PROTECTIONS)
        if not leaves_a_core(WHOLE, "cpu", "cpu", session.lab.resources.cpus):
            sys.exit("This machine has no core to spare: nothing is started ahead while a trial trains.")
        steps, waits = [], []
        for run in range(wanted.runs):
            both = {}
            for beside in (False, True) if run % 2 else (True, False):
                both[beside] = trained(
                    session, f"{run}-{'beside' if beside else 'alone'}", wanted.budget, beside=beside
                )
            steps.append(both[True].claims["num_steps"] / both[False].claims["num_steps"])
            waits.append(both[True].wall_seconds / both[False].wall_seconds)
        session.close()
    heading(
        f"with the next trial started ahead beside it, over without: {wanted.runs} pairs of {wanted.budget:g} s of CPU"
    )
    table(
        ("", "median", "mean", "standard error"),
        [row("steps in the CPU time", steps), row("wall clock of the whole trial", waits)],
    )


if __name__ == "__main__":
    main()
