"""What many noisy trials of genomes tell of each step in them, and what a liar among the labs can change."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightlab.commons import effects
from nightlab.commons.effects import GenomeValue, estimate, prior_effect
from nightlab.commons.finding import FindingSource, target_of

SIGMA = 1.0
TRUE = {f"step {n}": gain for n, gain in enumerate((3.0, 1.0, 0.0, 0.0, -1.0, -3.0))}


def values(labs: int, seed: int, off: float = 0.0) -> list[GenomeValue]:
    """Labs that each measure several genomes, made of some of the steps; each lab's machine has its offset."""
    draw, found = random.Random(seed), list[GenomeValue]()
    for lab in range(labs):
        offset = draw.gauss(0, off)
        for _ in range(8):
            steps = frozenset(step for step in TRUE if draw.random() < 0.5)
            gain = math.fsum(TRUE[step] for step in steps) + offset + draw.gauss(0, SIGMA)
            found.append(GenomeValue(steps, gain, 1, f"lab {lab}"))
    return found


def off_by(known: dict[str, float]) -> float:
    return statistics.fmean(abs(known[step] - true) for step, true in TRUE.items())


def test_many_labs_trials_tell_the_steps_apart_though_none_was_measured_alone() -> None:
    few, many = (estimate(values(labs, 1), [], SIGMA) for labs in (1, 20))
    assert off_by(many) < 0.3 < off_by(few)
    assert max(many, key=lambda step: many[step]) == "step 0"


def test_a_machine_that_measures_all_genomes_lower_changes_nothing() -> None:
    plain = off_by(estimate(values(20, 2), [], SIGMA))
    assert off_by(estimate(values(20, 2, off=5.0), [], SIGMA)) < plain + 0.2


@pytest.mark.parametrize("first", ["here", "there"])
def test_of_too_many_steps_each_labs_latest_count(first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effects, "LATEST", 6)
    here, there = (
        [GenomeValue(frozenset(f"{lab} {n}" for n in range(k)), float(k), 1, by) for k in range(9)]
        for lab, by in (("here", ""), ("there", "x"))
    )
    known = estimate([*here, *there] if first == "here" else [*there, *here], [], SIGMA)
    assert sorted(known) == [f"{lab} {n}" for lab in ("here", "there") for n in (5, 6, 7)]


def test_luck_shrinks_and_more_where_most_ideas_failed() -> None:
    lucky = [GenomeValue(frozenset({"a"}), 2.0, 1), GenomeValue(frozenset(), 0.0, 4)]
    free, strict = (estimate(lucky, ideas, SIGMA)["a"] for ideas in ([0.0] * 20, [-2.0] * 20))
    assert strict < free < 2.0


def test_an_absurd_number_moves_little() -> None:
    honest = values(20, 3)
    lie = [GenomeValue(frozenset({"step 5"}), 59.0 * SIGMA, 1, "liar"), GenomeValue(frozenset(), 0.0, 1, "liar")]
    assert estimate([*honest, *lie], [], SIGMA)["step 5"] < -2.0
    huge = [GenomeValue(frozenset({"step 5"}), 1e308, 1, "liar")]
    assert estimate([*honest, *huge], [], SIGMA)["step 5"] < -2.0


@pytest.mark.parametrize("word", [0.6, 0.95])
@pytest.mark.parametrize("ideas", [[], [-0.5] * 9])
@pytest.mark.parametrize("large", [20.0, 500.0, 1e5])
def test_what_rides_with_a_large_gain_has_no_part_in_it(large: float, ideas: list[float], word: float) -> None:
    """Also in a lab that has measured none of it."""
    told = [
        GenomeValue(frozenset(), 0.0, 2, "x", word),
        GenomeValue(frozenset({"large"}), large, 2, "x", word),
        GenomeValue(frozenset({"large", "harm"}), 0.3 * large, 1, "x", word),
        *(GenomeValue(frozenset({"large", f"small {n}"}), large - 3, 1, "x", word) for n in range(6)),
    ]
    known = estimate([GenomeValue(frozenset(), 0.0, 2), *told], ideas, SIGMA)
    assert known["large"] == pytest.approx(large, rel=0.2)
    assert all(effect < 0 for step, effect in known.items() if step != "large"), known


@pytest.mark.parametrize("off", [-200.0, 50.0, 200.0])
def test_a_machine_that_is_far_off_is_no_steps_gain(off: float) -> None:
    chain = [GenomeValue(frozenset(f"s{n}" for n in range(k)), off - 0.8 * k, 1, "x", 0.7) for k in range(5)]
    here = [GenomeValue(frozenset(), 0.0, 2)]
    for ours in (here, [*here, GenomeValue(frozenset({"s0"}), -1.0, 1)]):
        known = estimate([*ours, *chain], [-0.5] * 9, SIGMA)
        assert all(-2 < effect < 0.5 for effect in known.values()), known


@pytest.mark.parametrize("wild", [-1e6, 1e6])
def test_a_lab_that_says_absurd_things_of_others_steps_moves_little(wild: float) -> None:
    every = frozenset(TRUE)
    lie = [GenomeValue(every, wild, 4, "liar", 0.7), GenomeValue(frozenset(), 0.0, 4, "liar", 0.7)]
    lie.append(GenomeValue(every | {"own"}, -wild, 4, "liar", 0.7))
    known = estimate([*values(6, 5), *lie], [-0.5] * 9, SIGMA)
    assert off_by(known) < off_by(estimate(values(6, 5), [-0.5] * 9, SIGMA)) + 0.3


STEPS, WORDS = st.frozensets(st.sampled_from("abcdef")), st.floats(0.1, 1)
GAINS, LABS = st.floats(-1e300, 1e300) | st.just(math.inf), st.sampled_from(["", "x", "y"])
MEASURED = st.builds(GenomeValue, STEPS, GAINS, st.integers(1, 99), LABS, WORDS)


@given(st.lists(MEASURED, max_size=12), st.lists(st.floats(-1e12, 1e12), max_size=9), st.floats(0, 1e9))
def test_every_estimate_is_a_number(measured: list[GenomeValue], ideas: list[float], sigma: float) -> None:
    assert all(map(math.isfinite, estimate(measured, ideas, sigma).values()))


def test_the_word_of_a_lab_counts_as_far_as_it_is_trusted() -> None:
    said = [
        (GenomeValue(frozenset(), 0.0, 4, "x", word), GenomeValue(frozenset({"a"}), 3.0, 1, "x", word))
        for word in (0.6, 0.95)
    ]
    doubted, believed = (estimate(each, [], SIGMA)["a"] for each in said)
    assert doubted < believed < 3.0


def test_without_any_difference_here_nothing_is_estimated() -> None:
    assert estimate([], [], 0.0) == {}
    assert estimate([GenomeValue(frozenset(), 0.0, 1), GenomeValue(frozenset({"a"}), 1.0, 1, "x")], [], 0.0) == {}
    tiny = [GenomeValue(frozenset(), 0.0, 1), GenomeValue(frozenset({"a"}), 3e-300, 1)]
    assert estimate(tiny, [], 1e-300)["a"] > 0, "at any scale"
    exact = estimate([GenomeValue(frozenset(), 0.0, 1), GenomeValue(frozenset({"a"}), 1.0, 1)], [], 0.0)
    assert exact["a"] == pytest.approx(1.0, rel=0.01), "without noise a trial says it all"


@given(st.lists(st.floats(-1e9, 1e9), max_size=30))
def test_what_is_expected_of_a_step_is_never_a_gain(gains: list[float]) -> None:
    mean, variance = prior_effect(gains)
    assert mean <= 0 and variance >= 1 and math.isfinite(variance)


@pytest.mark.parametrize("wild", [-1e3, -1e160, 1e9, math.inf, -math.inf])
def test_one_idea_that_diverged_changes_little(wild: float) -> None:
    plain = estimate(values(20, 4), [-0.5] * 9, SIGMA)
    assert off_by(estimate(values(20, 4), [*[-0.5] * 9, wild], SIGMA)) < off_by(plain) + 0.2
    assert estimate([*values(20, 4), GenomeValue(frozenset({"new"}), wild, 1)], [wild], SIGMA)


NAMES = st.text("0123456789abcdef", min_size=1, max_size=64)


@given(NAMES, *[st.lists(NAMES, max_size=20).map(tuple)] * 3, st.one_of(st.just(""), NAMES))
def test_a_source_says_what_a_candidate_has_of_others(
    target: str, along: tuple[str, ...], beside: tuple[str, ...], without: tuple[str, ...], on: str
) -> None:
    made = FindingSource(target, along, beside, without, on)
    assert FindingSource.of(str(made)) == made and target_of(str(made)) == target
