"""From the go to the end of the first training step: python benchmarks/start.py [--runs 5]

The language-model lab's train.py with one step to do, in turn as bare ``python train.py``, as a trial in the box, and
as a trial in the box that was started ahead. The clock of a trial runs from the orchestrator's decision: making its
copies of the lab is in it.
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

import psutil
from machine import heading, table

from nightlab.core.types import Budget, Trial
from nightlab.engines.local.layout import GUEST
from nightlab.engines.slots import WHOLE
from nightlab.sandbox.bubblewrap import PROTECTIONS
from nightlab.session.create import make_lab
from nightlab.session.session import Session
from nightlab.storage.git import Repo

STEP = Budget("work", 1)


def bare(folder: Path, device: str) -> float:
    """Cold: until the program says that its training is over."""
    said, says = os.pipe()
    env = {
        **os.environ,
        "PYTHONPATH": str(GUEST),
        "NIGHTLAB_ROLE": "candidate",
        "NIGHTLAB_CONTROL": str(says),
        "NIGHTLAB_DEVICE": device,
        "NIGHTLAB_CLOCK": STEP.clock,
        "NIGHTLAB_BUDGET": "1",
        "NIGHTLAB_SEED": "1",
    }
    begun = time.time()
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        [sys.executable, "train.py"], cwd=folder, env=env, pass_fds=[says], stdout=quiet, stderr=quiet
    ) as process:
        os.close(says)
        heard = b""
        while b"serve" not in heard:
            if not (more := os.read(said, 100)):
                sys.exit("train.py ended before it had trained: run it by hand")
            heard += more
        took = time.time() - begun
        process.kill()
    os.close(said)
    return took


def boxed(session: Session, name: str, *, ahead: bool) -> float:
    trial = Trial(name, 0, session.base, 1, "replay", STEP)
    if ahead:
        session.local_engine.stand_by(trial, WHOLE)
        [ready] = session.local_engine.standing_by.values()
        _until_calm(psutil.Process(ready.process.pid))
    begun = time.time()
    running = session.local_engine.start(trial)
    while (phase := running.phase())[0] != "evaluating" and not running.finished():
        time.sleep(0.002)
    if phase[1] is None or phase[0] != "evaluating":
        sys.exit(f"the trial {session.local_engine.collect(running).detail}")
    took = phase[1] - begun
    running.stop()
    while not running.finished():
        time.sleep(0.01)
    session.local_engine.collect(running)
    return took


def _until_calm(tree: psutil.Process) -> None:
    """Wait until what stands by has imported what it was told to."""
    before = -1.0
    while True:
        time.sleep(0.7)
        now = sum(sum(p.cpu_times()[:2]) for p in tree.children(recursive=True))
        if now == before:
            return
        before = now


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--runs", type=int, default=5)
    wanted = ask.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = make_lab(Path(place) / "lab", "lm")
        subprocess.run([sys.executable, "prepare.py"], cwd=folder, check=True)
        session = Session.create(Repo(folder), "bench", allow=PROTECTIONS)
        times: dict[str, list[float]] = {"python train.py": [], "a trial in the box": [], "the same, started ahead": []}
        for run in range(wanted.runs + 1):
            found = (
                bare(folder, session.device),
                boxed(session, f"cold-{run}", ahead=False),
                boxed(session, f"ahead-of-{run}", ahead=True),
            )
            if run:  # the first turn warms the disk's cache
                for seconds, one in zip(times.values(), found, strict=True):
                    seconds.append(one)
        session.local_engine.dismiss()
        session.close()
    heading(f"from the go to the end of the first training step, {wanted.runs} runs in turn")
    cold = times["python train.py"]
    table(
        ("", "median s", "min", "max", "python train.py takes … times as long, median of runs"),
        [
            (
                name,
                *(f"{f(seconds):.2f}" for f in (statistics.median, min, max)),
                f"{statistics.median(a / b for a, b in zip(cold, seconds, strict=True)):.1f}",
            )
            for name, seconds in times.items()
        ],
    )


if __name__ == "__main__":
    main()
