"""How the start of a trial depends on the files beside the genome: python benchmarks/many_files.py [--runs 15]

A lab of three files, the same with 10,000 more in folders, and with 10,000 more directly beside the genome;
``--gigabytes N`` adds sparse files of that size. In turn, a trial of a new candidate in each: from the orchestrator's
decision to the program's first line, and until the trial is collected. The first trial of a session, which exports the
frozen files once, is told apart.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from machine import heading, table

from nightlab.core.types import Trial
from nightlab.sandbox.bubblewrap import PROTECTIONS
from nightlab.session.session import Session
from nightlab.storage.git import Repo

CONTRACT = """\
name = "many"
genome = ["train.py"]
command = "python train.py"
[metric]
name = "loss"
[budget]
amount = 20
[resources]
disk = "{disk} GB"
"""
PROGRAM = "import time\nprint('began', time.time())\nprint('METRIC loss=1')\n"
EVAL = "print('an evaluator')\n"


def make(folder: Path, pattern: str, count: int, gigabytes: float) -> Session:
    folder.mkdir()
    (folder / "lab.toml").write_text(CONTRACT.format(disk=1 + 2 * int(gigabytes + 1)), encoding="utf-8")
    (folder / "train.py").write_text(PROGRAM, encoding="utf-8")
    (folder / "eval.py").write_text(EVAL, encoding="utf-8")
    for number in range(count):
        path = folder / pattern.format(folder=number % 100, number=number)
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{number}\n", encoding="utf-8")
    if count and gigabytes:
        (folder / "big").mkdir()
        for number in range(5):
            with (folder / "big" / f"{number}.bin").open("wb") as file:
                file.truncate(int(gigabytes * 2**30 / 5))
    who = ["git", "-c", "user.name=me", "-c", "user.email=me@here", "-c", "core.bigFileThreshold=1m"]
    for args in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "lab"]):
        subprocess.run([*who, *args], cwd=folder, check=True)
    return Session.create(Repo(folder), "bench", allow=PROTECTIONS)


def measure(session: Session, run: int) -> tuple[float, float]:
    """Seconds until the program runs, and until the trial is over and collected."""
    text = PROGRAM + f"# {run}\n"
    commit = session.repo.commit_files(session.base, {"train.py": text}, "x") if run else session.base
    trial = Trial(f"run-{run}", run, commit, 1, "search", session.budget.record())
    begun = time.time()
    running = session.local_engine.start(trial)
    while not running.finished():
        time.sleep(0.002)
    found = session.local_engine.collect(running)
    ended = time.time() - begun
    if found.outcome != "measured":
        raise SystemExit(f"the trial {found.outcome}: {found.detail}")
    return float(session.local_engine.log(trial.id).split()[1]) - begun, ended


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--runs", type=int, default=15)
    ask.add_argument("--gigabytes", type=float, default=0)
    wanted = ask.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as place:
        labs = {
            "3 files": make(Path(place) / "few", "", 0, 0),
            "10,000 more in folders": make(Path(place) / "folders", "f{folder}/{number}", 10_000, wanted.gigabytes),
            "10,000 more beside it": make(Path(place) / "beside", "{number}.txt", 10_000, wanted.gigabytes),
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in labs}
        for run in range(wanted.runs + 1):
            for name, session in labs.items():
                found[name].append(measure(session, run))
        for session in labs.values():
            session.close()
    heading(f"start of a trial, {wanted.runs} in turn after the first; {wanted.gigabytes:g} GB in the two large labs")
    rows = []
    small = [statistics.median(runs) for runs in zip(*found["3 files"][1:], strict=True)]
    for name, runs in found.items():
        start, whole = (statistics.median(part) for part in zip(*runs[1:], strict=True))
        rows.append(
            (
                name,
                f"{runs[0][0]:.2f}",
                f"{start:.3f}",
                f"{start / small[0]:.2f}",
                f"{whole:.3f}",
                f"{whole / small[1]:.2f}",
            )
        )
    table(("lab", "first trial's start, s", "start, s", "ratio", "whole trial, s", "ratio"), rows)


if __name__ == "__main__":
    main()
