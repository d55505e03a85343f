"""The fitness of a gene: the direction of each term, its range, and the rules of the arena around it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as some

from nightlab.analysis.fitness import (
    DAY,
    HIGHEST,
    REFERENCE,
    SAFE,
    SEASON,
    Fitness,
    GeneResult,
    SeasonMedians,
    diversity,
    fitness,
    medians,
    protection,
    refusals,
    retained,
    season,
    security,
)

amounts = some.floats(0, 1e9)
gains = some.floats(-1e6, 1e6)


@some.composite
def genes(draw: some.DrawFn) -> GeneResult:
    found = tuple(draw(some.lists(gains, max_size=8)))
    settings = draw(some.integers(0, 20))
    return GeneResult(
        runs=len(found) + draw(some.integers(0, 5)),
        gains=found,
        settings=settings,
        gained=draw(some.integers(0, settings)),
        latency=draw(amounts),
        cost=draw(amounts),
    )


references = some.builds(SeasonMedians, latency=some.floats(1e-6, 1e9), cost=some.floats(1e-6, 1e9))
GOOD = GeneResult(runs=4, gains=(0.9, 1.0, 1.1), settings=4, gained=3, latency=2.0, cost=50.0)
MIDDLE = SeasonMedians(latency=2.0, cost=50.0)


@given(genes(), references)
def test_it_stays_in_its_range(gene: GeneResult, reference: SeasonMedians) -> None:
    found = fitness(gene, reference)
    assert 0 <= found.value <= HIGHEST + 1e-12
    terms = (found.success, found.utilisation, found.robustness, found.latency, found.cost)
    assert all(0 <= term <= 1 for term in terms)


@given(genes(), references, some.floats(0, 1e9))
def test_it_never_rises_with_latency_or_cost(gene: GeneResult, reference: SeasonMedians, more: float) -> None:
    """The published code divided by scores that were already inverted, so that it rose."""
    before = fitness(gene, reference).value
    assert fitness(replace(gene, latency=gene.latency + more), reference).value <= before
    assert fitness(replace(gene, cost=gene.cost + more), reference).value <= before


@given(some.floats(0.1, 1e4), some.floats(1.1, 100))
def test_it_falls_with_latency_and_cost(amount: float, times: float) -> None:
    reference = SeasonMedians(10.0, 10.0)
    slow = fitness(replace(GOOD, latency=amount * times), reference).value
    dear = fitness(replace(GOOD, cost=amount * times), reference).value
    assert slow < fitness(replace(GOOD, latency=amount), reference).value
    assert dear < fitness(replace(GOOD, cost=amount), reference).value


def test_slow_genes_do_not_tie_at_a_cap() -> None:
    slow = [fitness(replace(GOOD, latency=seconds), MIDDLE).value for seconds in (1.0, 2.0, 10.0, 1000.0)]
    assert slow == sorted(slow, reverse=True) and len(set(slow)) == 4


@given(genes(), references)
def test_it_rises_with_success_and_use(gene: GeneResult, reference: SeasonMedians) -> None:
    now = fitness(gene, reference).value
    assert fitness(replace(gene, runs=gene.runs + 1), reference).value <= now  # one more that failed
    if gene.gained < gene.settings:
        assert fitness(replace(gene, gained=gene.gained + 1), reference).value >= now
    assert fitness(replace(GOOD, runs=3), MIDDLE).value > fitness(GOOD, MIDDLE).value
    assert fitness(replace(GOOD, gained=4), MIDDLE).value > fitness(GOOD, MIDDLE).value


@given(some.floats(0.001, 100), some.floats(0.01, 0.5), some.floats(1.1, 1.9))
def test_it_falls_with_the_spread_of_the_gains(mean: float, part: float, more: float) -> None:
    def spread(by: float) -> float:
        return fitness(replace(GOOD, gains=(mean * (1 - by), mean, mean * (1 + by))), MIDDLE).value

    assert spread(0) > spread(part) > spread(part * more)


def test_the_value_is_the_product_of_what_is_shown() -> None:
    found = fitness(GOOD, MIDDLE)
    assert found == Fitness(0.75, 0.75, pytest.approx(0.9), 0.5, 0.5)
    assert found.value == pytest.approx(0.75 * math.log(1.75) * 1.9 * 0.25)


def test_what_was_not_measured_is_called_an_estimate() -> None:
    assert fitness(GOOD, MIDDLE).estimated == ()
    assert fitness(replace(GOOD, gains=(1.0,), settings=1, gained=1), MIDDLE).estimated == ("utilisation", "robustness")
    assert fitness(replace(GOOD, gains=(1.0,)), MIDDLE).robustness == 0
    assert fitness(GeneResult(3, (), 0, 0, 0.0, 0.0), MIDDLE).value == 0


def test_the_published_threshold_can_not_be_used() -> None:
    free = replace(REFERENCE, latency=1.0, cost=1.0)
    assert free.value == pytest.approx(0.608, abs=5e-4)
    assert REFERENCE.value == pytest.approx(0.152, abs=5e-4)
    assert replace(REFERENCE, utilisation=1.0, robustness=1.0).value == pytest.approx(0.347, abs=5e-4)
    assert refusals(REFERENCE.value, 1.0) == []
    assert refusals(REFERENCE.value - 1e-9, 1.0) == ["F 0.152 is below 0.152, a gene in the middle"]


@given(some.lists(genes(), max_size=9))
def test_the_middle_gene_has_a_half_twice(found: list[GeneResult]) -> None:
    reference = medians(found)
    ran = sorted((gene for gene in found if gene.gains), key=lambda gene: gene.latency)
    if len(ran) % 2 and reference.latency > 0:
        assert fitness(ran[len(ran) // 2], reference).latency == pytest.approx(0.5)
    assert all(0 <= fitness(gene, reference).value <= HIGHEST for gene in found)


@pytest.mark.parametrize(
    "wrong",
    [
        {"runs": 2},
        {"gained": 5},
        {"gained": -1},
        {"latency": -1.0},
        {"cost": math.inf},
        {"gains": (math.nan,)},
    ],
)
def test_numbers_that_no_evaluation_has(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"must be|more"):
        replace(GOOD, **wrong)  # type: ignore[arg-type]


def test_security_is_what_it_passed_over_what_it_was_caught_at() -> None:
    assert security(4, 4, {}) == 1.0
    assert security(4, 4, {"high": 1}) == pytest.approx(2 / 3) and security(4, 4, {"high": 1}) < SAFE
    assert security(4, 4, {"critical": 1, "medium": 2}) == pytest.approx(1 / 2.4)
    assert security(3, 4, {}) == 0.75 and security(0, 0, {}) == 0
    assert refusals(1.0, security(4, 4, {"high": 1})) == ["V 0.67 is below 0.7"]


@given(some.integers(0, 1000), some.integers(0, 1000))
def test_diversity_falls_with_use_to_its_floor(usage: int, others: int) -> None:
    now = diversity(usage, usage + others)
    assert 0.1 <= now <= 1
    assert diversity(usage + 1, usage + 1 + others) <= now or usage + others == 0
    assert diversity(0, others) == 1.0 and diversity(5, 5) == 0.1
    assert diversity(1, 4) == pytest.approx(0.5)


@given(some.floats(0, 4e9), some.integers(0, 9))
def test_half_is_left_after_each_season(at: float, seasons: int) -> None:
    start = season(at) * SEASON
    assert retained(start, start + seasons * SEASON) == 0.5**seasons
    assert retained(start + SEASON, start) == 1.0  # a clock that is ahead gains nothing
    assert season(start + SEASON - 1) == season(start)


def test_newcomers_are_protected_for_thirty_days() -> None:
    assert protection(0.0, 29.9 * DAY) == 1.5 and protection(0.0, 30 * DAY) == 1.0
    assert protection(10 * DAY, 0.0) == 1.0
