"""The Rotifer fitness of a gene, with every term, and what the arena makes of it. Pure.

The Rotifer Protocol's specification (section 5.1, April 2026) prints ``F = S_r ln(1 + C_util) (1 + R_rob) / (L Cost)``.
Its code had scores for L and Cost, high when a gene is fast and cheap, and divided by them: fitness rose with latency,
and whatever took longer than a second tied at the cap of 1. As the protocol corrected it (its ADR-318), and as it is
here, the scores multiply::

    F(g) = S_r * ln(1 + C_util) * (1 + R_rob) * L_score * Cost_score        from 0 to 2 ln 2 = 1.386
    L_score = 1 / (1 + latency / L_ref)     Cost_score = 1 / (1 + cost / Cost_ref)

``L_ref`` and ``Cost_ref`` are the season's medians, so the gene in the middle has a half twice. The specification
leaves open what C_util and R_rob are, and its code holds both at 0.5; what they are here, `fitness` says.

F has no term for the task's own metric: it compares tools, not how well they do. A search selects by the metric, with
its uncertainty; F is a second view.

The specification admits a gene from ``F >= 0.3``. That can't be used: with C_util = R_rob = 0.5 and every run valid, a
gene that takes no time and costs nothing has ``ln(1.5) * 1.5 = 0.608``, at the medians a quarter of it, 0.152, and one
at the medians that gains everywhere and never varies 0.347. So the bar here is what a gene in the middle has,
`REFERENCE`: 0.152, and it moves with the season's medians.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import Literal

Severity = Literal["critical", "high", "medium"]

LARGEST = 1e100  # what can be squared and summed
HIGHEST = 2 * math.log(2)
LEAK_RISK: dict[Severity, float] = {"critical": 1.0, "high": 0.5, "medium": 0.2}
SAFE = 0.7  # the security score from which a gene is admitted: one high finding is too much

ALPHA, DIVERSITY_FLOOR = 0.5, 0.1
DAY = 86_400.0
SEASON, RETENTION = 90 * DAY, 0.5  # how long a season is; what is left of a fitness after each that has passed since
NEWCOMER, PROTECTION = 30 * DAY, 1.5  # how long an author is new, and what their genes' fitness counts for meanwhile


@dataclass(frozen=True, slots=True)
class GeneResult:
    """What one gene did under one standard evaluation: the same seeds, budget and machine for all that are compared.

    ``gains``: of each valid run, how much better it was than the baseline with the same seed. ``gained``: in how many
    of the ``settings`` (tasks and platforms) that it was measured in it was better than the baseline there.
    ``latency`` in seconds and ``cost`` in any one unit (fuel, CPU seconds) are means over the valid runs.

    Raises ValueError for numbers that no evaluation has.
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
    """F(g), term by term, each from 0 to 1. ``estimated`` names those that too little was measured for."""

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
"""A gene in the middle: all runs valid, gains in half of its settings, spread by half its gain, at the medians."""


def fitness(gene: GeneResult, reference: SeasonMedians) -> Fitness:
    """The fitness of a gene, against the season's medians.

    success (S_r): the share of runs that ended with a valid number. utilisation (C_util): the share of settings in
    which it gained. robustness (R_rob): ``1 - min(1, sd / |mean|)`` of its gains: 1 when they are all the same. It
    takes two runs to know, and until then it is 0, and an estimate; so is utilisation in a single setting.
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
    """What fitness is measured against in a season. Genes without a valid run took no time worth counting."""
    ran = [gene for gene in genes if gene.gains]
    if not ran:
        return SeasonMedians(0.0, 0.0)
    return SeasonMedians(median(gene.latency for gene in ran), median(gene.cost for gene in ran))


def security(passed: int, tests: int, found: Mapping[Severity, int]) -> float:
    """V(g): the share of checks that it passes, over one plus the weights of what was found against it.

    The protocol finds by line patterns, which anybody evades; here it is what a gene was caught at. Where nothing was
    checked it has shown nothing: 0.
    """
    risk = 1 + sum(LEAK_RISK[severity] * count for severity, count in found.items())
    return (passed / tests if tests else 0.0) / risk


def refusals(fit: float, safety: float) -> list[str]:
    """Why a gene of this fitness and security score is not admitted; nothing when it is."""
    why = []
    if fit < REFERENCE.value:
        why.append(f"F {fit:.3f} is below {REFERENCE.value:.3f}, a gene in the middle")
    if safety < SAFE:
        why.append(f"V {safety:.2f} is below {SAFE}")
    return why


def diversity(usage: int, all_usage: int) -> float:
    """What a gene's rank is multiplied with, so that one that everybody uses leaves room for others.

    ``1 - (usage / all usage in its domain) ** 0.5``, and never below 0.1.
    """
    return max(1 - (usage / all_usage) ** ALPHA, DIVERSITY_FLOOR) if all_usage else 1.0


def season(at: float) -> int:
    """The number of the season that a time (seconds since the epoch) falls into, for everybody the same."""
    return math.floor(at / SEASON)


def retained(measured: float, now: float) -> float:
    """What is left of a fitness that was measured at one time, at another: half for each season that began since."""
    return float(RETENTION ** max(season(now) - season(measured), 0))


def protection(first: float, now: float) -> float:
    """What the fitness of an author's genes counts for, by when their first one was published."""
    return PROTECTION if 0 <= now - first < NEWCOMER else 1.0


def _robustness(gains: Iterable[float]) -> float:
    found = tuple(gains)
    if len(found) < 2 or not (mean := abs(fmean(found))):
        return 0.0
    return 1 - min(1.0, stdev(found) / mean)


def _score(value: float, reference: float) -> float:
    """1 for nothing, a half at the reference, towards 0 beyond."""
    if value == 0:
        return 1.0
    return reference / (reference + value)
