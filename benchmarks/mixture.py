"""Shares that are earned, against fixed ones and each proposer alone: python benchmarks/mixture.py [--sessions 200]

Plays sessions of equal cost with the product's own accounts, judge, rule and noise, in the simulated landscape of
keep_rules.py. Its proposers differ in how good their ideas are and what a turn costs, in trials; who is best changes
from case to case, and the mixture is told nothing of it.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import time
from dataclasses import dataclass, field
from multiprocessing import Pool

from keep_rules_worlds import BASELINE, WORKERS, Genome
from machine import heading, table

from nightlab.core.types import Measurement, Metric, Verdict
from nightlab.judge import Contestant, Judge, NeedsTrial, Noise, make_rule, pooled, prior_sigma
from nightlab.proposers.shares import ProposerCredit

BUDGET = 200.0  # trials that a session may cost, turns included
SIGMA = 0.5e-3
PARTS = 4  # of a session, of which the shares are shown


@dataclass(frozen=True, slots=True)
class Mind:
    """A proposer: ``good`` of its ideas improve, at first ``early`` more, fading; a turn costs ``turn`` trials more.

    The effects are those of the original's public session (``Fitted`` of keep_rules_worlds), times ``size`` where
    they improve.
    """

    good: float
    early: float = 0.0
    size: float = 1.0
    turn: float = 0.0
    fades: float = 12.0

    def effect(self, draw: random.Random, turns: int) -> float:
        early = self.early * math.exp(-turns / self.fades)
        kind, size = draw.random(), draw.gauss(0, 1)
        good = min(self.good + early, 0.95)
        if kind < good:
            return -min(self.size * 2.8e-4 * math.exp(0.8 * size), 0.012)
        return min(1e-3 * math.exp(1.1 * size), 0.03) if kind > good + (1 - good) / 3 else 0.0


TUNER, QUEUE = Mind(0.19), Mind(0.05)
CASES = {
    "a model that is worth its cost": {"tuner": TUNER, "model": Mind(0.35, size=3.0, turn=1.0), "poor": QUEUE},
    "one that is not": {"tuner": TUNER, "model": Mind(0.22, turn=3.0), "poor": QUEUE},
    "one that runs dry": {"tuner": TUNER, "model": Mind(0.02, 0.6, 5.0, 1.0), "poor": QUEUE},
    "three alike": {"one": TUNER, "two": TUNER, "three": TUNER},
}
METRIC = Metric("val_bpb")


@dataclass
class Session:
    """One session until its budget is spent. ``who``: one proposer alone, ``fixed`` even shares, or ``credits``."""

    minds: dict[str, Mind]
    who: str
    number: int
    turns: dict[str, int] = field(default_factory=dict)
    shares: list[dict[str, int]] = field(default_factory=lambda: [{} for _ in range(PARTS)])
    spent: float = 0.0

    def play(self) -> float:
        """What the champion truly gained."""
        earnings, judge = ProposerCredit(self.minds, f"{self.number}"), Judge(METRIC, {}, make_rule("shrunk"))
        start = Genome(0, BASELINE)
        champion, runs = start, {1: self._run(start, 1)}
        value = runs[1].metric
        assert value is not None
        bar, self.groups = value, dict[int, list[float]]()
        self.prior = prior_sigma(value, None)
        for number in range(1, 10_000):
            if self.spent >= BUDGET:
                break
            name = self._next(earnings, number)
            part = self.shares[min(int(PARTS * self.spent / BUDGET), PARTS - 1)]
            part[name] = part.get(name, 0) + 1
            before = self.spent
            self.spent += self.minds[name].turn
            draw = random.Random(f"{self.number}/{name}/{self.turns.get(name, 0)}")
            assert champion.true is not None
            genome = Genome(number, champion.true + self.minds[name].effect(draw, self.turns.get(name, 0)))
            self.turns[name] = self.turns.get(name, 0) + 1
            earnings.turn(name)
            verdict, tried = self._judged(judge, Contestant(runs, 0, bar), genome)
            gain = 0.0
            if verdict.status == "keep" and verdict.bar is not None:
                gain = METRIC.gain(bar, verdict.bar)
                champion, runs, bar = genome, tried, verdict.bar
            earnings.add(name, gain, self.spent - before)
        assert champion.true is not None
        return BASELINE - champion.true

    def _next(self, earnings: ProposerCredit, number: int) -> str:
        if self.who in self.minds:
            return self.who
        return earnings.order()[0] if self.who == "earned" else list(self.minds)[number % len(self.minds)]

    def _judged(self, judge: Judge, champion: Contestant, genome: Genome) -> tuple[Verdict, dict[int, Measurement]]:
        runs: dict[int, Measurement] = {}
        while True:
            decision = judge.judge(champion, Contestant(runs, 0, None, 2 * genome.number), self._noise())
            if not isinstance(decision, NeedsTrial):
                return decision, runs
            if decision.who == "champion":
                raise AssertionError("this rule asks for none")
            runs[decision.seed] = self._run(genome, decision.seed)
            if len(runs) > 1:
                self.groups[genome.number] = [m.metric for m in runs.values() if m.metric is not None]

    def _run(self, genome: Genome, seed: int) -> Measurement:
        self.spent += 1
        draw = random.Random(f"{self.number}/{genome.number}/{seed}/{genome.true}")
        assert genome.true is not None
        return Measurement("measured", genome.true + SIGMA * draw.gauss(0, 1))

    def _noise(self) -> Noise:
        return pooled(list(self.groups.values()), self.prior)


def _play(job: tuple[str, str, int]) -> tuple[float, list[dict[str, int]]]:
    case, who, number = job
    session = Session(CASES[case], who, number)
    return session.play(), session.shares


def _line(case: str, who: str, played: list[tuple[float, list[dict[str, int]]]]) -> list[str]:
    gains = [1e4 * gain for gain, _ in played]
    middle, error = statistics.fmean(gains), statistics.stdev(gains) / math.sqrt(len(gains))
    shares = []
    for part in range(PARTS):
        of = [shares[part] for _, shares in played]
        total = sum(sum(each.values()) for each in of) or 1
        shares.append(" ".join(f"{sum(each.get(name, 0) for each in of) / total:.0%}" for name in CASES[case]))
    mixed = who in ("fixed", "earned")
    return [who, f"{middle:.1f} ± {error:.1f}", *(shares if mixed else ["" for _ in shares])]


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--sessions", type=int, default=200)
    ask.add_argument("--seed", type=int, default=5000, help="number of the first session")
    wanted = ask.parse_args()
    begun = time.perf_counter()
    heading(
        f"mixture: true gain in 1e-4 bpb at a cost of {BUDGET:g} trials, mean ± its error, {wanted.sessions} sessions"
    )
    with Pool(WORKERS) as pool:
        for case, minds in CASES.items():
            print(f"{case}; shares of {', '.join(minds)}")
            rows = []
            for who in (*minds, "fixed", "earned"):
                jobs = [(case, who, number) for number in range(wanted.seed, wanted.seed + wanted.sessions)]
                rows.append(_line(case, who, pool.map(_play, jobs)))
            table(["shares", "gain", *(f"shares in quarter {n + 1}" for n in range(PARTS))], rows)
    print(f"{time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
