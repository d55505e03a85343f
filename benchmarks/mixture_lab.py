"""Shares in real sessions of the language-model lab: python benchmarks/mixture_lab.py [--cost 300] [--budget 10]

In turn, sessions that may cost the same: each proposer alone, all with even shares, all with earned ones. The proposers
are the lab's tuner, its queue of ideas, which runs dry, and a script that moves one constant far and at random. The
cost is that by which shares are earned: seconds of a slot, of trials and of waiting for a turn. Each champion is then
measured against the baseline on fresh seeds. On a CPU, on its own clock. With --cost 60 --budget 2
--pairs 3 it takes ten minutes, as it stands several times that.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from machine import heading, table

from nightlab.analysis.confirm import Confirmer
from nightlab.core.config import StopRules
from nightlab.core.observer import Observer
from nightlab.core.types import Experiment
from nightlab.engines.local.prepare import run_prepare
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.scheduler import Scheduler
from nightlab.sandbox.bubblewrap import PROTECTIONS
from nightlab.session.create import make_lab
from nightlab.session.credit import iter_credits
from nightlab.session.session import Session
from nightlab.storage.git import Repo

PARTS = 4  # of a session, of which the shares are shown
POOR = """\
import random, re
text = open("train.py").read()
name, value = random.choice(re.findall(r"^([A-Z_]+(?:LR|DECAY|SCALE|CAP)) = ([\\d.]+)", text, re.MULTILINE))
moved = float(value) * random.choice([0.1, 0.3, 3.0, 10.0])
open("train.py", "w").write(text.replace(f"{name} = {value}", f"{name} = {moved:.4g}", 1))
print(f"{name} is {moved:.4g}")
"""
PROPOSERS = {
    "tuner": 'kind = "tuner"',
    "ideas": 'kind = "patches"\nfolder = "ideas"',
    "poor": 'kind = "command"\nname = "poor"\ncommand = "python poor.py"',
}
NAMES = {"tuner": "tuner", "ideas": "patches", "poor": "poor"}  # in the ledger


class Purse(Observer):
    """Ends the session once it has cost so much."""

    def __init__(self, cost: float) -> None:
        self.cost = cost
        self.scheduler: Scheduler | None = None

    def judged(self, experiment: Experiment, champion: Experiment | None) -> None:
        if (
            self.scheduler
            and sum(one.cost for one in iter_credits(self.scheduler.ledger, self.scheduler.session.metric)) >= self.cost
        ):
            self.scheduler.asked_to_stop = 1


def session(folder: Path, who: list[str], shares: str, budget: float) -> Session:
    """A session that has not begun, with these proposers and so many seconds of training a trial."""
    make_lab(folder, "lm")
    (folder / "poor.py").write_text(POOR)
    contract = (folder / "lab.toml").read_text().split("[[proposers]]")[0]
    contract = contract.replace("amount = 10", f"amount = {budget:g}")
    parts = "\n".join(f"[[proposers]]\n{PROPOSERS[name]}\n" for name in who)
    (folder / "lab.toml").write_text(f'{contract}[search]\nshares = "{shares}"\n\n{parts}')
    me = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    for words in (["add", "-A"], [*me, "commit", "-qm", "the proposers"]):
        subprocess.run(["git", "-C", str(folder), *words], check=True)
    made = Session.create(Repo(folder), "mixture", device="cpu", allow=PROTECTIONS)
    run_prepare(made.repo, made.lab, made.base, made.folder)
    return made


def play(folder: Path, who: list[str], shares: str, wanted: Any, seed: int) -> list[str]:
    """One session: its experiments, what was kept, the gain that was shown, and the shares part by part."""
    cost, made = wanted.cost, session(folder, who, shares, wanted.budget)
    purse = Purse(cost)
    purse.scheduler = Scheduler(made, purse)
    ExperimentLoop(made, StopRules(), purse.scheduler, seed=seed).run()
    evidence = Confirmer(Scheduler(made, Observer())).confirm(wanted.pairs)
    spent, counts = 0.0, [Counter[str]() for _ in range(PARTS)]
    for one in iter_credits(made.ledger, made.metric):
        counts[min(int(PARTS * spent / cost), PARTS - 1)][one.experiment.candidate.proposer] += 1
        spent += one.cost
    kept = len(made.ledger.kept()) - 1
    made.close()
    gain = f"{evidence.gain.mean:.4f} ({evidence.gain.low:.4f} to {evidence.gain.high:.4f})" if evidence else "none"
    parts = [" ".join(f"{count[NAMES[name]]}" for name in who) if len(who) > 1 else "" for count in counts]
    return [f"{sum(map(sum, (c.values() for c in counts)))}", f"{kept}", f"{spent:.0f}", gain, *parts]


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--cost", type=float, default=300.0, help="seconds of a slot that a session may cost")
    ask.add_argument("--budget", type=float, default=10.0, help="CPU seconds of training that a trial has")
    ask.add_argument("--sessions", type=int, default=1, help="of each kind")
    ask.add_argument("--pairs", type=int, default=4, help="fresh seeds for each champion")
    wanted = ask.parse_args()
    begun, everybody = time.perf_counter(), list(PROPOSERS)
    heading(f"mixture_lab: sessions of the lm lab, each {wanted.cost:g} s of a slot, a trial {wanted.budget:g} s")
    kinds = {f"{name} alone": ([name], "fixed") for name in everybody}
    kinds |= {"even shares": (everybody, "fixed"), "earned": (everybody, "earned")}
    rows = []
    for seed in range(wanted.sessions):
        for kind, (who, shares) in kinds.items():
            with tempfile.TemporaryDirectory() as folder:
                rows.append([kind, *play(Path(folder) / "lab", who, shares, wanted, seed)])
            print(f"{rows[-1]}  {time.perf_counter() - begun:.0f} s", flush=True)
    parts = [f"{', '.join(everybody)} in quarter {n + 1}" for n in range(PARTS)]
    table(["shares", "experiments", "kept", "cost, s", "confirmed gain, bits per byte", *parts], rows)


if __name__ == "__main__":
    main()
