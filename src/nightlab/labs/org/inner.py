"""Frozen: plays inner sessions with the genome's strategy on stored tables, and prints how much they reached.

Judge, rules, noise, searches, proposers and shares are nightlab's own; only the trials are looked up: a seed is one of
the stored runs of a row. nightlab runs it as the evaluator. By hand: python inner.py, or --show, or --held-out.
"""

import json
import math
import os
import random
import statistics
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

from tables import FOLDER, HELD_OUT, SEARCH, SOURCE

sys.path.insert(0, str(SOURCE.resolve()))
from nightlab.core.program.constants import find_constants
from nightlab.core.types import SEED, Candidate, Experiment, Measurement, Metric
from nightlab.judge import Contestant, Judge, NeedsTrial, make_rule, pooled, prior_sigma
from nightlab.proposers import Briefing, Mixture, Proposal, change_constants, tuner
from nightlab.proposers.controller import Controller
from nightlab.proposers.selection import Climb, Evolution, Tree
from nightlab.proposers.shares import ProposerCredit

TRIALS, SESSIONS = 40, 8  # of an inner session; sessions of each table
QUEUED, MISSES, WORST = 30, 100, -1.0
RULES, SHARES = ("shrunk", "greedy", "strict", "replicate"), ("fixed", "earned")
SEARCHES = {"climb": lambda metric, seed: Climb(), "evolution": Evolution, "tree": lambda metric, seed: Tree(metric)}
NUMBERS = {  # of the genome: the least and the most
    "TUNER_SHARE": (0, 4), "PATCHES_SHARE": (0, 4), "CONTROLLER_SHARE": (0, 4), "TUNER_WARM_UP": (2, 30),
    "TUNER_ONE": (0, 1),
}  # fmt: skip


def strategy(text):
    """The genome's settings. Raises ValueError naming what is wrong."""
    found = tomllib.loads(text)
    for name, allowed in {"RULE": RULES, "SEARCH": tuple(SEARCHES), "SHARES": SHARES}.items():
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

    name = "patches"

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
    """One inner session on a table."""

    def __init__(self, settings, table, number):
        self.table, self.number, self.metric = table, number, Metric("value", table["goal"])
        draw = random.Random(f"{number}/start")
        starts = sorted(draw.sample(list(table["rows"]), 25), key=self.true)
        self.codes, self.runs, self.history = [starts[12]], [{}], []
        self.search = SEARCHES[settings["SEARCH"]](self.metric, number)
        self.judge, self.spent, self.champion = Judge(self.metric, {}, make_rule(settings["RULE"])), 0, None
        self.same_seeds = make_rule(settings["RULE"]).same_seeds
        kinds = {"TUNER": tuner.Tuner, "CONTROLLER": Controller}
        made = {kind: make(number) for kind, make in kinds.items()} | {"PATCHES": Queue(number, self.sizes)}
        parts = {p.name: (p, settings[f"{kind}_SHARE"]) for kind, p in made.items() if settings[f"{kind}_SHARE"]}
        self.credit = ProposerCredit(parts, f"{number}") if settings["SHARES"] == "earned" else None
        self.proposers = Mixture(parts, {}, self.credit)

    @property
    def sizes(self):
        return [size for size, _ in self.table["settings"]]

    def true(self, code):
        """What a row measures on average."""
        return statistics.fmean(self.table["rows"][code])

    def play(self):
        """The share of what there was to gain that the champion truly has after the session, at least WORST.

        Where the start is almost the best row, a champion that only had luck may lose many times what there was to
        gain: one such session in hundreds would decide what a strategy is worth.
        """
        self.admit(self.codes[0], "baseline")
        while self.spent < TRIALS and (code := self.proposed()):
            self.admit(*code)
        means = [self.true(code) for code in self.table["rows"]]
        best = min(means) if self.metric.goal == "minimise" else max(means)
        first = self.true(self.codes[0])
        return max(self.metric.gain(first, self.true(self.codes[self.champion])) / self.metric.gain(first, best), WORST)

    def proposed(self):
        """A row that was not tried, and its proposer; None when there is no other."""
        asked = self.search.ask()
        parent = asked.number if asked else self.champion
        told = Briefing(
            self.metric,
            "cpu",
            {"row.py": self.text(self.codes[parent])},
            self.history[self.champion],
            self.history,
            self.history[parent],
        )
        for _ in range(MISSES):
            proposal = self.proposers.propose(told)
            if proposal is None:
                return None
            code = "".join(str(one.value) for one in find_constants(proposal.files["row.py"], "cpu").values())
            if code in self.table["rows"] and code not in self.codes:
                self.proposers.tell(proposal, None)
                return code, proposal.proposer
            self.proposers.tell(proposal, "no row of the table has these values, or it was tried")
        return None

    def admit(self, code, proposer):
        """Try a row until it is judged."""
        number, before = len(self.history), self.spent
        if number:
            self.codes.append(code)
            self.runs.append({})
        constants = {f"P{place}": int(level) for place, level in enumerate(code)}
        candidate = Candidate(f"{number}", "", "", proposer, "", constants=constants)
        self.history.append(Experiment(number, candidate, 0.0))
        while isinstance(decision := self.decision(number), NeedsTrial):
            who = self.champion if decision.who == "champion" else number
            self.runs[who][decision.seed] = Measurement("measured", self.measure(who, decision.seed))
            self.spent += 1
        mean = self.contestant(number).mean
        done = replace(self.history[number], measurement=mean, verdict=decision, bar=decision.bar)
        self.history[number] = done
        gain = 0.0
        if done.kept:
            gain = self.metric.gain(self.history[self.champion].value, done.value) if number else 0.0
            self.champion = number
        if self.credit and number:
            self.credit.add(proposer, gain, self.spent - before)
        self.search.tell(done)

    def decision(self, number):
        return self.judge.judge(self.contestant(self.champion), self.contestant(number), self.noise())

    def contestant(self, number):
        if number is None:
            return None
        first = SEED if self.same_seeds or not number else 10_000 + 2 * number
        return Contestant(self.runs[number], 0, self.history[number].bar, first)

    def measure(self, number, seed):
        """One of the row's stored runs, their spread widened so that its variance is unbiased."""
        values, draw = self.table["rows"][self.codes[number]], random.Random(f"{self.number}/{number}/{seed}")
        middle, n = statistics.fmean(values), len(values)
        return middle + (draw.choice(values) - middle) * math.sqrt(n / (n - 1))

    def noise(self):
        groups = [[run.metric for run in runs.values()] for runs in self.runs if len(runs) > 1]
        first = next(iter(self.runs[0].values()), None)
        return pooled(groups, prior_sigma(first.metric if first else None, None))

    def text(self, code):
        """A row as a genome: a constant for each setting."""
        kinds = [f"0..{n - 1}" if numbers else " | ".join(map(str, range(n))) for n, numbers in self.table["settings"]]
        return "".join(f"P{n} = {level}  # [{kind}]\n" for n, (level, kind) in enumerate(zip(code, kinds, strict=True)))


def played(settings, table, number):
    """The share that one inner session reaches."""
    for name in ("WARM_UP", "ONE"):
        setattr(tuner, name, settings[f"TUNER_{name}"])
    return Session(settings, table, number).play()


def reached(settings, names, seed):
    """The mean share that inner sessions reach on these tables."""
    shares = []
    for name in names:
        table = json.loads((FOLDER / f"{name.replace(':', '-')}.json").read_text())
        shares += [played(settings, table, 1000 * seed + n) for n in range(SESSIONS)]
    return statistics.fmean(shares)


def show(settings):
    """The strategy as a part of a lab.toml; the tuner's parameters are constants of nightlab."""
    print(f'[judge]\nrule = "{settings["RULE"]}"\n\n[search]\nstrategy = "{settings["SEARCH"]}"')
    print(f'shares = "{settings["SHARES"]}"')
    for kind in ("tuner", "patches", "controller"):
        if share := settings[f"{kind.upper()}_SHARE"]:
            print(f'\n[[proposers]]\nkind = "{kind}"\nshare = {share:g}')


def main():
    try:
        settings = strategy(Path("strategy.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        print(f"no metric: strategy.toml: {error}")
        sys.exit(4)
    if "--show" in sys.argv:
        show(settings)
        return
    seed = int(os.environ.get("NIGHTLAB_SEED", "0"))
    if os.environ.get("NIGHTLAB_HELD_OUT") == "1" or "--held-out" in sys.argv:
        print(f"METRIC held_out={reached(settings, HELD_OUT, seed):.5f}")
    print(f"METRIC reached={reached(settings, SEARCH, seed):.5f}")


if __name__ == "__main__":
    main()
