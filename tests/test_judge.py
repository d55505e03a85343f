"""The judge: pure, symmetric, safe against missing numbers; and an interval that covers what it says."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightlab.judge import Contestant, make_rule, paired_gain
from nightlab.records import Measurement, Metric, NightlabError

LESS, MORE = Metric("m", "minimise"), Metric("m", "maximise")
numbers = st.floats(-1e9, 1e9)


def run(metric: float | None, lines: int = 10, outcome: str = "measured", **more: object) -> Contestant:
    return Contestant(Measurement(outcome, metric, **more), lines)  # type: ignore[arg-type]


def greedy(metric: Metric = LESS, **limits: object):  # type: ignore[no-untyped-def]
    return make_rule("greedy", metric, limits)  # type: ignore[arg-type]


@given(numbers, numbers, st.integers(0, 99), st.integers(0, 99))
def test_minimise_and_maximise_mirror_each_other(a: float, b: float, before: int, after: int) -> None:
    one = greedy(LESS).judge(run(a, before), run(b, after))
    two = greedy(MORE).judge(run(-a, before), run(-b, after))
    assert (one.status, one.reason) == (two.status, two.reason)


@given(numbers, numbers, st.integers(0, 99), st.integers(0, 99))
def test_a_keep_is_better_or_as_good_and_shorter(a: float, b: float, before: int, after: int) -> None:
    verdict = greedy().judge(run(a, before), run(b, after))
    assert (verdict.status == "keep") == (b < a or (a == b and after < before))
    assert verdict.reason == (
        "improved" if b < a else "regressed" if b > a else ("simpler" if after < before else "inconclusive")
    )


@given(numbers, numbers)
def test_no_two_genomes_each_replace_the_other(a: float, b: float) -> None:
    rule = greedy()
    assert not (rule.judge(run(a), run(b)).status == rule.judge(run(b), run(a)).status == "keep")


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("metric", [LESS, MORE])
def test_a_missing_or_impossible_number_is_never_kept(value: float | None, metric: Metric) -> None:
    assert greedy(metric).judge(None, run(value)).status == "crash"
    assert greedy(metric).judge(run(1.0), run(value)).status == "crash"


@pytest.mark.parametrize(
    ("outcome", "status", "reason"),
    [
        ("crashed", "crash", "crashed"),
        ("timed out", "crash", "timed out"),
        ("no metric", "crash", "crashed"),
        ("lost", "crash", "crashed"),
        ("over budget", "discard", "over budget"),
        ("over limit", "discard", "over limit"),
        ("checks failed", "discard", "checks failed"),
        ("tampered", "discard", "tampered"),
    ],
)
@pytest.mark.parametrize("champion", [None, run(1.0)])
def test_every_outcome_without_a_number_has_its_verdict(
    outcome: str, status: str, reason: str, champion: Contestant | None
) -> None:
    verdict = greedy().judge(champion, run(None, 10, outcome, detail="why"))
    assert (verdict.status, verdict.reason, verdict.detail) == (status, reason, "why")


def test_the_baseline_is_kept() -> None:
    verdict = greedy(peak_memory_mb=1).judge(None, run(5.0, peak_memory_mb=99))
    assert (verdict.status, verdict.reason) == ("keep", "baseline")


def test_limits_go_before_the_metric() -> None:
    champion = run(1.0, peak_memory_mb=100, secondary={"speed": 10.0})
    relative = greedy(peak_memory_mb="+20%")
    assert relative.judge(champion, run(0.5, peak_memory_mb=119)).status == "keep"
    gpu = greedy(peak_gpu_memory_mb="+20%")
    assert gpu.judge(champion, run(0.5)).status == "keep", "0 of 0, where no device was seen"
    assert gpu.judge(run(1.0, peak_gpu_memory_mb=10), run(0.5, peak_gpu_memory_mb=13)).reason == "over limit"
    over = relative.judge(champion, run(0.5, peak_memory_mb=121))
    assert (over.status, over.reason) == ("discard", "over limit") and "peak_memory_mb" in over.detail
    absolute = greedy(speed=12)
    assert absolute.judge(champion, run(0.5, secondary={"speed": 11.9})).status == "keep"
    assert absolute.judge(champion, run(0.5, secondary={"speed": 12.1})).reason == "over limit"
    missing = absolute.judge(champion, run(0.5))
    assert (missing.status, missing.reason) == ("discard", "over limit") and "not measured" in missing.detail


@given(st.lists(numbers, min_size=1, max_size=20))
def test_a_search_ends_at_the_best_it_saw(values: list[float]) -> None:
    rule, champion = greedy(), None
    for value in values:
        candidate = run(value)
        if rule.judge(champion, candidate).status == "keep":
            champion = candidate
    assert champion and champion.measurement.metric == min(values)


# -- the interval --------------------------------------------------------------------------------------

pairs = st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=2, max_size=12)


@given(pairs, st.randoms(use_true_random=False))
def test_the_order_of_the_pairs_does_not_matter(found: list[tuple[float, float]], draw: random.Random) -> None:
    mixed = list(found)
    draw.shuffle(mixed)
    one, two = (paired_gain(LESS, *zip(*each, strict=True)) for each in (found, mixed))
    assert (one.mean, one.low, one.high) == pytest.approx((two.mean, two.low, two.high))


@given(pairs)
def test_a_gain_swaps_its_sign_with_the_sides_and_with_the_goal(found: list[tuple[float, float]]) -> None:
    before, after = zip(*found, strict=True)
    gain, loss = paired_gain(LESS, before, after), paired_gain(LESS, after, before)
    assert (gain.mean, gain.low, gain.high) == pytest.approx((-loss.mean, -loss.high, -loss.low))
    assert replace(paired_gain(MORE, after, before)) == gain
    assert gain.low <= gain.mean <= gain.high and gain.pairs == len(found)


@given(pairs, st.floats(-100, 100))
def test_luck_that_a_seed_gives_to_both_sides_cancels(found: list[tuple[float, float]], luck: float) -> None:
    before, after = zip(*found, strict=True)
    plain = paired_gain(LESS, before, after)
    moved = paired_gain(LESS, [b + luck for b in before], [a + luck for a in after])
    assert moved.mean == pytest.approx(plain.mean, abs=1e-6)
    assert moved.high == pytest.approx(plain.high, abs=1e-6)


@given(pairs)
def test_a_higher_level_is_wider(found: list[tuple[float, float]]) -> None:
    before, after = zip(*found, strict=True)
    narrow, wide = (paired_gain(LESS, before, after, level) for level in (0.8, 0.99))
    assert wide.low <= narrow.low and wide.high >= narrow.high


def test_against_a_textbook() -> None:
    # Student's sleep data (1908), the example of t.test(..., paired = TRUE) in R: -2.4598858 to -0.7001142.
    one = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    two = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    gain = paired_gain(LESS, one, two)
    assert (gain.mean, gain.low, gain.high) == pytest.approx((-1.58, -2.4598858, -0.7001142))
    assert gain.excludes_zero and gain.low < 0


@pytest.mark.parametrize(("count", "level"), [(2, 0.95), (4, 0.95), (8, 0.9)])
def test_the_interval_covers_the_true_gain_as_often_as_it_says(count: int, level: float) -> None:
    draw, gain, rounds, hits = random.Random(count), 0.01, 4000, 0
    for _ in range(rounds):
        seeds = [draw.gauss(1, 0.5) for _ in range(count)]  # what both sides share
        before = [s + draw.gauss(0, 0.02) for s in seeds]
        after = [s - gain + draw.gauss(0, 0.02) for s in seeds]
        found = paired_gain(LESS, before, after, level)
        hits += found.low <= gain <= found.high
    tolerance = 4 * math.sqrt(level * (1 - level) / rounds)
    assert hits / rounds == pytest.approx(level, abs=tolerance)


def test_one_pair_is_no_interval() -> None:
    for before, after in (([], []), ([1.0], [1.0]), ([1.0, 2.0], [1.0])):
        with pytest.raises(NightlabError, match="at least two pairs"):
            paired_gain(LESS, before, after)


def test_equal_measurements_are_no_gain() -> None:
    gain = paired_gain(LESS, [1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert (gain.mean, gain.low, gain.high) == (0, 0, 0) and not gain.excludes_zero


def test_which_numbers_a_contest_is_about() -> None:
    assert LESS.better(1, 2) and not LESS.better(2, 2) and MORE.better(2, 1)
    assert LESS.gain(3, 1) == MORE.gain(1, 3) == 2
