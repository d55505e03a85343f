"""How much of a session is training: python benchmarks/duty.py [--experiments 30] [--budget 60] [--think 20]
                                   python benchmarks/duty.py --compile 8 [--rounds 2] [--experiments 5] …

The language-model lab with a proposer that takes its time to think. In turn: a plain sequential loop (think, edit, run
``python train.py``, read its number, keep or put back), nightlab, and the loop again. Duty cycle: seconds of budget
spent in training, over wall-clock seconds from the first look to the last. About an hour as it stands.

``--compile``: seconds of CPU time that the program takes before its start signal, as a compiler would. Then sessions in
which the next program begins while a trial trains, and others in which none does, in turn.
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from machine import heading, table

from nightlab.core.config import StopRules
from nightlab.core.events import TrialStarted
from nightlab.core.observer import Observer
from nightlab.core.types import Measurement, NightlabError, Trial
from nightlab.engines.platform import this_platform
from nightlab.loop import scheduler as scheduling
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.scheduler import Scheduler
from nightlab.proposers import Briefing, Proposal, change_constants, find_constants
from nightlab.sandbox.bubblewrap import PROTECTIONS
from nightlab.session.create import make_lab
from nightlab.session.session import Session
from nightlab.storage.git import Repo

Runs = list[tuple[Trial, Measurement]]  # a session's trials, with what came of them

GENOME = "train.py"
CLOCK = {"cpu": "cpu", "cuda": "wall", "mps": "wall"}  # on a shared CPU a wall clock measures the neighbours
MOVED = ("MATRIX_LR", "EMBEDDING_LR", "UNEMBEDDING_LR", "WEIGHT_DECAY", "WARMDOWN")


def move(text: str, device: str, draw: random.Random) -> str:
    """The genome with one constant moved."""
    name = draw.choice(MOVED)
    return change_constants(text, device, {name: find_constants(text, device)[name].value * draw.uniform(0.7, 1.4)})


class Thinker:
    """Moves one constant, after a while."""

    name = "thinker"

    def __init__(self, seconds: float, seed: int) -> None:
        self.seconds, self.draw = seconds, random.Random(seed)

    def propose(self, briefing: Briefing) -> Proposal:
        time.sleep(self.seconds)
        return Proposal(self.name, "a move", {GENOME: move(briefing.genome[GENOME], briefing.device, self.draw)})

    def tell(self, proposal: Proposal, refusal: str | None) -> None: ...


def plain(folder: Path, device: str, wanted: Any, count: int, seed: int) -> tuple[float, float, int]:
    """The sequential loop, its first program as it is: seconds of training, of wall clock, and experiments."""
    env = {"NIGHTLAB_CLOCK": CLOCK[device], "NIGHTLAB_BUDGET": f"{wanted.budget:g}", "NIGHTLAB_DEVICE": device}
    draw, best, trained, begun = random.Random(seed), float("inf"), 0.0, time.perf_counter()
    genome = folder / GENOME
    for number in range(count):
        before = genome.read_text()
        time.sleep(wanted.think)
        if number:
            genome.write_text(move(before, device, draw))
        command = [sys.executable, GENOME]
        done = subprocess.run(command, cwd=folder, env={**_environment(), **env}, capture_output=True, text=True)
        found = dict(re.findall(r"^(\w+):\s+([\d.]+)$", done.stdout, re.MULTILINE))
        trained += float(found.get("training_seconds", 0))
        value = float(found.get("val_bpb", "inf"))
        if value < best:
            best = value
            subprocess.run(["git", "commit", "-qam", "a move"], cwd=folder, check=False, capture_output=True)
        else:
            genome.write_text(before)
    return trained, time.perf_counter() - begun, count


def beside(folder: Path, wanted: Any) -> None:
    """Sessions with and without programs that begin beside a training, in turn, and what that costs the training."""
    found: dict[bool, list[tuple[float, float, Runs]]] = {True: [], False: []}
    usual, scheduling.OFTEN = scheduling.worth_holding, 2.0  # however often the champion moves
    for number in range(wanted.rounds):
        for held in (True, False) if number % 2 == 0 else (False, True):
            scheduling.worth_holding = usual if held else lambda *_: False
            trained, seconds, _, runs, _ = nightlab(folder, wanted, f"round-{number}-{held}")
            found[held].append((trained, seconds, runs))
    show_beside(wanted, found)


def show_beside(wanted: Any, found: Mapping[bool, Sequence[tuple[float, float, Runs]]]) -> None:
    """Of first attempts: one that runs again, because the machine was disturbed, starts cold."""
    rows = []
    for held, sessions in found.items():
        first = [
            (trial.experiment, measured) for *_, runs in sessions for trial, measured in runs if trial.attempt == 1
        ]
        # The third experiment is the first whose program begins before its trial, and the second trains beside that.
        starts = [measured.startup_seconds for number, measured in first if number >= 3]
        beside_others = [measured for number, measured in first if 2 <= number < wanted.experiments]
        steps = [measured.claims["num_steps"] / measured.training_seconds for measured in beside_others]
        error = statistics.stdev(steps) / len(steps) ** 0.5
        rows.append(
            (
                "begins beside the training" if held else "begins when that has ended",
                len(starts),
                f"{statistics.median(starts):.2f} ({min(starts):.2f} to {max(starts):.2f})",
                f"{sum(trained for trained, *_ in sessions) / sum(seconds for _, seconds, _ in sessions):.1%}",
                f"{statistics.mean(steps):.3f} ({error:.3f})",
            )
        )
    heading(f"a start of {wanted.compile:g} s of CPU time, {wanted.budget:g} s of training a trial")
    table(("the next program", "trials", "start, s", "duty cycle", "steps a second (standard error)"), rows)
    print("\nseconds are of CPU time in the last column")


def nightlab(folder: Path, wanted: Any, tag: str = "bench") -> tuple[float, float, int, Runs, list[float]]:
    """A session: seconds of training, of wall clock, experiments, trials, and seconds from each one's start to the
    next one's, the last one's to the end."""
    session = Session.create(Repo(folder), tag, allow=PROTECTIONS)
    scheduler = Scheduler(session, Observer())
    night = ExperimentLoop(session, StopRules(experiments=wanted.experiments), scheduler)
    night.candidates.proposers.proposers = {"thinker": (Thinker(wanted.think, 1), 1.0)}
    night.candidates.proposers.had = {"thinker": 0}
    begun = time.perf_counter()
    night.run()
    seconds = time.perf_counter() - begun
    judged = [e for e in session.ledger.experiments() if e.verdict]
    runs = [(trial, measured) for trial, measured in session.ledger.trials() if measured]
    starts = [event.at for event in session.ledger.events(TrialStarted)] + [time.time()]
    session.close()
    failed = [measured.detail for _, measured in runs if not measured.measured]
    if failed:
        raise NightlabError(f"{len(failed)} of {len(runs)} trials failed: {failed[0]}", "look at the lab")
    return scheduler.trained, seconds, len(judged), runs, [b - a for a, b in pairwise(starts)]


def show_rest(trials: list[Measurement], apart: list[float]) -> None:
    """Where the seconds beside training go, from one trial's start to the next one's."""
    print("\nseconds from a trial's start to the next one's, and its own; medians of those after the baseline\n")
    rows = []
    for name, part in (("the baseline", slice(1)), ("later trials", slice(1, None))):
        own = [(m.startup_seconds, m.training_seconds, m.evaluation_seconds, m.wall_seconds) for m in trials[part]]
        if own:
            columns = [apart[part], *zip(*own, strict=True)]
            rows.append((name, *(f"{statistics.median(column):.2f}" for column in columns)))
    table(("", "to the next one's start", "start", "training", "evaluation", "whole trial"), rows)
    if trials[1:-1]:
        night = statistics.mean(m.training_seconds for m in trials[1:-1]) / statistics.mean(apart[1:-1])
        print(f"\na night without end, computed from the trials between the first and the last: {night:.1%}")


def _environment() -> dict[str, str]:
    import os

    return dict(os.environ)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--experiments", type=int, default=30)
    ask.add_argument("--budget", type=float, default=60, help="seconds of training of a trial")
    ask.add_argument("--think", type=float, default=20, help="seconds that the proposer takes")
    ask.add_argument("--plain", type=int, default=4, help="experiments of the plain loop, before and after")
    ask.add_argument("--compile", type=float, default=0, help="seconds of CPU time of a start, as of a compiler")
    ask.add_argument("--rounds", type=int, default=2, help="with --compile: sessions of each kind")
    wanted = ask.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = make_lab(Path(place) / "lab", "lm")
        subprocess.run([sys.executable, "prepare.py"], cwd=folder, check=True)
        contract = (folder / "lab.toml").read_text()
        clock = CLOCK[this_platform().device]
        own = f'[budget]\nclock = "{clock}"\namount = {wanted.budget:g}\nstartup = 120\nevaluation = 120\n\n'
        own += '[judge]\nrule = "greedy"\nupkeep = 0\nconfirm = 0\n\n'  # one trial an experiment, as the loop has
        contract = re.sub(r"\[budget\].*?(?=\[limits\])", own, contract, flags=re.DOTALL)
        (folder / "lab.toml").write_text(contract)
        if wanted.compile:
            compiles = (
                f"    until = time.process_time() + {wanted.compile:g}\n    while time.process_time() < until: pass\n"
            )
            genome, place = (folder / GENOME).read_text(), "    prepare.answer(load)\n"
            (folder / GENOME).write_text(genome.replace(place, place + compiles, 1))
        subprocess.run(["git", "commit", "-qam", "the budget"], cwd=folder, check=True)
        if wanted.compile:
            beside(folder, wanted)
            return
        copy = Path(place) / "plain"
        subprocess.run(["git", "clone", "-q", str(folder), str(copy)], check=True)
        device = this_platform().device
        loops = [plain(copy, device, wanted, wanted.plain, 1)]
        trained, seconds, judged, runs, apart = nightlab(folder, wanted)
        trials = [measured for _, measured in runs]
        loops.append(plain(copy, device, wanted, wanted.plain, 2))
    heading(f"duty cycle: {wanted.budget:g} s of training a trial, a proposer that thinks for {wanted.think:g} s")
    rows = [
        (f"a plain loop ({when})", n, n, f"{t:.0f}", f"{s:.0f}", f"{t / s:.1%}", f"{3600 * n / s:.1f}")
        for when, (t, s, n) in zip(("before", "after"), loops, strict=True)
    ]
    rows.append(
        (
            "nightlab",
            judged,
            len(trials),
            f"{trained:.0f}",
            f"{seconds:.0f}",
            f"{trained / seconds:.1%}",
            f"{3600 * len(trials) / seconds:.1f}",
        )
    )
    table(("", "experiments", "trials", "seconds of training", "of wall clock", "duty cycle", "trials an hour"), rows)
    show_rest(trials, apart)


if __name__ == "__main__":
    main()
