"""What an experiment costs beside its evaluation: python benchmarks/overhead.py [--sessions 3] [--beside FOLDER]

A problem in OpenEvolve's layout whose evaluation takes milliseconds (field_problems.py) is opened and run by ``nightlab
open`` and ``nightlab run``, with field.py's scripted model. Sessions of two lengths show what an experiment more costs:
CPU time by part, git's processes, and wall-clock time. ``--beside``: another checkout of nightlab, whose sessions take
turns with these.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from field import OWN, Script, problem, served
from machine import heading, table

LENGTHS = (4, 24)  # experiments of a short and of a long session
PARTS = {
    "orchestrator": "CPU s of the orchestrator",
    "git": "CPU s of git",
    "trials": "CPU s of supervisors, sandboxes, programs",
    "gits": "processes of git",
    "wall": "s, from the first question to the last",
}


def used(who: int) -> float:
    found = resource.getrusage(who)
    return found.ru_utime + found.ru_stime


def inner(arguments: list[str]) -> None:
    """Be ``nightlab`` with these arguments, and print what it took as JSON."""
    from nightlab.cli.main import main as nightlab
    from nightlab.storage.git import repo

    took, plain = {"git": 0.0, "gits": 0.0}, repo.run_git

    def run_git(*args: Any, **options: Any) -> Any:
        before = used(resource.RUSAGE_CHILDREN)
        try:
            return plain(*args, **options)
        finally:
            took["git"] += used(resource.RUSAGE_CHILDREN) - before
            took["gits"] += 1

    repo.run_git = run_git
    sys.argv = ["nightlab", *arguments]
    try:
        nightlab()
    except SystemExit as end:
        if end.code:
            raise
    trials = used(resource.RUSAGE_CHILDREN) - took["git"]
    print(json.dumps({**took, "trials": trials, "orchestrator": used(resource.RUSAGE_SELF)}))


def call(checkout: Path, cwd: Path, *arguments: object) -> dict[str, float]:
    """Run ``nightlab`` of a checkout; what it took."""
    env = {**os.environ, "PYTHONPATH": str(checkout / "src")}
    command = [sys.executable, __file__, "--inner", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"nightlab {' '.join(map(str, arguments))} failed:\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}")
    took: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return took


def session(name: str, checkout: Path, seed: int) -> dict[str, float]:
    """What one experiment more takes, by part: the difference of two sessions in one lab."""
    with lab(name, checkout, seed) as (folder, script):
        found = []
        for length in LENGTHS:
            script.asked.clear()
            took = call(checkout, folder, "run", "--tag", f"t{length}", "-n", length)
            found.append({**took, "wall": script.asked[-1] - script.asked[0]})
    more = LENGTHS[1] - LENGTHS[0]
    return {part: (found[1][part] - found[0][part]) / more for part in PARTS}


@contextmanager
def lab(name: str, checkout: Path, seed: int) -> Iterator[tuple[Path, Script]]:
    """A lab made of a problem, and the model that its session asks."""
    script = Script(seed)
    with tempfile.TemporaryDirectory() as temporary, served(script) as url:
        source, folder = problem(name, Path(temporary, "source"), ""), Path(temporary, "lab")
        call(checkout, Path(temporary), "open", source, folder)
        contract = folder / "lab.toml"
        contract.write_text(contract.read_text() + OWN.format(url=url))
        git = ["git", "-c", "user.name=me", "-c", "user.email=me@here", "commit", "-qam", "the scripted model"]
        subprocess.run(git, cwd=folder, check=True)
        yield folder, script


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=3)
    parser.add_argument("--problem", default="packing")
    parser.add_argument("--beside", type=Path, help="another checkout of nightlab, measured in turn")
    args = parser.parse_args()
    heading(f"what an experiment of {args.problem} takes, {LENGTHS[1] - LENGTHS[0]} experiments")
    checkouts = {"this": Path(__file__).resolve().parents[1]}
    checkouts |= {"beside": args.beside.resolve()} if args.beside else {}
    found: dict[str, list[dict[str, float]]] = {who: [] for who in checkouts}
    for seed in range(args.sessions):
        for who, checkout in checkouts.items():
            found[who].append(session(args.problem, checkout, seed))
    rows = []
    for part, words in PARTS.items():
        medians = [statistics.median(one[part] for one in found[who]) for who in checkouts]
        rows.append(
            [
                words,
                *(f"{value:.3f}" for value in medians),
                *([f"{medians[0] / medians[1]:.2f}"] if args.beside else []),
            ]
        )
    table(("an experiment more", *checkouts, *(["ratio"] if args.beside else [])), rows)
    print(f"Medians of {args.sessions} pairs of sessions each, in turn; load {os.getloadavg()[0]:.1f}.")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inner"]:
        inner(sys.argv[2:])
    else:
        main()
