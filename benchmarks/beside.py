"""What a trial loses to the trials before and after it: python benchmarks/beside.py [--runs 8] [--budget 20]

The language-model lab on a CPU, trials of one seed on a budget of CPU time, in turn alone, and as in a session: beside
the evaluation of the trial before, and then the start of the next one. A disturbed trial makes fewer steps in its CPU
time, or waits longer for it; what that costs is told in standard deviations of the metric from seed to seed.
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

BEFORE = 8.0  # CPU seconds of training of the trial before: long enough to start the measured one ahead


def trained(session: Session, name: str, seed: int, seconds: float, *, beside: bool) -> Measurement:
    """One trial, started ahead; ``beside``: it begins with the evaluation of the one before, and the next one is
    started ahead while it trains."""
    engine, trial = session.local_engine, Trial(name, 0, session.base, seed, "replay", Budget("cpu", seconds))
    before = engine.start(Trial(f"{name}-before", 0, session.base, 1, "replay", Budget("cpu", BEFORE)))
    while not (before.finished() or (beside and before.phase()[0] == "evaluating")):
        if before.phase()[0] == "training":
            engine.stand_by(trial, WHOLE)
        time.sleep(0.005)
    running = engine.start(trial)
    while not running.finished():
        if beside and running.phase()[0] == "training" and before.finished():
            engine.stand_by(trial, WHOLE)
        time.sleep(0.02)
    measured = [engine.collect(one) for one in (before, running)]
    engine.dismiss()
    if failed := [one for one in measured if "num_steps" not in one.claims or one.metric is None]:
        sys.exit(f"the trial {name} {failed[0].outcome}: {failed[0].detail}")
    return measured[1]


def row(name: str, values: Sequence[float]) -> tuple[str, ...]:
    error = statistics.stdev(values) / len(values) ** 0.5
    return name, *(f"{f(values):.4f}" for f in (statistics.median, statistics.mean)), f"{error:.4f}"


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--runs", type=int, default=8, help="pairs of trials, each of another seed")
    ask.add_argument("--budget", type=float, default=20, help="seconds of CPU time of a trial")
    wanted = ask.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = make_lab(Path(place) / "lab", "lm")
        subprocess.run([sys.executable, "prepare.py"], cwd=folder, check=True)
        session = Session.create(Repo(folder), "bench", device="cpu", allow=PROTECTIONS)
        if not leaves_a_core(WHOLE, "cpu", "cpu", session.lab.resources.cpus):
            sys.exit("This machine has no core to spare: nothing runs beside a trial's training.")
        pairs: list[dict[bool, Measurement]] = []
        for run in range(wanted.runs):
            name = {False: f"{run}-alone", True: f"{run}-beside"}
            order = (False, True) if run % 2 else (True, False)
            pairs.append({one: trained(session, name[one], run, wanted.budget, beside=one) for one in order})
        session.close()
    values = {one: [pair[one].metric or 0.0 for pair in pairs] for one in (False, True)}
    sigma = statistics.stdev(values[False])
    worse = [(b - a) / sigma for a, b in zip(values[False], values[True], strict=True)]
    heading(f"as in a session, beside alone: {wanted.runs} pairs of {wanted.budget:g} s of CPU; sigma {sigma:.4f}")
    table(
        ("", "median", "mean", "standard error"),
        [
            row(
                "steps in the CPU time, ratio",
                [p[True].claims["num_steps"] / p[False].claims["num_steps"] for p in pairs],
            ),
            row("wall clock of the whole trial, ratio", [p[True].wall_seconds / p[False].wall_seconds for p in pairs]),
            row("the metric, worse by so many sigma", worse),
        ],
    )


if __name__ == "__main__":
    main()
