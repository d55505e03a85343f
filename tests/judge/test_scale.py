"""On every kind of number a measured loss is never kept, and ratios are judged as differences of logarithms are."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightlab.core.types import SEED, Measurement, Metric, Scale, Verdict, average
from nightlab.judge import (
    Contestant,
    Judge,
    NeedsTrial,
    Noise,
    exact_gain,
    find_scale,
    judge_ablation,
    make_rule,
    paired_gain,
    pooled,
    prior_sigma,
    same_on_every_seed,
    times_words,
)

LESS, MORE = Metric("m", "minimise"), Metric("m", "maximise")
NAMES = ("greedy", "shrunk", "strict", "replicate")
positive = st.floats(1e-6, 1e6)
sigmas = st.just(0.0) | st.floats(1e-6, 1e6)


def contestant(values: list[float], lines: int = 10, bar: float | None = None) -> Contestant:
    return Contestant({n: Measurement("measured", value) for n, value in enumerate(values, SEED)}, lines, bar)


def settled(judge: Judge, champion: Contestant, values: list[float], noise: Noise, lines: int) -> Verdict:
    """See a candidate through; both sides get each new number from ``values``, in turn."""
    runs = {SEED: Measurement("measured", values[0])}
    for value in values[1:]:
        decision = judge.judge(champion, Contestant(runs, lines), noise)
        if isinstance(decision, Verdict):
            return decision
        side = runs if decision.who == "candidate" else dict(champion.runs)
        side[decision.seed] = Measurement("measured", value)
        champion = champion if decision.who == "candidate" else replace(champion, runs=side)
    raise AssertionError("it never comes to a verdict")


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60)
@given(
    st.lists(positive, min_size=1, max_size=3),
    st.lists(positive, min_size=1, max_size=3),
    positive,
    sigmas,
    st.sampled_from(["difference", "ratio"]),
    st.sampled_from([LESS, MORE]),
    st.tuples(st.integers(0, 9), st.integers(0, 9)),
)
def test_what_measured_worse_by_more_than_the_standard_errors_is_never_kept(
    name: str,
    before: list[float],
    after: list[float],
    bar: float,
    sigma: float,
    scale: Scale,
    metric: Metric,
    lines: tuple[int, int],
) -> None:
    top = max(*before, *after)  # whatever level the noise was seen at, and however wrong the bar is
    noise = Noise(sigma, 3, 2, scale, (top, top) if scale == "difference" else (0.0, 0.0))
    found = Judge(metric, {}, make_rule(name)).judge(
        contestant(before, lines[0], bar), contestant(after, lines[1]), noise
    )
    if isinstance(found, NeedsTrial) or found.status != "keep":
        return
    if make_rule(name).same_seeds:  # compared on the seeds of both
        before, after = before[: len(after)], after[: len(before)]
    take = math.log if scale == "ratio" else float
    one, other = (average([take(value) for value in side]) for side in (before, after))
    at = sigma if scale == "ratio" else sigma * min(one, other) / top
    assert -metric.gain(one, other) <= at * math.sqrt(1 / len(before) + 1 / len(after)) + 1e-9 * abs(one)


def test_no_few_wild_runs_raise_the_bound_of_a_measured_loss_above_the_true_noise() -> None:
    """Student's t with three degrees of freedom, of variance 1: its sample variance may be many times as large."""
    draw = random.Random(1)

    def wild() -> float:
        return draw.gauss(0, 1) / math.sqrt(sum(draw.gauss(0, 1) ** 2 for _ in range(3)))

    found = [pooled([[wild(), wild()] for _ in range(6)], 0.0) for _ in range(2000)]
    assert max(noise.sigma for noise in found) > 2 and max(noise.surely for noise in found) < 1


whole = st.integers(-1000, 1000)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=30)
@given(st.lists(whole, min_size=20, max_size=20), st.integers(1, 500), whole, st.integers(-9, 9), st.integers(-9, 9))
def test_another_unit_and_another_zero_change_no_verdict(
    name: str, values: list[int], sigma: int, zero: int, power: int, fewer: int
) -> None:
    judge, unit = Judge(LESS, {}, make_rule(name)), 2.0**power
    moved = [(value + zero) * unit for value in values]
    noise = Noise(float(sigma), 4, 3)
    one = settled(judge, contestant(values[:1], 10, values[0]), values[1:], noise, 10 - fewer)
    scaled = replace(noise, sigma=sigma * unit)
    two = settled(judge, contestant(moved[:1], 10, moved[0]), moved[1:], scaled, 10 - fewer)
    assert (one.status, one.reason) == (two.status, two.reason)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=30)
@given(st.lists(positive, min_size=20, max_size=20), st.floats(1e-3, 3), st.integers(-9, 9))
def test_ratios_are_judged_as_the_differences_of_logarithms(
    name: str, values: list[float], sigma: float, fewer: int
) -> None:
    judge, logs = Judge(LESS, {}, make_rule(name)), [math.log(value) for value in values]
    noise = Noise(sigma, 4, 3, "ratio")
    one = settled(judge, contestant(values[:1], 10, values[0]), values[1:], noise, 10 - fewer)
    two = settled(judge, contestant(logs[:1], 10, logs[0]), logs[1:], replace(noise, scale="difference"), 10 - fewer)
    assert (one.status, one.reason) == (two.status, two.reason)
    assert (one.bar is None) == (two.bar is None)
    if one.bar is not None and two.bar is not None:
        assert math.log(one.bar) == pytest.approx(two.bar, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", ["difference", "ratio"])
def test_after_a_gain_of_a_hundred_times_twice_as_slow_is_no_gain(name: str, scale: Scale) -> None:
    groups = [[100.0, 114.0]] if scale == "difference" else [[100.0, 114.0], [1.0, 1.1]]
    noise = pooled(groups, prior_sigma(100.0, None), scale)
    judge, champion = Judge(LESS, {}, make_rule(name)), contestant([100.0, 114.0], 10, 107.0)
    kept = settled(judge, champion, [1.0, 1.1, 0.9, *[100.0, 110.0] * 4], noise, 10)
    assert kept.status == "keep" and kept.bar is not None
    slow = settled(judge, contestant([1.0, 1.1], 10, kept.bar), [2.0, 2.2, 1.9, *[1.0] * 8], noise, 9)
    assert slow.status == "discard"


def test_the_scale_is_that_of_the_noise() -> None:
    draw = random.Random(3)
    right = 0
    for _ in range(200):
        levels = [100.0, *(draw.uniform(1, 30) for _ in range(30))]
        shares = [[level * math.exp(draw.gauss(0, 0.05)) for _ in range(2)] for level in levels]
        same = [[level + draw.gauss(0, 0.05) for _ in range(2)] for level in levels]
        found = find_scale(shares), find_scale(same)
        right += found[0] is not None and found[0][0] == "ratio"
        right += found[1] is not None and found[1][0] == "difference"
    assert right >= 390


def test_the_scale_is_open_where_it_does_not_matter_and_ratio_where_little_is_known() -> None:
    assert find_scale([]) is None and find_scale([[3.0]]) is None
    assert find_scale([[1.0, 1.01], [0.9, 0.91]]) is None  # both are the same there
    assert find_scale([[1.0, 1.01], [-0.5, -0.51]]) is None  # no ratio
    assert (find_scale([[1.0, 2.0]]) or ("",))[0] == "ratio"  # a spread like that is lopsided
    assert (find_scale([[8.0, 8.0], [2.0, 2.0]]) or ("",))[0] == "ratio"
    assert (find_scale([[8.0, 8.0], [2.0, 2.0]], "difference") or ("",))[0] == "difference", "what is found stays"


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_what_has_no_ratio_gets_a_verdict_that_says_so(value: float) -> None:
    judge, noise = Judge(LESS, {}, make_rule("shrunk")), Noise(0.1, 3, 2, "ratio")
    found = judge.judge(contestant([5.0], bar=5.0), contestant([value, 4.0]), noise)
    assert isinstance(found, Verdict) and found.status == "discard" and "has no ratio to another value" in found.detail
    found = judge.judge(contestant([5.0], bar=value), contestant([4.0, 4.0]), noise)
    assert isinstance(found, Verdict) and found.status == "discard"
    first = judge.judge(None, contestant([value, value]), noise)
    assert isinstance(first, Verdict) and first.status == "discard" and 'scale = "difference"' in first.detail
    assert judge.remeasured(5.0, 2, value, noise) == 5.0
    assert paired_gain(LESS, [5.0, 6.0], [value, 4.0], scale="ratio").times is None  # of the differences then
    assert judge_ablation(LESS, 5.0, [5.0, 6.0], [value, 4.0], noise).status == "discard"
    assert exact_gain(LESS, 5.0, value, "ratio").times is None


@given(st.floats(5e-324, 1.7e308), st.floats(5e-324, 1.7e308))
def test_no_ratio_is_too_large_to_be_judged(a: float, b: float) -> None:
    noise = Noise(0.1, 3, 2, "ratio")
    for name in NAMES:
        found = Judge(LESS, {}, make_rule(name)).judge(contestant([a] * 3, bar=a), contestant([b] * 3), noise)
        assert not isinstance(found, Verdict) or found.bar is None or 0 <= found.bar < math.inf
    gain = paired_gain(LESS, [a, a], [b, b], scale="ratio")
    assert gain.times is not None and all(math.isfinite(each) for each in (*gain.times, gain.mean, gain.low, gain.high))


def test_a_ratio_is_confirmed_on_logarithms() -> None:
    before, after = [380.0, 190.0, 340.0], [100.0, 100.0, 100.0]  # 3.8, 1.9 and 3.4 times faster
    gain = paired_gain(LESS, before, after, scale="ratio")
    assert gain.times is not None and gain.times == pytest.approx((2.906, 1.153, 7.327), abs=0.001)
    assert 0 < gain.low < gain.mean < gain.high  # in the metric's unit, from the baseline's level
    more = paired_gain(MORE, [1 / value for value in before], [1 / value for value in after], scale="ratio")
    assert more.times == pytest.approx(gain.times)
    assert math.log(before[0] * before[1] * before[2]) / 3 == pytest.approx(math.log(gain.mean + 100))


def test_equal_numbers_on_every_seed_are_exact_once_two_programs_show_it() -> None:
    assert same_on_every_seed([[5.0, 5.0], [4.0]]) and not same_on_every_seed([[5.0, 5.0], [4.0, 4.1]])
    assert not same_on_every_seed([[5.0], [4.0]])
    judge, champion = Judge(LESS, {}, make_rule("shrunk")), contestant([5.0, 5.0], bar=5.0)
    one, two = pooled([[5.0, 5.0]], 0.0), pooled([[5.0, 5.0], [4.0, 4.0]], 0.0)
    assert (one.exact, two.exact) == (False, True)
    asked = judge.judge(champion, contestant([4.0]), one)
    assert asked == NeedsTrial("candidate", SEED + 1, "every seed gave the same number so far: does the seed matter?")
    assert isinstance(judge.judge(champion, contestant([4.9999]), two), Verdict)  # and nothing runs twice any more
    gain = exact_gain(LESS, 5.0, 4.0, "ratio")
    assert (gain.mean, gain.low, gain.high, gain.pairs) == (1, 1, 1, 1) and gain.times == pytest.approx((1.25,) * 3)


def test_a_factor_in_words() -> None:
    assert times_words(math.log(1.8)) == "1.8 times" and times_words(0.0305) == "3.1 %"
    assert times_words(800) == "more than 1e+130 times"
