"""How much of the language-model lab's noise is the seed's? python benchmarks/lm_luck.py [--ideas 6] [--seeds 4]

Runs train.py and some of the lab's own ideas by hand on the same seeds (initial weights and the order of the data). If
seeds favour all programs alike, the difference of two on one seed varies by less than root two of a run, and rho, the
seeds' share of the variance, is large.
"""

from __future__ import annotations

import argparse
import math
import statistics
import subprocess
import sys
import tempfile
from itertools import combinations
from pathlib import Path

from lm import run
from machine import heading, table

from nightlab.engines.platform import this_platform
from nightlab.judge import share_of_seeds


def measured(folder: Path, patch: Path | None, seeds: int, seconds: float, clock: str) -> dict[int, float]:
    """The val_bpb of train.py with this change, by seed."""
    if patch:
        subprocess.run(["git", "apply", patch], cwd=folder, check=True)
    env = {"NIGHTLAB_CLOCK": clock, "NIGHTLAB_BUDGET": str(seconds)}
    found = {seed: run(folder, "train.py", NIGHTLAB_SEED=str(seed), **env)["val_bpb"] for seed in range(1, seeds + 1)}
    subprocess.run(["git", "checkout", "-q", "train.py"], cwd=folder, check=True)
    print(patch.stem if patch else "train.py", found, file=sys.stderr, flush=True)
    return found


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--ideas", type=int, default=6, help="how many of the lab's own ideas run beside train.py")
    ask.add_argument("--seeds", type=int, default=4)
    ask.add_argument("--seconds", type=float, default=3, help="of training, of CPU time where there is no GPU")
    wanted = ask.parse_args()
    clock = "cpu" if this_platform().device == "cpu" else "wall"
    heading(f"the language-model lab, {wanted.seconds:g} s of {clock} clock: how much of the noise is the seed's")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "lab"
        new = [str(Path(sys.executable).with_name("nightlab")), "new", str(folder)]
        subprocess.run(new, check=True, capture_output=True)
        subprocess.run([sys.executable, "prepare.py"], cwd=folder, check=True, capture_output=True)
        ideas = sorted((folder / "ideas").glob("*.patch"))[: wanted.ideas]
        programs = {"train.py": measured(folder, None, wanted.seeds, wanted.seconds, clock)}
        for idea in ideas:
            programs[idea.stem] = measured(folder, idea, wanted.seeds, wanted.seconds, clock)
    rows = [[name, *(f"{value:.4f}" for value in runs.values())] for name, runs in programs.items()]
    table(("program", *(f"seed {seed}" for seed in programs["train.py"])), rows)
    runs = list(programs.values())
    single = math.sqrt(statistics.mean(statistics.variance(one.values()) for one in runs))
    pairs = [[a[seed] - b[seed] for seed in a] for a, b in combinations(runs, 2)]
    paired = math.sqrt(statistics.mean(map(statistics.variance, pairs)))
    rho = 1 - paired * paired / (2 * single * single)
    print(f"standard deviation of a run {single:.4f}, of the difference of two programs on one seed {paired:.4f}")
    judged = f"as nightlab judges it {share_of_seeds(runs):.2f}"
    print(f"rho, the seeds' share of the variance: {rho:.2f} by these two; {judged}")


if __name__ == "__main__":
    main()
