"""The judge: symmetric, safe against whatever numbers come, and right about chance as often as it says."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightlab.core.types import SEED, HeldOutCheck, Measurement, Metric, NightlabError, Verdict, average
from nightlab.judge import (
    Contestant,
    Judge,
    NeedsTrial,
    Noise,
    Rule,
    change_of_noise,
    e_value,
    gain_rate,
    held_out_check,
    is_noisier,
    judge_ablation,
    make_rule,
    paired_gain,
    pairs_needed,
    pooled,
    prior_sigma,
    repeated_check_level,
    smallest_effect,
)
from nightlab.judge.noise import CHANGED, PRIOR_DF, UNUSUAL
from nightlab.judge.rules import Shrunk, Strict

LESS, MORE = Metric("m", "minimise"), Metric("m", "maximise")
NAMES = ("greedy", "shrunk", "strict", "replicate")
SILENT = Noise(0.0, 1.0)
TRIED = 10  # runs that any rule may want of one side

numbers = st.floats(-1e9, 1e9) | st.floats(-3, 3)  # some as near to each other as the noise is large
sigmas = st.just(0.0) | st.floats(1e-6, 1e6) | st.floats(0.01, 3)
anything = st.floats() | st.sampled_from([1e308, -1e308, 1.7e308, 5e-324, -5e-324, 0.0, -0.0, 1e-300])
wins = st.floats(1e-3, 1e3)


def run(metric: float | None, outcome: str = "measured", **more: object) -> Measurement:
    return Measurement(outcome, metric, **more)  # type: ignore[arg-type]


def contestant(*values: float | Measurement | None, lines: int = 10, bar: float | None = None) -> Contestant:
    """Its runs with the seeds of the search, in order; the bar of a champion is their mean if not said."""
    runs = [value if isinstance(value, Measurement) else run(value) for value in values]
    found = Contestant(dict(enumerate(runs, SEED)), lines)
    mean = average(list(found.values().values()))
    return replace(found, bar=mean if bar is None else bar)


def judge(name: str = "greedy", metric: Metric = LESS, **limits: str | float) -> Judge:
    return Judge(metric, limits, make_rule(name))


def verdict(decision: Verdict | NeedsTrial) -> Verdict:
    assert isinstance(decision, Verdict), decision
    return decision


def settle(
    judging: Judge,
    champion: Contestant,
    candidate: Sequence[float | Measurement | None],
    champions: Sequence[float | Measurement | None] = (),
    noise: Noise = SILENT,
    lines: int = 10,
) -> Verdict:
    """See a candidate through to its verdict, as the night does; each new run comes from the lists, in turn."""
    theirs, ours = dict(champion.runs), dict[int, Measurement]()
    sources = {"candidate": iter(candidate), "champion": iter(champions)}
    for _ in range(4 * TRIED):
        decision = judging.judge(replace(champion, runs=theirs), Contestant(ours, lines), noise)
        if isinstance(decision, Verdict):
            return decision
        side = ours if decision.who == "candidate" else theirs
        assert decision.seed not in side, "it asks for what it has"
        value = next(sources[decision.who])
        side[decision.seed] = value if isinstance(value, Measurement) else run(value)
    raise AssertionError("it never comes to a verdict")


# -- what holds under every rule -----------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@given(
    st.lists(numbers, min_size=TRIED, max_size=TRIED),
    st.lists(numbers, min_size=TRIED, max_size=TRIED),
    st.tuples(st.integers(0, 20), st.integers(0, 20)),
    sigmas,
    st.booleans(),
)
def test_minimise_and_maximise_mirror_each_other(
    name: str, before: list[float], after: list[float], lines: tuple[int, int], sigma: float, close: bool
) -> None:
    if close:  # as good, and neighbours: where ties and second looks are decided
        after = [value + sigma * 0.3 for value in before]

    def decide(metric: Metric, sign: int) -> Verdict:
        theirs, ours = [sign * v for v in before], [sign * v for v in after]
        champion = contestant(theirs[0], lines=lines[0], bar=theirs[0])
        return settle(judge(name, metric), champion, ours, theirs[1:], Noise(sigma, 5), lines[1])

    one, two = decide(LESS, 1), decide(MORE, -1)
    assert (one.status, one.reason, one.detail) == (two.status, two.reason, two.detail)
    assert (one.bar is None and two.bar is None) or one.bar == -(two.bar or 0)


@pytest.mark.parametrize("name", NAMES)
@given(st.lists(st.tuples(numbers, numbers), min_size=3, max_size=6), sigmas, st.integers(2, 9), st.integers(0, 99))
def test_seeds_are_names_and_only_their_order_counts(
    name: str, values: list[tuple[float, float]], sigma: float, factor: int, shift: int
) -> None:
    def decide(seeds: Sequence[int]) -> Verdict | NeedsTrial:
        champion = Contestant({s: run(before) for s, (before, _) in zip(seeds, values, strict=True)}, 10, values[0][0])
        candidate = Contestant({s: run(after) for s, (_, after) in zip(seeds, values, strict=True)}, 9)
        return judge(name).judge(champion, candidate, Noise(sigma, 5))

    one = decide(range(1, len(values) + 1))
    two = decide([factor * seed + shift for seed in range(1, len(values) + 1)])
    if isinstance(one, NeedsTrial):
        assert isinstance(two, NeedsTrial) and one.who == two.who
    else:
        assert one == two


@pytest.mark.parametrize("name", NAMES)
@given(
    st.lists(st.lists(anything | st.none(), min_size=TRIED, max_size=TRIED), min_size=2, max_size=6),
    st.lists(anything | st.none(), min_size=60, max_size=60),
    anything,
    st.sampled_from([LESS, MORE]),
)
def test_no_numbers_crash_a_rule_or_leave_a_bar_that_is_none(
    name: str, candidates: list[list[float | None]], retries: list[float | None], prior: float, metric: Metric
) -> None:
    judging, champion, weight = judge(name, metric), contestant(1.0), 1
    groups: list[list[float]] = []
    for number, values in enumerate(candidates):
        noise = pooled(groups, prior_sigma(prior, None))
        found = settle(judging, champion, values, retries[10 * number :], noise, lines=10 - number)
        groups.append([value for value in values if value is not None])
        if found.status == "keep":
            assert found.bar is not None and math.isfinite(found.bar)
            champion, weight = contestant(*values[:1], bar=found.bar), 1
        for value in groups[-1]:
            assert champion.bar is not None
            bar = judging.rule.remeasured(champion.bar, weight, value)
            assert math.isfinite(bar)
            champion, weight = replace(champion, bar=bar), weight + 1


@given(st.lists(st.lists(anything, max_size=5), max_size=8), anything, anything, anything)
def test_no_numbers_crash_what_is_said_of_noise(
    groups: list[list[float]], baseline: float, one: float, two: float
) -> None:
    noise = pooled(groups, prior_sigma(baseline, None))
    assert 0 <= noise.sigma < math.inf and noise.df >= PRIOR_DF and noise.replicates >= 0
    change = change_of_noise(groups)
    assert change is None or all(0 <= spread < math.inf for spread in change)
    assert not any(is_noisier(group, noise) for group in groups if len(group) < 2)
    seen = held_out_check(one, two, noise.sigma, "seed")
    assert not seen.parted or (seen.gap is not None and not math.isnan(seen.gap))
    for group in groups:
        if len(group) > 1:
            paired_gain(LESS, group, group[::-1])
        if group:
            paired_gain(LESS, group, group[::-1], noise=noise)
            assert not math.isnan(e_value([v for v in group if abs(v) < 1e300], noise))
    if one > 0:  # not a number is refused
        assert pairs_needed(noise, one) >= 2
    assert all(smallest_effect(noise, pairs) >= 0 for pairs in (2, 3, 10_000))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("metric", [LESS, MORE])
def test_a_missing_or_impossible_number_is_never_kept(name: str, value: float | None, metric: Metric) -> None:
    assert verdict(judge(name, metric).judge(None, contestant(value), SILENT)).status == "crash"
    assert verdict(judge(name, metric).judge(contestant(1.0), contestant(value), SILENT)).status == "crash"
    late = verdict(judge(name, metric).judge(contestant(1.0), contestant(0.9, value), SILENT))
    assert late.status == "crash"  # whoever fails on a second seed has failed


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
        ("hopeless", "discard", "stopped early"),
    ],
)
@pytest.mark.parametrize("champion", [None, contestant(1.0)])
@pytest.mark.parametrize("name", NAMES)
def test_every_outcome_without_a_number_has_its_verdict(
    name: str, outcome: str, status: str, reason: str, champion: Contestant | None
) -> None:
    found = verdict(judge(name).judge(champion, contestant(run(None, outcome, detail="why")), SILENT))
    assert (found.status, found.reason, found.detail) == (status, reason, "why")


@pytest.mark.parametrize(("name", "runs"), [("greedy", 1), ("shrunk", 2), ("strict", 1), ("replicate", 3)])
def test_the_baseline_is_kept_and_its_bar_is_the_mean_of_its_runs(name: str, runs: int) -> None:
    judging, values = judge(name, peak_memory_mb=1), [5.0, 7.0, 12.0][:runs]
    for missing in range(runs):
        assert judging.judge(None, contestant(*values[:missing]), SILENT) == NeedsTrial(
            "candidate", SEED + missing, "the first bar should not be one run's luck"
        )
    found = verdict(judging.judge(None, contestant(*values), SILENT))
    assert (found.status, found.reason, found.bar) == ("keep", "baseline", average(values))


@pytest.mark.parametrize("name", NAMES)
def test_limits_go_before_the_metric(name: str) -> None:
    champion = contestant(run(1.0, peak_memory_mb=100, secondary={"speed": 10.0}))

    def decide(candidate: Measurement, **limits: str | float) -> Verdict:
        return settle(judge(name, **limits), champion, [candidate] * 3, [1.0, 1.0])

    assert decide(run(0.5, peak_memory_mb=119), peak_memory_mb="+20%").status == "keep"
    assert decide(run(0.5), peak_gpu_memory_mb="+20%").status == "keep"  # 0 of 0, where no device was seen
    gpu = settle(
        judge(name, peak_gpu_memory_mb="+20%"),
        contestant(run(1.0, peak_gpu_memory_mb=10)),
        [run(0.5, peak_gpu_memory_mb=13)],
    )
    assert gpu.reason == "over limit"
    over = decide(run(0.5, peak_memory_mb=121), peak_memory_mb="+20%")
    assert (over.status, over.reason) == ("discard", "over limit") and "peak_memory_mb" in over.detail
    assert decide(run(0.5, secondary={"speed": 11.9}), speed=12).status == "keep"
    assert decide(run(0.5, secondary={"speed": 12.1}), speed=12).reason == "over limit"
    for unknown in (run(0.5), run(0.5, secondary={"speed": math.nan})):
        missing = decide(unknown, speed=12)
        assert (missing.status, missing.reason) == ("discard", "over limit") and "not measured" in missing.detail


@pytest.mark.parametrize("name", NAMES)
def test_a_champion_that_fails_with_a_later_seed_neither_stops_the_search_nor_lifts_a_limit(name: str) -> None:
    failed = run(None, "crashed")
    champion = contestant(run(1.0, secondary={"speed": 10.0}))
    fast, slow = (run(0.5, secondary={"speed": speed}) for speed in (11.0, 13.0))
    for noise in (SILENT, Noise(1.0, 9)):
        one, two = (
            settle(judge(name, speed="+20%"), champion, [fast] * TRIED, [none] * TRIED, noise)
            for none in (failed, run(math.inf))
        )
        assert one == two and one.reason in ("improved", "inconclusive")
    champion = replace(champion, runs={**champion.runs, 2: failed, 3: failed})
    assert settle(judge(name, speed="+20%"), champion, [slow] * TRIED).reason == "over limit"


@pytest.mark.parametrize("name", NAMES)
def test_without_noise_every_rule_keeps_what_is_better_or_as_good_and_simpler(name: str) -> None:
    noise = pooled([[0.0, 0.0]], prior_sigma(0.0, None))  # a metric of zero has no noise to believe in
    assert noise.sigma == 0
    for value, lines, expected in (
        (-1.0, 99, "improved"),
        (0.0, 9, "simpler"),
        (0.0, 10, "inconclusive"),
        (0.0, 11, "inconclusive"),
        (1.0, 1, "regressed"),
    ):
        found = settle(judge(name), contestant(0.0), [value] * TRIED, [0.0] * TRIED, noise, lines)
        assert found.reason == expected and (found.status == "keep") == (expected in ("improved", "simpler"))
        assert found.bar == (value if found.status == "keep" else None)


def test_the_simpler_program_has_fewer_lines_then_less_memory() -> None:
    champion = contestant(run(1.0, peak_memory_mb=100))

    def decide(candidate: Contestant) -> Verdict:
        return verdict(judge().judge(champion, candidate, SILENT))

    same = contestant(run(1.0, peak_memory_mb=94))
    assert decide(same).detail == "as good, with 6 MB less memory"
    assert decide(contestant(run(1.0, peak_memory_mb=96))).status == "discard"
    assert decide(contestant(1.0)).status == "discard"  # memory that was not measured
    small = contestant(run(1.0, peak_memory_mb=24))
    assert verdict(judge().judge(small, contestant(run(1.0, peak_memory_mb=22)), SILENT)).status == "discard", "noise"
    assert decide(replace(same, lines=11)).status == "discard"  # lines go first


def test_fewer_lines_with_more_information_are_no_simpler() -> None:
    champion = replace(contestant(1.0), information=400)
    for information, status in ((401, "discard"), (400, "keep"), (0, "keep")):
        candidate = replace(contestant(1.0), lines=3, information=information)
        assert verdict(judge().judge(champion, candidate, SILENT)).status == status, information
    unknown = replace(contestant(1.0), lines=3, information=400)  # of an older ledger's champion nothing is known
    assert verdict(judge().judge(contestant(1.0), unknown, SILENT)).status == "keep"


@pytest.mark.parametrize("name", NAMES)
@given(st.lists(numbers, min_size=3, max_size=3), st.lists(numbers, min_size=3, max_size=3), st.integers(-2, 2), sigmas)
def test_no_two_genomes_each_improve_on_the_other(
    name: str, a: list[float], b: list[float], fewer: int, sigma: float
) -> None:
    one, two = contestant(*a), contestant(*b, lines=10 - fewer)
    found = [judge(name).judge(one, two, Noise(sigma, 5)), judge(name).judge(two, one, Noise(sigma, 5))]
    assert not all(isinstance(each, Verdict) and each.reason == "improved" for each in found)


# -- greedy --------------------------------------------------------------------------------------------


@given(numbers, numbers, st.integers(0, 99), st.integers(0, 99), sigmas)
def test_greedy_keeps_what_is_better_or_as_good_and_shorter_whatever_the_noise(
    a: float, b: float, before: int, after: int, sigma: float
) -> None:
    found = verdict(judge().judge(contestant(a, lines=before), contestant(b, lines=after), Noise(sigma, 5)))
    assert (found.status == "keep") == (b < a or (a == b and after < before))
    assert found.reason == (
        "improved" if b < a else "regressed" if b > a else ("simpler" if after < before else "inconclusive")
    )
    assert found.bar == (b if found.status == "keep" else None)


@given(st.lists(numbers, min_size=1, max_size=20))
def test_a_greedy_search_ends_at_the_best_it_saw(values: list[float]) -> None:
    champion = contestant(values[0])
    for value in values[1:]:
        if verdict(judge().judge(champion, contestant(value), SILENT)).status == "keep":
            champion = contestant(value)
    assert champion.bar == min(values)


# -- shrunk --------------------------------------------------------------------------------------------


def shrunk(
    values: Sequence[float], sigma: float, bar: float = 10.0, metric: Metric = LESS, lines: int = 10
) -> Verdict | NeedsTrial:
    return Judge(metric, {}, Shrunk()).judge(
        contestant(bar, bar=bar), contestant(*values, lines=lines), Noise(sigma, 5)
    )


def test_a_win_within_the_noise_is_measured_once_more_on_a_fresh_seed() -> None:
    assert shrunk([9.1], 1.0) == NeedsTrial("candidate", 2, "0.900000 better, 0.9 sigma: may be luck")
    assert verdict(shrunk([9.0], 1.0)).reason == "improved"
    assert verdict(shrunk([9.1, 9.1], 1.0)).reason == "improved"  # once, and not a third time
    assert verdict(shrunk([9.1, 12.0], 1.0)).reason == "regressed"
    assert verdict(shrunk([10.1], 1.0)).reason == "inconclusive"


def test_the_new_bar_is_without_the_luck_of_the_win() -> None:
    assert verdict(shrunk([9.0], 1.0)).bar == 10.0  # may be nothing but luck
    assert verdict(shrunk([8.0], 1.0)).bar == 9.0  # at most a standard error
    assert verdict(shrunk([2.0], 1.0)).bar == 2.5  # of a big win hardly anything: 4 * 1**2 / 8
    assert verdict(shrunk([8.0, 8.0], 1.0)).bar == pytest.approx(8 + math.sqrt(0.5))
    assert verdict(shrunk([9.6, 9.8], 1.0)).bar == pytest.approx(10.0)  # and never more than there was
    assert verdict(shrunk([8.0], 0.0)).bar == 8.0


@given(st.lists(numbers, min_size=1, max_size=4), numbers, sigmas, st.sampled_from([LESS, MORE]))
def test_the_new_bar_lies_between_the_mean_and_the_old_bar(
    values: list[float], old: float, sigma: float, metric: Metric
) -> None:
    found = shrunk(values, sigma, old, metric)
    if isinstance(found, Verdict) and found.reason == "improved":
        assert found.bar is not None
        rounding = 1e-6 * 1e-6 * max(abs(old), *map(abs, values))
        assert metric.gain(found.bar, average(values)) >= -rounding
        assert metric.gain(old, found.bar) >= -rounding


@given(st.lists(numbers, min_size=1, max_size=4), numbers, st.tuples(sigmas, sigmas), st.sampled_from([9, 10]))
def test_more_noise_makes_the_bar_no_harder_to_beat_and_keeps_nothing_but_ties(
    values: list[float], old: float, both: tuple[float, float], lines: int
) -> None:
    calm, wild = (shrunk(values, sigma, old, lines=lines) for sigma in sorted(both))
    if isinstance(wild, Verdict) and wild.reason == "improved":
        assert isinstance(calm, Verdict) and calm.reason == "improved"
        assert calm.bar is not None and wild.bar is not None and wild.bar >= calm.bar
    if isinstance(wild, Verdict) and wild.reason == "simpler" and isinstance(calm, Verdict):
        assert calm.reason in ("simpler", "regressed") and average(values) >= old
    if isinstance(calm, Verdict) and calm.status == "keep":  # and what was kept in silence is kept or asked for again
        assert isinstance(wild, NeedsTrial) or wild.status == "keep"


def test_a_tie_goes_to_the_simpler_program_but_the_bar_stays() -> None:
    assert isinstance(shrunk([10.2], 1.0, lines=9), NeedsTrial)
    found = verdict(shrunk([10.2, 10.3], 1.0, lines=9))
    assert (found.reason, found.bar) == ("simpler", 10.0)
    assert verdict(shrunk([10.2, 10.3], 1.0, lines=10)).reason == "inconclusive"
    assert verdict(shrunk([10.2, 10.6], 1.0, lines=1)).reason == "regressed"  # more than half a standard error


def test_luck_alone_moves_the_bar_about_half_as_far_as_it_moves_that_of_greedy() -> None:
    draw, noise, bars = random.Random(1), Noise(1.0, 9), {"greedy": 0.0, "shrunk": 0.0}
    for name in bars:
        for _ in range(200):
            champion = contestant(*(draw.gauss(0, 1) for _ in range(make_rule(name).baseline_runs)))
            for _ in range(50):  # ideas that all do nothing
                found = settle(judge(name), champion, [draw.gauss(0, 1) for _ in range(TRIED)], noise=noise)
                champion = contestant(0.0, bar=found.bar) if found.status == "keep" else champion
            assert champion.bar is not None
            bars[name] += champion.bar / 200
    assert bars["greedy"] < -2 < -1.5 < bars["shrunk"]


@pytest.mark.parametrize("name", ["shrunk", "strict", "replicate"])
@given(numbers, st.integers(1, 5), numbers, st.integers(1, 200))
def test_measuring_a_champion_again_pulls_its_bar_to_what_it_measures(
    name: str, bar: float, weight: int, value: float, times: int
) -> None:
    rule, now, slack = make_rule(name), bar, 1e-9 * max(abs(bar), abs(value))
    for turn in range(times):
        after = rule.remeasured(now, weight + turn, value)
        assert min(now, value) - slack <= after <= max(now, value) + slack
        now = after
    assert now == pytest.approx((bar * weight + value * times) / (weight + times), rel=1e-6, abs=1e-6)


@given(anything, anything)
def test_greedy_never_looks_back(bar: float, value: float) -> None:
    after = make_rule("greedy").remeasured(bar, 1, value)
    assert after == bar or math.isnan(bar)


# -- strict --------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=8), st.tuples(wins, wins))
def test_more_noise_is_never_more_evidence_for_a_gain_nor_against_one(
    gains: list[float], both: tuple[float, float]
) -> None:
    calm, wild = (e_value(gains, Noise(sigma, 5)) for sigma in sorted(both))
    if average(gains) > 0:
        assert calm >= wild > 0
    elif average(gains) / min(both) > -10:  # below, the evidence is zero for all that floats can tell
        assert calm <= wild * (1 + 1e-9)
    assert math.isfinite(calm)


@given(st.lists(numbers, min_size=8, max_size=8), numbers, st.tuples(wins, wins))
def test_strict_keeps_nothing_because_of_more_noise(values: list[float], old: float, both: tuple[float, float]) -> None:
    calm, wild = (
        judge("strict").judge(contestant(*[old] * 8), contestant(*values), Noise(sigma, 5)) for sigma in sorted(both)
    )
    assert isinstance(wild, Verdict) and isinstance(calm, Verdict)
    assert wild.status == "discard" or calm.status == "keep"


def test_evidence_against_a_worked_example() -> None:
    for gains in ([2.0, 2.0], [-0.3, 1.1, 0.2], [-1.0]):  # the mixture over true gains, summed up the slow way
        noise, step = Noise(0.8, 5), 1e-3
        spread = math.sqrt(2) * noise.sigma
        density = statistics.NormalDist(0, spread).pdf
        steps = [step * (number + 0.5) for number in range(12_000)]
        ratios = [math.prod(density(gain - true) / density(gain) for gain in gains) for true in steps]
        slow = sum(2 * density(true) * ratio * step for true, ratio in zip(steps, ratios, strict=True))
        assert e_value(gains, noise) == pytest.approx(slow, rel=1e-4)
    assert e_value([1.0], SILENT) == math.inf and e_value([-1.0], SILENT) == 0 == e_value([0.0], SILENT)


@pytest.mark.parametrize("alpha", [0.1, 0.3])
@pytest.mark.parametrize("worse", [0.0, 0.3])
def test_strict_keeps_what_is_no_better_at_most_as_often_as_it_says_whenever_it_stops(
    alpha: float, worse: float
) -> None:
    draw, rounds, kept = random.Random(3), 3000, 0
    judging = Judge(LESS, {}, Strict(alpha))
    for _ in range(rounds):
        champion = contestant(draw.gauss(0, 1))
        ours, theirs = ([draw.gauss(mean, 1) for _ in range(TRIED)] for mean in (worse, 0))
        kept += settle(judging, champion, ours, theirs, Noise(1.0, 99)).status == "keep"
    assert kept / rounds <= alpha
    assert worse or kept / rounds > alpha / 10  # and not by keeping nothing


def test_evidence_grows_where_there_is_a_gain() -> None:
    draw, kept = random.Random(4), 0
    for _ in range(500):
        ours, theirs = [draw.gauss(-3, 1) for _ in range(TRIED)], [draw.gauss(0, 1) for _ in range(TRIED)]
        kept += settle(judge("strict"), contestant(theirs[0]), ours, theirs[1:], Noise(1.0, 99)).status == "keep"
    assert kept > 450


@given(st.lists(st.floats(0.1, 3), min_size=1, max_size=8), st.sampled_from([0.05, 0.1, 0.3]))
def test_strict_keeps_where_the_evidence_reaches_one_in_alpha(gains: list[float], alpha: float) -> None:
    noise, champion = Noise(0.5, 9), contestant(*[0.0] * 8)
    decision = Judge(LESS, {}, Strict(alpha)).judge(champion, contestant(*(-gain for gain in gains)), noise)
    kept = isinstance(decision, Verdict) and decision.status == "keep"
    assert kept == (e_value(gains, noise) >= 1 / alpha)


def test_strict_asks_for_the_same_seeds_on_both_sides_and_gives_up_in_the_end() -> None:
    noise = Noise(1.0, 9)
    champion = contestant(10.0)
    assert judge("strict").judge(champion, contestant(9.9, 9.9), noise) == NeedsTrial(
        "champion", 2, "needed for a comparison on the same seed"
    )
    again = judge("strict").judge(champion, contestant(9.9), noise)
    assert isinstance(again, NeedsTrial) and (again.who, again.seed) == ("candidate", 2)
    assert settle(judge("strict"), champion, [9.9] * 8, [10.0] * 7, noise).reason == "inconclusive"
    assert settle(judge("strict"), champion, [10.1], (), noise).reason == "regressed"


# -- replicate -----------------------------------------------------------------------------------------


@given(st.lists(st.tuples(numbers, numbers), min_size=3, max_size=3), st.integers(9, 11), sigmas)
def test_replicate_keeps_the_better_mean_of_three(values: list[tuple[float, float]], lines: int, sigma: float) -> None:
    before, after = ([*side] for side in zip(*values, strict=True))
    found = settle(judge("replicate"), contestant(*before), after, (), Noise(sigma, 5), lines)
    gain = average([b - a for b, a in values])
    assert (found.status == "keep") == (gain > 0 or (gain == 0 and lines < 10))
    assert found.status != "keep" or found.bar == average(after)


def test_every_candidate_has_its_seeds_even_one_that_starts_badly() -> None:
    assert settle(judge("replicate"), contestant(1.0, 1.0, 1.0), [1.5, 0.2, 0.2]).status == "keep"
    with pytest.raises(StopIteration):
        settle(judge("replicate"), contestant(1.0, 1.0, 1.0), [0.5, 0.5])


def test_a_rule_that_is_not_known_is_no_rule() -> None:
    rules: list[Rule] = [make_rule(name) for name in NAMES]
    assert [rule.baseline_runs for rule in rules] == [1, 2, 1, 3]
    assert make_rule("strict", alpha=0.3) == Strict(0.3) and make_rule("replicate", seeds=7).baseline_runs == 7
    with pytest.raises(NightlabError, match="no rule 'lucky': there are shrunk, greedy, strict, replicate"):
        make_rule("lucky")


# -- a champion without some of its changes ------------------------------------------------------------


@given(
    st.lists(st.tuples(numbers, numbers), min_size=1, max_size=6),
    sigmas,
    numbers,
    st.sampled_from([1, -1]),
    st.booleans(),
)
def test_changes_go_where_nothing_is_lost_by_it_and_the_bar_stays(
    values: list[tuple[float, float]], sigma: float, bar: float, sign: int, close: bool
) -> None:
    if close:  # neighbours, where a standard error decides
        values = [(before, before + sigma * (1.1 + after / 1e9)) for before, after in values]
    before, after = ([sign * value for value in side] for side in zip(*values, strict=True))
    found = judge_ablation(LESS if sign > 0 else MORE, bar, before, after, Noise(sigma, 5))
    gain = average([b - a for b, a in values])
    assert (found.status == "keep") == (gain >= -sigma * math.sqrt(2 / len(values)))
    assert found.bar == (bar if found.status == "keep" else None)


# -- noise ---------------------------------------------------------------------------------------------


def groups_of(draw: random.Random, sigma: float, sizes: Sequence[int]) -> list[list[float]]:
    return [[draw.gauss(middle, sigma) for _ in range(size)] for middle, size in enumerate(sizes)]


def test_the_pooled_spread_is_that_of_a_run() -> None:
    draw, sizes = random.Random(5), [2] * 8 + [3] * 3 + [1] * 20
    found = [pooled(groups_of(draw, 0.5, sizes), 0.5) for _ in range(500)]
    assert {(noise.replicates, noise.df) for noise in found if noise.replicates >= 14} == {(14, 14 + PRIOR_DF)}
    assert math.sqrt(average([noise.sigma**2 for noise in found])) == pytest.approx(0.5, rel=0.03)


def test_a_wrong_belief_is_overruled_by_what_ran_twice() -> None:
    draw = random.Random(6)
    assert pooled([], 0.3) == Noise(0.3, PRIOR_DF, 0) == pooled([[1.0], [2.0]], 0.3)
    for wrong in (0.1, 3.0):
        found = [pooled(groups_of(draw, 1.0, [2] * 15), wrong).sigma for _ in range(200)]
        assert statistics.median(found) == pytest.approx(1.0, rel=0.3)


def test_two_groups_pool_as_in_a_textbook() -> None:
    noise = pooled([[1.0, 3.0], [4.0, 5.0, 6.0]], 2.0)  # sums of squares 2 and 2, and the prior's
    assert noise.sigma == pytest.approx(math.sqrt((PRIOR_DF * 4 + 2 + 2) / (PRIOR_DF + 1 + 2)))


def test_one_run_that_went_wrong_is_no_noise() -> None:
    draw, found = random.Random(7), []
    for _ in range(200):
        groups = groups_of(draw, 0.01, [2] * 12)
        assert pooled([*groups, [1.0, 5.0], [2.0, 4.0]], 0.01) == pooled(groups, 0.01)
        found.append(pooled(groups, 0.01))
    assert sum(noise.replicates < 12 for noise in found) < 5  # and what is usual is hardly ever taken for that
    assert pooled([[1.0, 5.0]], 0.01).sigma > 1  # alone it may be how things are


def test_what_is_believed_before_anything_ran_twice() -> None:
    assert prior_sigma(-2.5, None) == pytest.approx(0.001)
    assert prior_sigma(-2.5, 0.7) == 0.7 and prior_sigma(None, None) == 0 == prior_sigma(math.inf, None)


@pytest.mark.parametrize("pairs", [2, 3, 5, 8, 30])
def test_the_smallest_effect_shows_as_often_as_it_says(pairs: int) -> None:
    draw, noise, shown, rounds = random.Random(pairs), Noise(0.7, 99), 0, 1500
    effect = smallest_effect(noise, pairs)
    for _ in range(rounds):
        before, after = ([draw.gauss(mean, noise.sigma) for _ in range(pairs)] for mean in (effect, 0))
        shown += paired_gain(LESS, before, after).low > 0
    assert shown / rounds == pytest.approx(0.8, abs=4 * math.sqrt(0.16 / rounds))


@given(st.integers(2, 400), wins, st.sampled_from([0.8, 0.95, 0.99]), st.sampled_from([0.5, 0.8, 0.9]))
def test_how_many_pairs_an_effect_takes_agrees_with_what_so_many_show(
    pairs: int, sigma: float, level: float, power: float
) -> None:
    noise = Noise(sigma, 5)
    effect = smallest_effect(noise, pairs, level, power)
    assert pairs_needed(noise, effect * 1.0001, level, power) <= pairs
    assert pairs == 2 or pairs_needed(noise, effect * 0.99, level, power) >= pairs
    assert smallest_effect(noise, pairs + 1, level, power) < effect


def test_an_effect_is_larger_than_zero() -> None:
    for effect in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="larger than zero"):
            pairs_needed(Noise(1.0, 5), effect)
    assert pairs_needed(Noise(1e300, 5), 1e-300) == pairs_needed(Noise(1.0, 5), 1e-9) == 10**9
    assert pairs_needed(SILENT, 1e-9) == 2


def test_a_change_of_noise_is_seen_and_seldom_imagined() -> None:
    draw, seen, imagined, rounds = random.Random(8), 0, 0, 4000
    for _ in range(rounds):
        calm = groups_of(draw, 1.0, [2] * 12 + [1])
        imagined += change_of_noise(calm) is not None
        if found := change_of_noise([*calm, *groups_of(draw, 10.0, [2] * 6)]):
            seen += found[1] > 3 * found[0]
    assert imagined / rounds == pytest.approx(CHANGED, abs=4 * math.sqrt(CHANGED / rounds))
    assert seen / rounds > 0.98
    assert change_of_noise(calm[:11]) is None  # too little to tell
    assert change_of_noise([[1.0, 1.0]] * 6 + [[1.0, 2.0]] * 6) == (0.0, pytest.approx(math.sqrt(0.5)))


def test_a_noisier_program_is_seen_and_seldom_imagined() -> None:
    draw, noise, rounds = random.Random(9), Noise(0.2, 50), 20_000
    imagined = sum(is_noisier([draw.gauss(0, 0.2) for _ in range(3)], noise) for _ in range(rounds))
    assert imagined / rounds == pytest.approx(UNUSUAL, abs=4 * math.sqrt(UNUSUAL / rounds))
    assert is_noisier([1.0, 3.0], noise) and not is_noisier([1.0], noise) and not is_noisier([1.0, 3.0], SILENT)


# -- the interval --------------------------------------------------------------------------------------

pairs = st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=2, max_size=12)


@given(pairs, st.randoms(use_true_random=False))
def test_the_order_of_the_pairs_does_not_matter(found: list[tuple[float, float]], draw: random.Random) -> None:
    mixed = list(found)
    draw.shuffle(mixed)
    one, two = (paired_gain(LESS, *zip(*each, strict=True)) for each in (found, mixed))
    assert (one.mean, one.low, one.high) == pytest.approx((two.mean, two.low, two.high))


@given(pairs, st.none() | st.builds(Noise, wins, wins))
def test_a_gain_swaps_its_sign_with_the_sides_and_with_the_goal(
    found: list[tuple[float, float]], noise: Noise | None
) -> None:
    before, after = zip(*found, strict=True)
    gain, loss = paired_gain(LESS, before, after, noise=noise), paired_gain(LESS, after, before, noise=noise)
    assert (gain.mean, gain.low, gain.high) == pytest.approx((-loss.mean, -loss.high, -loss.low))
    assert paired_gain(MORE, after, before, noise=noise) == gain
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


@given(pairs, st.tuples(wins, wins), st.floats(1, 100))
def test_more_noise_or_noise_less_known_is_a_wider_interval(
    found: list[tuple[float, float]], both: tuple[float, float], df: float
) -> None:
    before, after = zip(*found, strict=True)
    small, large = sorted(both)

    def width(noise: Noise) -> float:
        gain = paired_gain(LESS, before, after, noise=noise)
        return gain.high - gain.low

    assert width(Noise(small, df)) <= width(Noise(large, df)) * (1 + 1e-9) + 1e-9
    assert width(Noise(small, df)) <= width(Noise(small, df / 2)) * (1 + 1e-9) + 1e-9


def test_against_a_textbook() -> None:
    # Student's sleep data (1908), the example of t.test(..., paired = TRUE) in R: -2.4598858 to -0.7001142.
    one = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    two = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    gain = paired_gain(LESS, one, two)
    assert (gain.mean, gain.low, gain.high) == pytest.approx((-1.58, -2.4598858, -0.7001142))


def draws(draw: random.Random, count: int, gain: float) -> tuple[list[float], list[float]]:
    seeds = [draw.gauss(1, 0.5) for _ in range(count)]  # what both sides share
    return [s + draw.gauss(0, 0.02) for s in seeds], [s - gain + draw.gauss(0, 0.02) for s in seeds]


@pytest.mark.parametrize(("count", "level"), [(2, 0.95), (4, 0.95), (8, 0.9)])
def test_the_interval_covers_the_true_gain_as_often_as_it_says(count: int, level: float) -> None:
    draw, gain, rounds = random.Random(count), 0.01, 4000
    found = [paired_gain(LESS, *draws(draw, count, gain), level) for _ in range(rounds)]
    hits = sum(each.low <= gain <= each.high for each in found)
    assert hits / rounds == pytest.approx(level, abs=4 * math.sqrt(level * (1 - level) / rounds))


@pytest.mark.parametrize("count", [1, 3])
def test_so_does_the_interval_with_the_noise_of_a_whole_session(count: int) -> None:
    draw, gain, rounds, hits = random.Random(count), 0.01, 3000, 0
    for _ in range(rounds):
        noise = pooled(groups_of(draw, 0.02, [2] * 10), 0.02)
        found = paired_gain(LESS, *draws(draw, count, gain), noise=noise)
        hits += found.low <= gain <= found.high
    assert hits / rounds == pytest.approx(0.95, abs=0.015)


def test_one_pair_is_no_interval() -> None:
    for before, after in (([], []), ([1.0], [1.0]), ([1.0, 2.0], [1.0])):
        with pytest.raises(NightlabError, match="at least two pairs"):
            paired_gain(LESS, before, after)
    with pytest.raises(NightlabError, match="at least two pairs"):
        paired_gain(LESS, [], [], noise=Noise(1.0, 5))


def test_equal_measurements_are_no_gain() -> None:
    gain = paired_gain(LESS, [1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert (gain.mean, gain.low, gain.high) == (0, 0, 0)


def test_which_numbers_a_contest_is_about() -> None:
    assert LESS.better(1, 2) and not LESS.better(2, 2) and MORE.better(2, 1)
    assert LESS.gain(3, 1) == MORE.gain(1, 3) == 2
    assert LESS.worsened(3, 1) == 4 and MORE.worsened(3, 1) == 2


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_all_looks_together_err_as_often_as_one_may(level: float) -> None:
    assert repeated_check_level(0, level) == level
    upwards = [
        (1 - repeated_check_level(number, level)) / 2 for number in range(40)
    ]  # half of an error is a false gain
    assert 0.999 * (1 - level) < sum(upwards) < (1 - level) * (1 + 1e-9)


def test_looking_until_it_shows_confirms_nothing_more_often_than_it_may() -> None:
    draw, fooled, rounds = random.Random(10), 0, 3000
    for _ in range(rounds):
        before, after = draws(draw, 12, 0.0)
        fooled += any(
            paired_gain(LESS, before[:count], after[:count], repeated_check_level(number)).low > 0
            for number, count in enumerate((3, 5, 8, 12))
        )
    assert fooled / rounds <= 0.05


# -- held-out data -------------------------------------------------------------------------------------


@given(numbers, numbers, sigmas, st.text())
def test_the_same_question_has_the_same_answer_for_ever(search: float, held: float, sigma: float, seed: str) -> None:
    assert held_out_check(search, held, sigma, seed) == held_out_check(search, held, sigma, seed)


@pytest.mark.parametrize(
    ("gap", "least", "most"), [(-9.0, 0, 0.001), (0.0, 0, 0.03), (2.5, 0.45, 0.55), (5.0, 0.97, 1), (9.0, 0.999, 1)]
)
def test_gains_part_where_the_gap_is_more_than_noise(gap: float, least: float, most: float) -> None:
    answers = [held_out_check(1 + 0.1 * gap, 1.0, 0.1, str(seed)) for seed in range(3000)]
    parted = [answer.gap for answer in answers if answer.gap is not None]
    assert len(parted) == sum(answer.parted for answer in answers)
    assert least <= len(parted) / len(answers) <= most
    if gap > 3:
        assert average(parted) == pytest.approx(0.1 * gap, abs=0.005) and len(set(parted)) > 2000


def test_without_noise_any_gap_is_one() -> None:
    assert held_out_check(1.0, 1.0, 0.0, "a") == held_out_check(1.0, 1.1, 0.0, "a") == HeldOutCheck(False)
    assert held_out_check(1.1, 1.0, 0.0, "a") == HeldOutCheck(True, pytest.approx(0.1))  # type: ignore[arg-type]


# -- whether it still pays -----------------------------------------------------------------------------


def test_without_a_keep_the_bound_is_the_rule_of_three() -> None:
    found = gain_rate([0.0] * 50, 10.0, 0.5, level=0.95)
    assert found.gain == 0 and found.most == pytest.approx(-math.log(0.05) * 0.5 / 10)


@given(
    st.lists(st.just(0.0) | st.floats(1e-200, 1e300), min_size=1, max_size=30),
    st.floats(1e-9, 1e9),
    st.floats(1e-200, 1e300),
    st.floats(1e-3, 1e3),
)
def test_a_prospect_is_in_the_units_of_gain_and_cost(
    gains: list[float], cost: float, another: float, scale: float
) -> None:
    found = gain_rate(gains, cost, another)
    assert 0 <= found.gain <= found.most
    one = gain_rate([gain / 1e3 for gain in gains], cost * scale, another / 1e3)
    assert one.most * 1e3 * scale == pytest.approx(found.most, rel=1e-6) or found.most > 1e300
    assert gain_rate([*gains, another], cost, another).most >= found.most * (1 - 1e-9)


def test_the_bound_holds_as_often_as_it_says() -> None:
    draw = random.Random(5)
    rate, size, held = 0.1, 2.8e-4, 0
    for _ in range(400):
        gains = [size * math.exp(0.8 * draw.gauss(0, 1)) if draw.random() < rate else 0.0 for _ in range(60)]
        another = max(size * math.exp(0.8 * draw.gauss(0, 1)) for _ in range(3))
        held += gain_rate(gains, 60.0, another, level=0.9).most >= rate * size * math.exp(0.8**2 / 2)
    assert held >= 0.87 * 400


def test_nothing_is_promised_of_nothing() -> None:
    assert gain_rate([0.0], 0.0, 1.0).most == gain_rate([0.0], 1.0, 0.0).most == math.inf
