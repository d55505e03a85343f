"""What a start from the best answer gains: python benchmarks/warm_starts.py [--sessions 5] [--evaluations 20]

The packing lab, with four seconds of CPU time for each trial, is run as it ships, and with ``[warm_start]``. The
proposers, the rule (greedy) and the number of evaluations are the same; sessions take turns. Printed are the best
strict sums.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from machine import heading, quietly, table

from nightlab.session.session import open_session

WARM = '\n[warm_start]\nfile = "circles.json"\n'
RULE = '\n[judge]\nrule = "greedy"\nupkeep = 0\nconfirm = 0\n'


def best(folder: Path, evaluations: int) -> float:
    """The best sum of a session of so many evaluations, the baseline's among them."""
    quietly(sys.executable, "-m", "nightlab", "run", "-n", evaluations - 1, cwd=folder)
    with closing(open_session(folder)) as session:
        found = [run.metric for _, run in session.ledger.trials() if run and run.metric is not None]
    return max(found)


def made(place: Path, warm: bool) -> Path:
    """The lab, with a warm start or without."""
    folder = place / ("warm" if warm else "cold")
    quietly(sys.executable, "-m", "nightlab", "new", folder, "--from", "packing", cwd=place)
    contract = folder / "lab.toml"
    text = re.sub(r"^amount = .*$", "amount = 4", contract.read_text(), flags=re.MULTILINE).partition("[stop]")[0]
    contract.write_text(text + RULE + (WARM if warm else ""))
    quietly("git", "-c", "user.name=me", "-c", "user.email=me@here", "commit", "-qam", "the budget", cwd=folder)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=5)
    parser.add_argument("--evaluations", type=int, default=20)
    args = parser.parse_args()
    heading(f"packing, {args.evaluations} evaluations of 4 s of CPU time")
    found: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(args.sessions):
        for warm, values in found.items():
            with tempfile.TemporaryDirectory() as place:
                values.append(best(made(Path(place), warm), args.evaluations))
            print(f"{'from the best answer' if warm else 'from the grid'}: {values[-1]:.6f}", flush=True)
    rows = []
    for warm, values in found.items():
        name, spread = "from the best answer" if warm else "from the grid", f"{min(values):.6f} to {max(values):.6f}"
        rows.append([name, f"{statistics.median(values):.6f}", spread])
    table(("each trial starts", "best sum, median", "least to most"), rows)
    print(f"{args.sessions} sessions each, in turn; load {os.getloadavg()[0]:.1f}.")


if __name__ == "__main__":
    main()
