"""Luck that a seed gives to all programs: found from runs that share seeds, taken off, and not imagined."""

from __future__ import annotations

import random
import statistics

import pytest

from nightlab.core.types import SEED, Measurement, Metric, Verdict
from nightlab.judge import Contestant, Judge, Noise, make_rule, seeds_of_candidate, share_of_seeds
from nightlab.judge.common_luck import without_common_luck

LESS = Metric("m")


def contestant(values: dict[int, float], bar: float | None = None) -> Contestant:
    return Contestant({seed: Measurement("measured", value) for seed, value in values.items()}, 10, bar)


def programs(draw: random.Random, rho: float, count: int, seeds: int) -> list[dict[int, float]]:
    common = [rho**0.5 * draw.gauss(0, 1) for _ in range(seeds)]
    return [
        {n: 10 * level + c + (1 - rho) ** 0.5 * draw.gauss(0, 1) for n, c in enumerate(common)}
        for level in range(count)
    ]


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_rho_is_found_whatever_the_programs_levels(rho: float) -> None:
    draw = random.Random(3)
    found = [share_of_seeds(programs(draw, rho, 8, 6)) for _ in range(40)]
    assert statistics.median(found) == pytest.approx(rho, abs=0.1)
    assert rho or sum(each > 0 for each in found) <= 6


def test_without_shared_seeds_or_numbers_nothing_is_common() -> None:
    assert share_of_seeds([]) == share_of_seeds([{1: 1.0, 2: 2.0}]) == share_of_seeds([{1: 1.0}, {1: 2.0}]) == 0
    assert share_of_seeds([{1: 1.0, 2: 2.0}, {3: 1.0, 4: 2.0}]) == 0
    assert share_of_seeds([{1: 5.0, 2: 5.0}, {1: 4.0, 2: 4.0}]) == 0, "all the same"
    assert share_of_seeds([{1: float("inf"), 2: 5.0}, {1: 4.0, 2: 4.1}]) == 0
    huge = {n: 1e300 * n for n in range(1, 7)}
    assert 0 <= share_of_seeds([huge, huge]) <= 1


def test_candidates_run_on_the_champions_seeds_in_turn() -> None:
    champion = contestant({1: 0.0, 2: 0.0, 501: 0.0})
    assert seeds_of_candidate(7, None) == ()
    assert [seeds_of_candidate(n, champion) for n in (3, 4, 5)] == [(1, 2, 501), (2, 501, 1), (501, 1, 2)]


def test_the_luck_of_a_seed_is_taken_off_as_far_as_it_is_common() -> None:
    champion, noise = contestant({1: 12.0, 2: 8.0}, 10.0), Noise(2.0, 5, 4, rho=0.8)
    found = without_common_luck(champion, contestant({1: 11.0, 77: 11.0}), noise)
    assert found is not None
    assert found[0].values() == {1: pytest.approx(11 - 0.8 * 2), 77: 11.0}
    assert found[1].sigma == pytest.approx(2 * (1 - 0.64 / 2) ** 0.5), "one of two runs is on a shared seed"
    assert without_common_luck(champion, contestant({77: 11.0}), noise) is None
    assert without_common_luck(champion, contestant({1: 11.0}), Noise(2.0, 5, 4)) is None


def test_pairs_that_measured_worse_are_no_gain_because_their_seeds_vary() -> None:
    champion = contestant({1: 10.0, 2: 12.0}, bar=20.0)  # whatever made its bar that much worse
    judge, noise = Judge(LESS, {}, make_rule("shrunk")), Noise(1.0, 1e6, 10**6, rho=0.75)
    for more, status in ((0.4, "keep"), (0.6, "discard")):  # the standard error of two such pairs is half of sigma
        decision = judge.judge(champion, contestant({1: 10.0 + more, 2: 12.0 + more}), noise)
        assert isinstance(decision, Verdict) and decision.status == status


def test_a_better_program_on_an_unlucky_seed_is_kept_and_a_worse_one_on_a_lucky_seed_is_not() -> None:
    judge, champion = Judge(LESS, {}, make_rule("shrunk")), contestant({SEED: 13.0, 2: 7.0}, 10.0)
    plain, common = Noise(3.0, 30, 20), Noise(3.0, 30, 20, rho=0.95)
    unlucky, lucky = contestant({SEED: 11.0}), contestant({2: 8.0})

    def status(candidate: Contestant, noise: Noise) -> str:
        found = judge.judge(champion, candidate, noise)
        return found.status if isinstance(found, Verdict) else "again"

    assert (status(unlucky, plain), status(unlucky, common)) == ("discard", "keep")
    assert (status(lucky, plain), status(lucky, common)) == ("again", "discard")
