"""Frozen: runs inner sessions with the genome's strategy on stored tables, and prints how much they reached.

An inner session is nightlab's own, with ledger, git, judge, re-checks and proposers, in a folder that goes when it
ends. Its trials are looked up, by ask and tell: a trial is one of the stored runs of a row. nightlab runs this as the
evaluator, in the sandbox. By hand: python inner.py, or --show, or --held-out.
"""

import functools
import json
import math
import os
import random
import statistics
import sys
import tempfile
import tomllib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tables import FOLDER, HELD_OUT, SEARCH, SOURCE

sys.path.insert(0, str(SOURCE.resolve()))
import nightlab
from nightlab.core.program.constants import find_constants
from nightlab.core.types import Measurement, Metric
from nightlab.engines.platform import usable_cores
from nightlab.proposers import Proposal, change_constants, tuner
from nightlab.storage.git import make_repo

TRIALS, SESSIONS = 40, 8  # of an inner session; sessions of each table
QUEUED, WORST = 30, -1.0
RULES, SHARES = ("shrunk", "greedy", "strict", "replicate"), ("fixed", "earned")
SEARCHES = ("climb", "evolution", "tree")
NUMBERS = {  # of the genome: the least and the most
    "TUNER_SHARE": (0, 4), "PATCHES_SHARE": (0, 4), "CONTROLLER_SHARE": (0, 4), "TUNER_WARM_UP": (2, 30),
    "TUNER_ONE": (0, 1),
}  # fmt: skip

CONTRACT = """\
name = "row"
genome = ["row.py"]
command = "true"
[metric]
name = "value"
goal = "{goal}"
scale = "difference"
timed = false
[budget]
clock = "work"
amount = 1
"""


def strategy(text):
    """The genome's settings. Raises ValueError naming what is wrong."""
    found = tomllib.loads(text)
    for name, allowed in {"RULE": RULES, "SEARCH": SEARCHES, "SHARES": SHARES}.items():
        if found.get(name) not in allowed:
            raise ValueError(f"{name} is {found.get(name)!r}: it must be one of {', '.join(allowed)}")
    for name, (low, high) in NUMBERS.items():
        value = found.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(f"{name} is {value!r}: it must be a number from {low} to {high}")
    if not any(found[f"{kind}_SHARE"] for kind in ("TUNER", "PATCHES", "CONTROLLER")):
        raise ValueError("no proposer has a share: give TUNER_SHARE, PATCHES_SHARE or CONTROLLER_SHARE more than 0")
    return found


class Queue:
    """A queue of changes at random of one or two settings, each tried once on the champion."""

    name = "queue"

    def __init__(self, seed, sizes):
        self.draw, self.sizes, self.left = random.Random(f"{seed}/queue"), sizes, QUEUED

    def propose(self, briefing):
        if not self.left:
            return None
        places = self.draw.sample(range(len(self.sizes)), 1 if self.draw.random() < 0.7 else 2)
        values = {f"P{place}": self.draw.randrange(self.sizes[place]) for place in places}
        return Proposal(self.name, "", {"row.py": change_constants(briefing.genome["row.py"], "cpu", values)})

    def tell(self, proposal, refusal):
        self.left -= 1


class Session:
    """One inner session on a table: nightlab's own, in a separate folder. What it tries is looked up."""

    def __init__(self, settings, table, number):
        self.settings, self.table, self.number, self.spent = settings, table, number, 0
        self.metric = Metric("value", table["goal"])
        starts = sorted(random.Random(f"{number}/start").sample(list(table["rows"]), 25), key=self.true)
        self.start = starts[12]

    def play(self):
        """The share of what there was to gain that the champion truly has after the session."""
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            (folder / "lab.toml").write_text(CONTRACT.format(goal=self.metric.goal) + part_of_a_contract(self.settings))
            (folder / "row.py").write_text(self.text(self.start))
            make_repo(folder, "a row")
            lab, given = nightlab.Lab(folder), {"proposers": self.proposers(), "seed": self.number}
            with lab.session("inner", allow_missing="all", **given) as session:
                while self.spent < TRIALS and (trial := session.ask()):
                    self.spent += 1
                    session.tell(trial, self.measured(code_of(find_constants(trial.genome["row.py"], "cpu"))))
                return self.share("".join(map(str, session.champion.candidate.constants.values())))

    def proposers(self):
        """Those that have a share; an object's is 1, so the others' are over the queue's."""
        settings, one = self.settings, self.settings["PATCHES_SHARE"] or 1
        kinds = [kind for kind in ("tuner", "controller") if settings[f"{kind.upper()}_SHARE"]]
        found = [{"kind": kind, "share": settings[f"{kind.upper()}_SHARE"] / one} for kind in kinds]
        return [*found, *([Queue(self.number, self.sizes)] if settings["PATCHES_SHARE"] else [])]

    @property
    def sizes(self):
        return [size for size, _ in self.table["settings"]]

    def true(self, code):
        """What a row measures on average."""
        return statistics.fmean(self.table["rows"][code])

    def share(self, code):
        """The share of what there was to gain from the start that a row truly has, at least WORST.

        Where the start is almost the best row, a champion that only had luck may lose many times what there was to
        gain: one such session in hundreds would decide what a strategy is worth.
        """
        means = [self.true(code) for code in self.table["rows"]]
        best = min(means) if self.metric.goal == "minimise" else max(means)
        first = self.true(self.start)
        return max(self.metric.gain(first, self.true(code)) / self.metric.gain(first, best), WORST)

    def measured(self, code):
        """What a trial of a row yields, as if it had taken five minutes; it crashes where there is no such row."""
        took = {"training_seconds": 300.0, "wall_seconds": 300.0}
        if code not in self.table["rows"]:
            return Measurement("crashed", detail="the table has no row of these values", **took)
        return Measurement("measured", self.measure(code), **took)

    def measure(self, code):
        """One of the row's stored runs, their spread widened so that its variance is unbiased."""
        values, draw = self.table["rows"][code], random.Random(f"{self.number}/{self.spent}/{code}")
        middle, n = statistics.fmean(values), len(values)
        return middle + (draw.choice(values) - middle) * math.sqrt(n / (n - 1))

    def text(self, code):
        """A row as a genome: a constant for each setting."""
        kinds = [f"0..{n - 1}" if numbers else " | ".join(map(str, range(n))) for n, numbers in self.table["settings"]]
        return "".join(f"P{n} = {level}  # [{kind}]\n" for n, (level, kind) in enumerate(zip(code, kinds, strict=True)))


def code_of(constants):
    """The row that a genome names."""
    return "".join(str(one.value) for one in constants.values())


def played(settings, table, number):
    """The share that one inner session reaches."""
    for name in ("WARM_UP", "ONE"):
        setattr(tuner, name, settings[f"TUNER_{name}"])
    return Session(settings, table, number).play()


@functools.lru_cache(1)
def stored(name):
    """A stored table."""
    return json.loads((FOLDER / f"{name.replace(':', '-')}.json").read_text())


def job(settings, name, number):
    return played(settings, stored(name), number)


def reached(settings, names, seed):
    """The mean share that inner sessions reach on these tables; as many run at once as there are cores."""
    jobs = [(settings, name, 1000 * seed + n) for name in names for n in range(SESSIONS)]
    with ProcessPoolExecutor(usable_cores()) as pool:
        return statistics.fmean(pool.map(job, *zip(*jobs, strict=True)))


def part_of_a_contract(settings):
    """The strategy as a part of a lab.toml; the tuner's parameters are constants of nightlab."""
    found = f'[judge]\nrule = "{settings["RULE"]}"\n\n[search]\nstrategy = "{settings["SEARCH"]}"\n'
    found += f'shares = "{settings["SHARES"]}"\n'
    for kind in ("tuner", "patches", "controller"):
        if share := settings[f"{kind.upper()}_SHARE"]:
            found += f'\n[[proposers]]\nkind = "{kind}"\nshare = {share:g}\n'
    return found


def main():
    try:
        settings = strategy(Path("strategy.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        print(f"no metric: strategy.toml: {error}")
        sys.exit(4)
    if "--show" in sys.argv:
        print(part_of_a_contract(settings))
        return
    seed = int(os.environ.get("NIGHTLAB_SEED", "0"))
    if os.environ.get("NIGHTLAB_HELD_OUT") == "1" or "--held-out" in sys.argv:
        print(f"METRIC held_out={reached(settings, HELD_OUT, seed):.5f}")
    print(f"METRIC reached={reached(settings, SEARCH, seed):.5f}")


if __name__ == "__main__":
    main()
