"""Counts: what is claimed of them is wrong no more often than stated, whenever one stops; and own errors count."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from nightlab.core.types import SEED, Measurement, Metric, PairedGain, Verdict, mean_of
from nightlab.judge import (
    Contestant,
    Judge,
    NeedsTrial,
    Noise,
    always_valid_gain,
    counts_of,
    exact_gain,
    make_rule,
    measured_loss,
    with_stated_errors,
)

MORE, LESS = Metric("rate", "maximise"), Metric("error")


def stating(value: float, error: float) -> Measurement:
    return Measurement("measured", value, standard_error=error)


def drawn(draw: random.Random, rate: float, trials: int, pairs: int) -> list[tuple[int, int]]:
    return [(sum(draw.random() < rate for _ in range(trials)), trials) for _ in range(pairs)]


@pytest.mark.parametrize(("rate", "trials"), [(0.5, 40), (0.1, 60)])
def test_looking_after_every_pair_shows_no_gain_more_often_than_it_may(rate: float, trials: int) -> None:
    draw, fooled, rounds, pairs = random.Random(7), 0, 400, 12
    for _ in range(rounds):
        before, after = drawn(draw, rate, trials, pairs), drawn(draw, rate, trials, pairs)
        fooled += any(always_valid_gain(MORE, before[:n], after[:n]).low > 0 for n in range(2, pairs + 1))
    assert fooled / rounds <= 0.025 + 2 * math.sqrt(0.025 / rounds)


def test_a_real_gain_shows_and_its_interval_covers_it() -> None:
    draw, shown, covered, rounds = random.Random(8), 0, 0, 200
    for _ in range(rounds):
        gain = always_valid_gain(MORE, drawn(draw, 0.5, 80, 8), drawn(draw, 0.65, 80, 8))
        shown += gain.low > 0
        covered += gain.low <= 0.15 <= gain.high
    assert shown > 0.9 * rounds and covered >= 0.95 * rounds
    loss = always_valid_gain(LESS, [(10, 100)] * 2, [(90, 100)] * 2)
    assert loss.high < 0 and loss.pairs == 2, "of a metric that is minimised"


def test_the_same_counts_in_every_pair_are_of_the_same_trials() -> None:
    once = always_valid_gain(MORE, [(60, 100)], [(75, 100)])
    often = always_valid_gain(MORE, [(60, 100)] * 9, [(75, 100)] * 9)
    assert (once.low, once.high) == (often.low, often.high) and once.low < 0
    fresh = always_valid_gain(MORE, [(60, 100), (59, 100)] * 4, [(75, 100), (76, 100)] * 4)
    assert fresh.low > 0


@pytest.mark.parametrize("counts", [[(0, 5), (0, 5)], [(5, 5), (5, 5)], [(1, 1)]])
def test_counts_at_the_edge_have_an_interval(counts: list[tuple[int, int]]) -> None:
    gain = always_valid_gain(MORE, counts, counts)
    assert gain.low < 0 < gain.high and math.isfinite(gain.high)


def test_counts_are_those_of_every_measurement_or_none() -> None:
    one = Measurement("measured", 0.5, successes=2, out_of=4)
    assert counts_of([one, one]) == [(2, 4), (2, 4)]
    assert counts_of([one, Measurement("measured", 0.5)]) is None and counts_of([]) is None
    both = mean_of([one, replace(one, metric=0.25, successes=1)])
    assert (both.metric, both.successes, both.out_of) == (0.375, 3, 8)
    assert mean_of([one, Measurement("measured", 0.5)]).successes is None
    assert mean_of([stating(1, 3), stating(1, 4)]).standard_error == pytest.approx(2.5)
    assert mean_of([stating(1, 3), Measurement("measured", 1)]).standard_error is None


# -- a standard error that the lab states ----------------------------------------------------------------


@pytest.mark.parametrize("scale", ["difference", "ratio"])
def test_noise_is_at_least_what_the_measurement_states(scale: str) -> None:
    judge, noise = Judge(MORE, {}, make_rule("shrunk")), Noise(1e-6, 3, 2, scale)  # type: ignore[arg-type]
    champion = Contestant({SEED: stating(10.0, 0.0), 2: stating(10.0, 0.0)}, 10, 10.0)
    sure = judge.judge(champion, Contestant({SEED: stating(10.1, 0.0)}, 10), noise)
    assert isinstance(sure, Verdict) and sure.status == "keep" and sure.bar == pytest.approx(10.1)
    asked = judge.judge(champion, Contestant({SEED: stating(10.1, 0.4)}, 10), noise)
    assert isinstance(asked, NeedsTrial) and "may be luck" in asked.why
    kept = judge.judge(champion, Contestant({SEED: stating(10.1, 0.4), 2: stating(10.1, 0.4)}, 10), noise)
    assert isinstance(kept, Verdict) and kept.bar == pytest.approx(10.0), "all of the gain may be luck"


def test_a_loss_within_the_errors_that_are_stated_is_no_measured_loss() -> None:
    champion, candidate = Contestant({1: stating(10, 0.1)}, 5), Contestant({1: stating(9.95, 0.1)}, 5)
    quiet = Noise(0.001, 5, 4)
    assert measured_loss(MORE, champion, candidate, quiet, paired=False) > 0
    assert measured_loss(MORE, champion, candidate, quiet.at_least(0.1), paired=False) == 0
    assert quiet.at_least(math.nan) == quiet.at_least(0.0) == quiet and quiet.at_least(math.inf) == quiet
    assert not Noise(0.0, 3, 4).at_least(0.1).exact


def test_the_same_number_on_every_seed_is_as_sure_as_it_says() -> None:
    gain = PairedGain(1.0, 1.0, 1.0, 0.95, 3)
    wide = with_stated_errors(gain, [(1.0, 0.3)] * 3, [(2.0, 0.4)] * 3)
    assert (wide.low, wide.high) == pytest.approx((1 - 0.98, 1 + 0.98), abs=1e-3)
    assert with_stated_errors(gain, [(1.0, 0.3), (1.1, 0.3)], [(2.0, 0.4)] * 2) == gain
    assert with_stated_errors(gain, [(1.0, None)], [(2.0, None)]) == gain
    exact = with_stated_errors(exact_gain(Metric("m", "maximise"), 1.0, 2.0), [(1.0, 0.3)], [(2.0, 0.4)])
    assert exact.level == 0.95 and (exact.low, exact.high) == pytest.approx((1 - 0.98, 1 + 0.98), abs=1e-3)
