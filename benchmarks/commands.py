"""How long the commands take that people type most: python benchmarks/commands.py

Makes a ledger of 10,000 experiments in a temporary lab and times the program on it, interleaved with a bare
start of Python.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from machine import heading, interleaved, table

from nightlab.core.events import SessionStarted
from nightlab.core.types import Candidate, Measurement, Verdict
from nightlab.storage.ledger import LEDGER, Ledger, make_state_folder


def make_ledger(lab: Path, experiments: int) -> None:
    folder = make_state_folder(lab) / "bench"
    folder.mkdir()
    ledger = Ledger(folder / LEDGER)
    ledger.append(SessionStarted("bench", lab={"metric": {"name": "val_bpb"}}))
    ledger._db.execute("PRAGMA synchronous = OFF")  # only to make the file quickly
    for number in range(experiments):
        constants = {f"CONSTANT_{i}": number * i for i in range(30)}
        commit = f"{number:040x}"
        ledger.propose(
            Candidate(commit, commit, commit, "tuner", f"tune DEPTH {number} → 2", 400, constants, ("DEPTH 1 → 2",))
        )
        value = 1.0 + (number * 7919 % 1000) / 1e5
        status = "keep" if number % 50 == 0 else "discard"
        ledger.judge(number, Measurement("measured", value, training_seconds=300), Verdict(status, "improved"))
    ledger.close()


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--experiments", type=int, default=10_000)
    ask.add_argument("--runs", type=int, default=9)
    wanted = ask.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lab = Path(folder)
        subprocess.run(["git", "init", "-q", folder], check=True)
        make_ledger(lab, wanted.experiments)
        program = str(Path(sys.executable).with_name("nightlab"))
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "nightlab --help": [program, "--help"],
            "nightlab log": [program, "log", "-C", folder],
            "nightlab log --kept": [program, "log", "--kept", "-C", folder],
            "nightlab log --all": [program, "log", "--all", "-C", folder],
        }
        times = interleaved(commands, wanted.runs)
    heading(f"commands on a ledger of {wanted.experiments:,} experiments, median of {wanted.runs}, interleaved")
    bare = times["python -c pass"]
    rows = [(name, f"{seconds:.3f}", f"{seconds / bare:.1f}") for name, seconds in times.items()]
    table(("command", "seconds", "times a bare python"), rows)


if __name__ == "__main__":
    main()
