"""Whole sessions with the product's own judge, rules and noise, without a machine below, for keep_rules.py."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing import Pool

from keep_rules_worlds import WORKERS, Cell, Genome, Kind, Noiseless, World

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
from nightlab.judge.rounds import MOST, compare_rounds

TRIALS = 126  # of a session, the confirmation at its end included
PAIRS = 5  # of that confirmation
UPKEEP = 25  # experiments between two looks at the champion
RECHECK_SEED, CONFIRM_SEED, ROUND_SEED, OWN_SEED = 501, 1001, 5001, 10_000
PRECISION = 0.04  # metric.precision
CLOSE, MOVED = 2.0, 0.05  # times the bar up to which a time is compared; share of it by which the machine has changed


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
    measured_losses: int = 0  # keeps that measured worse by more than that: none, if the judge is right
    missed: int = 0
    tried: int = 0
    shorter: int = 0
    bar_error: float = 0.0
    claim_error: float | None = None
    covered: bool | None = None
    sigma: float = 0.0


class NoTrialsLeft(Exception):
    """The session has no trials left."""


@dataclass(slots=True)
class Champion:
    """The champion, as the ledger would tell."""

    genome: Genome
    runs: dict[int, Measurement]
    bar: float
    remeasured: int = 0

    def contestant(self) -> Contestant:
        return Contestant(self.runs, self.genome.lines, self.bar)


@dataclass(slots=True)
class Session:
    """One session: what the orchestrator does with the judge, without a machine below."""

    world: World
    judge: Judge
    stated: float | None
    left: int
    result: Result = field(default_factory=Result)
    champion: Champion | None = None
    first: float | None = None
    groups: dict[int, dict[int, float]] = field(default_factory=dict)
    known: Noise | None = None
    common: bool = True  # whether candidates run on the champion's seeds, and times are compared in rounds
    scale: Scale | None = None
    beside: dict[int, Measurement] = field(default_factory=dict)  # the champion's runs in a candidate's rounds

    def play(self) -> Result:
        with suppress(NoTrialsLeft):
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
            raise NoTrialsLeft
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
                runs[decision.seed] = run = self._run(genome, decision.seed)
                if self._timed and self.champion and len(runs) == 1 and run.metric is not None:
                    self._beside(run.metric)
        self.beside.clear()
        if self._timed and self.champion and decision.status == "keep":
            runs, decision = self._rounds(genome, decision)
        self._count(genome, decision, runs)
        if decision.status == "keep":
            assert decision.bar is not None
            self.champion = Champion(genome, runs, decision.bar)

    @property
    def _timed(self) -> bool:
        return self.common and isinstance(self.world, Kind) and self.world.kind == "timed"

    def _rounds(self, genome: Genome, decision: Verdict) -> tuple[dict[int, Measurement], Verdict]:
        """The verdict after rounds beside the champion, and what the candidate measured in them."""
        champion, runs, pairs = self.champion, dict[int, Measurement](), list[tuple[float, float]]()
        assert champion is not None
        while True:
            seed = ROUND_SEED + len(pairs)
            sides = [genome, champion.genome] if seed % 2 else [champion.genome, genome]
            times = {side.number: self._run(side, seed) for side in sides}
            self.beside[seed], runs[seed] = times[champion.genome.number], times[genome.number]
            before, after = self.beside[seed].metric, runs[seed].metric
            assert before is not None and after is not None
            pairs.append((before, after))
            last = len(pairs) == MOST
            if verdict := compare_rounds(self.world.metric, pairs, PRECISION, decision, last=last):
                return runs, verdict

    def _beside(self, value: float) -> None:
        """The champion once more after a close candidate: its time is part of the bar, or a new one if it moved."""
        champion = self.champion
        assert champion is not None
        if value >= CLOSE * champion.bar:
            return
        found = self.noise().local(champion.bar).sigma  # before its new run
        run = self._run(champion.genome, self._recheck_seed(champion, 0))
        assert run.metric is not None
        error = found * math.sqrt(1 + 1 / len(champion.runs))
        if abs(run.metric - champion.bar) > max(MOVED * champion.bar, 3 * error):
            champion.runs, champion.bar = {}, run.metric
        else:
            champion.bar = self.judge.remeasured(champion.bar, len(champion.runs), run.metric, self.noise())
        champion.runs[self._recheck_seed(champion, 0)] = run

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
        self.result.shorter += genome.lines < self.champion.genome.lines
        if isinstance(self.world, Kind):
            self._count_losses(self.world, genome, runs, effect)

    def _count_losses(self, world: Kind, genome: Genome, runs: dict[int, Measurement], effect: float) -> None:
        """Keeps that are worse, and that measured worse, by more than the standard error that the truth gives them."""
        assert self.champion is not None
        before, after = (Contestant(side, 0).values() for side in (self.beside or self.champion.runs, runs))
        shared = [seed for seed in after if seed in before] if self.beside or self.noise().rho else []
        one, other = ([side[seed] for seed in shared or side] for side in (before, after))
        error = world.sigma(genome) * math.sqrt(1 / len(one) + 1 / len(other))
        self.result.losses += effect < -max(error, world.small)
        self.result.measured_losses += self._gain(average(one), average(other)) < -error

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

    def _recheck_seed(self, champion: Champion, later: int) -> int:
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
    return Session(world, judge, contest.cell.stated, left, common=contest.common).play()


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
