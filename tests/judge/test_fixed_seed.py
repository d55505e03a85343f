"""A program that fixes its seed does not look precise: neither is sigma learned from it, nor is its gain sure."""

from __future__ import annotations

import random

import pytest

from nightlab.core.types import Metric
from nightlab.judge import paired_gain
from nightlab.judge.fixed_seed import fixes_seed, varying, with_unseen_luck

NOISY = [2.0, 2.2, 2.1]


def test_it_is_told_by_runs_that_are_all_the_same() -> None:
    assert fixes_seed([1.0, 1.0], NOISY)
    assert not fixes_seed([1.0], NOISY), "one run tells nothing"
    assert not fixes_seed([1.0, 1.0], [2.0, 2.0]), "a lab without luck"
    assert not fixes_seed([1.0, 1.1], NOISY)
    draw = random.Random(1)
    times = [[level * (1 + draw.gauss(0, 0.1)) for _ in range(8)] for level in (1.0, 100.0)]
    assert not fixes_seed(*times), "noise in proportion, of a program that is faster"


def test_a_time_that_varies_less_does_not_fix_its_seed() -> None:
    loaded, steady = [146.5, 175.4, 156.6, 144.8, 131.0], [0.0732, 0.0720, 0.0729, 0.0729, 0.0731]
    assert fixes_seed(steady, loaded) and not fixes_seed(steady, loaded, timed=True)
    assert fixes_seed([0.07, 0.07], loaded, timed=True), "no clock says that"


@pytest.mark.parametrize(("left", "found"), [(0.01, 1.0), (0.05, 0.9), (0.5, 0.0), (1.0, 0.0)])
def test_a_fixed_seed_is_told_from_a_part_of_one_and_from_steady_training(left: float, found: float) -> None:
    """Of eight pairs: with a clock's jitter alone it is found, where only some of the luck is fixed it is not."""
    draw = random.Random(1)
    runs = [[[draw.gauss(5, spread) for _ in range(8)] for spread in (left, 1.0)] for _ in range(500)]
    share = sum(fixes_seed(own, before) for own, before in runs) / len(runs)
    assert share >= found if found else share == 0


def test_values_beyond_all_bounds_are_no_fixed_seed() -> None:
    assert not fixes_seed([1e300, -1e300], [1e-300, 2e-300])
    assert fixes_seed([1.0, 1.0], [1e300, -1e300])


def test_sigma_is_learned_from_programs_that_vary() -> None:
    assert varying([[1.0, 1.0], NOISY, [3.0, 3.0, 3.0]]) == [NOISY]
    assert varying([[1.0, 1.0], [2.0, 2.0]]) == [[1.0, 1.0], [2.0, 2.0]]


@pytest.mark.parametrize(("fixed", "shown"), [(1.95, False), (1.2, True)])
def test_a_fixed_seed_claims_only_what_exceeds_the_luck_of_one_run(fixed: float, shown: bool) -> None:
    gain = paired_gain(Metric("loss"), NOISY, [fixed] * 3)
    wider = with_unseen_luck(gain, NOISY)
    assert wider.mean == gain.mean and (wider.low > 0) is shown
    assert wider.high - wider.low == pytest.approx((gain.high - gain.low) * (1 + 3**0.5))
