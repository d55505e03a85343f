"""The Rotifer fitness of a gene, with all its terms, and what the arena makes of it. Pure.

The Rotifer Protocol's specification (section 5.1, April 2026) prints ``F = S_r ln(1 + C_util) (1 + R_rob) / (L Cost)``.
Its code had scores for L and Cost, high when a gene is fast and cheap, and divided by them: fitness rose with latency,
and everything that took longer than a second tied at the cap of 1. As corrected by the protocol (ADR-318), and as
implemented here, the scores multiply::

    F(g) = S_r * ln(1 + C_util) * (1 + R_rob) * L_score * Cost_score        from 0 to 2 ln 2 = 1.386
    L_score = 1 / (1 + latency / L_ref)     Cost_score = 1 / (1 + cost / Cost_ref)

``L_ref`` and ``Cost_ref`` are the season's medians, so a median gene has 0.5 for both. The specification does not
define C_util and R_rob, and its code fixes both at 0.5; `fitness` documents the definitions used here.

F has no term for the task's own metric: it compares tools, not their results. A search selects by the metric, with its
uncertainty; F is a second view.

The specification admits a gene from ``F >= 0.3``. That is not usable: with C_util = R_rob = 0.5 and every run valid, a
gene without any latency and cost has ``ln(1.5) * 1.5 = 0.608``, at the medians a quarter of it, 0.152, and a gene at
the medians that gains everywhere without variance 0.347. So the threshold here is the fitness of a median gene,
`REFERENCE`: 0.152, and it moves with the season's medians.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import Literal

Severity = Literal["critical", "high", "medium"]

LARGEST = 1e100  # largest value that can be squared and summed
HIGHEST = 2 * math.log(2)
LEAK_RISK: dict[Severity, float] = {"critical": 1.0, "high": 0.5, "medium": 0.2}
SAFE = 0.7  # smallest security score for admission: one finding of high severity is too much

ALPHA, DIVERSITY_FLOOR = 0.5, 0.1
DAY = 86_400.0
SEASON, RETENTION = 90 * DAY, 0.5  # length of a season; factor on the fitness for each season passed
NEWCOMER, PROTECTION = 30 * DAY, 1.5  # how long an author is new; factor on their genes' fitness meanwhile


@dataclass(frozen=True, slots=True)
class GeneResult:
    """A gene's results in a standard evaluation: the same seeds, budget and machine for all compared genes.

    ``gains``: each valid run's gain over the baseline with the same seed. ``gained``: the number of ``settings`` (tasks
    and platforms) in which it beat the baseline, of those it was measured in. ``latency`` (seconds) and ``cost`` (any
    one unit: fuel, CPU seconds) are means over the valid runs.

    Raises ValueError for impossible numbers.
    """

    runs: int
    gains: tuple[float, ...]
    settings: int
    gained: int
    latency: float
    cost: float

    def __post_init__(self) -> None:
        if not (self.runs >= len(self.gains) and 0 <= self.gained <= self.settings):
            raise ValueError("more valid runs than runs, or more settings with a gain than settings")
        numbers = (*self.gains, self.latency, self.cost)
        if not all(abs(number) <= LARGEST for number in numbers) or min(self.latency, self.cost) < 0:
            raise ValueError(f"gains, latency and cost must be numbers up to {LARGEST:g}, the last two not negative")


@dataclass(frozen=True, slots=True)
class SeasonMedians:
    """The season's medians, over the genes that were evaluated alike."""

    latency: float
    cost: float


@dataclass(frozen=True, slots=True)
class Fitness:
    """F(g), term by term, each from 0 to 1. ``estimated``: the terms with too few measurements."""

    success: float
    utilisation: float
    robustness: float
    latency: float
    cost: float
    estimated: tuple[str, ...] = ()

    @property
    def value(self) -> float:
        return self.success * math.log1p(self.utilisation) * (1 + self.robustness) * self.latency * self.cost


REFERENCE = Fitness(success=1.0, utilisation=0.5, robustness=0.5, latency=0.5, cost=0.5)
"""The fitness of a median gene: all runs valid, gains in half of its settings, spread by half its gain."""


def fitness(gene: GeneResult, reference: SeasonMedians) -> Fitness:
    """The fitness of a gene, relative to the season's medians.

    success (S_r): the share of runs with a valid number. utilisation (C_util): the share of settings in which it
    gained. robustness (R_rob): ``1 - min(1, sd / |mean|)`` of its gains, so 1 if they are all equal. With fewer than
    two runs it is 0 and marked as estimated; so is utilisation in a single setting.
    """
    estimated = []
    if gene.settings < 2:
        estimated.append("utilisation")
    if len(gene.gains) < 2:
        estimated.append("robustness")
    return Fitness(
        success=len(gene.gains) / gene.runs if gene.runs else 0.0,
        utilisation=gene.gained / gene.settings if gene.settings else 0.0,
        robustness=_robustness(gene.gains),
        latency=_score(gene.latency, reference.latency),
        cost=_score(gene.cost, reference.cost),
        estimated=tuple(estimated),
    )


def medians(genes: Sequence[GeneResult]) -> SeasonMedians:
    """The season's medians as reference; genes without a valid run are left out."""
    ran = [gene for gene in genes if gene.gains]
    if not ran:
        return SeasonMedians(0.0, 0.0)
    return SeasonMedians(median(gene.latency for gene in ran), median(gene.cost for gene in ran))


def security(passed: int, tests: int, found: Mapping[Severity, int]) -> float:
    """V(g): the share of passed checks, divided by one plus the weights of the violations found.

    The protocol detects violations by line patterns, which are easy to evade; here it is what trials detected. Without
    any check the score is 0.
    """
    risk = 1 + sum(LEAK_RISK[severity] * count for severity, count in found.items())
    return (passed / tests if tests else 0.0) / risk


def refusals(fit: float, safety: float) -> list[str]:
    """Why a gene with this fitness and security score is not admitted; empty if it is."""
    why = []
    if fit < REFERENCE.value:
        why.append(f"F {fit:.3f} is below {REFERENCE.value:.3f}, a gene in the middle")
    if safety < SAFE:
        why.append(f"V {safety:.2f} is below {SAFE}")
    return why


def diversity(usage: int, all_usage: int) -> float:
    """The diversity factor of a gene's rank, so that a popular gene leaves room for others.

    ``1 - (usage / all usage in its domain) ** 0.5``, at least 0.1.
    """
    return max(1 - (usage / all_usage) ** ALPHA, DIVERSITY_FLOOR) if all_usage else 1.0


def season(at: float) -> int:
    """The number of the season of a time (seconds since the epoch), the same for everyone."""
    return math.floor(at / SEASON)


def retained(measured: float, now: float) -> float:
    """The factor on a fitness measured at one time, at a later time: half for each season started since."""
    return float(RETENTION ** max(season(now) - season(measured), 0))


def protection(first: float, now: float) -> float:
    """The factor on the fitness of a new author's genes, by when their first one was published."""
    return PROTECTION if 0 <= now - first < NEWCOMER else 1.0


def _robustness(gains: Iterable[float]) -> float:
    found = tuple(gains)
    if len(found) < 2 or not (mean := abs(fmean(found))):
        return 0.0
    return 1 - min(1.0, stdev(found) / mean)


def _score(value: float, reference: float) -> float:
    """1 at zero, 0.5 at the reference, approaching 0 beyond."""
    if value == 0:
        return 1.0
    return reference / (reference + value)
