"""Rounds: times of candidate and champion in turn, on a machine that drifts."""

from __future__ import annotations

import math
import random

import pytest

from nightlab.core.types import Metric, Verdict
from nightlab.judge.rounds import LEAST, MOST, compare_rounds

MS = Metric("ms")
WIN = Verdict("keep", "improved", "as the rule sees it", 9.0)


def decide(faster: float, noise: float, draw: random.Random, reason: str = "improved") -> tuple[Verdict, int]:
    """The verdict on a candidate, on a machine that slows down by 10 % with every trial, and its number of rounds."""
    rounds, speed = [], 1.0
    for number in range(1, MOST + 1):
        values = {}
        for side in ("candidate", "champion") if number % 2 else ("champion", "candidate"):
            speed *= 1.1
            values[side] = (10 if side == "champion" else 10 / faster) * speed * math.exp(draw.gauss(0, noise))
        rounds.append((values["champion"], values["candidate"]))
        decision = Verdict("keep", reason, "", 9.0)
        if verdict := compare_rounds(MS, rounds, 0.04, decision, last=number == MOST):
            return verdict, number
    raise AssertionError("the last round decides")


def test_a_gain_is_found_on_a_machine_that_drifts_and_none_is_imagined() -> None:
    draw = random.Random(1)
    kept = {
        faster: sum(decide(faster, 0.03, draw)[0].status == "keep" for _ in range(400)) / 400
        for faster in (0.95, 1.0, 1.05, 1.15)
    }
    assert kept[0.95] < 0.01 and kept[1.0] < 0.07 and kept[1.05] > 0.65 and kept[1.15] > 0.98


def test_what_favours_the_second_of_a_round_is_no_gain_and_no_noise() -> None:
    """The candidate runs first in odd rounds: on a machine that slows down by a tenth it looks faster there."""
    even_program = [(11, 10), (10, 11)] * 2
    found = compare_rounds(MS, even_program, 0.04, WIN, last=False)
    assert found and found.status == "discard", "4 rounds are precise enough"
    faster = compare_rounds(MS, [(11, 9.5), (10, 10.45)] * 2, 0.04, WIN, last=False)
    assert faster and faster.status == "keep" and "5.26 % better, ± 0 %" in faster.detail


def test_rounds_end_at_the_stated_precision() -> None:
    assert compare_rounds(MS, [(10, 9.5)] * (LEAST - 1), 0.04, WIN, last=False) is None, "too few to know how precise"
    steady, noisy = [(10, 9.5), (10, 9.6), (10, 9.4), (10, 9.5)], [(10, 9.5), (10, 11), (10, 8), (10, 9)]
    found = compare_rounds(MS, steady, 0.04, WIN, last=False)
    assert found and found.status == "keep" and "in 4 rounds" in found.detail
    assert found.bar == pytest.approx((9.5 * 9.6 * 9.4 * 9.5) ** (1 / 4))
    assert compare_rounds(MS, noisy, 0.04, WIN, last=False) is None
    unsure = compare_rounds(MS, noisy, 0.04, WIN, last=True)
    assert unsure and unsure.reason == "inconclusive"
    clear = [(10, 4.5), (10, 5), (10, 5.5), (10, 5)]
    assert compare_rounds(MS, clear, 0.04, WIN, last=False), "twice as fast is clear enough"


def test_a_simpler_program_is_kept_if_it_is_as_fast_and_the_bar_stays() -> None:
    simpler = Verdict("keep", "simpler", "as good, with 3 lines fewer", 9.0)
    same = compare_rounds(MS, [(10, 10), (10, 10.1), (10, 9.9), (10, 10)], 0.04, simpler, last=False)
    slower = compare_rounds(MS, [(10, 11), (10, 11.1), (10, 10.9), (10, 11)], 0.04, simpler, last=False)
    assert same and (same.status, same.bar) == ("keep", 9.0)
    assert slower and slower.status == "discard" and slower.reason == "regressed"


def test_throughput_is_maximised_and_what_has_no_ratio_is_not_kept() -> None:
    faster = compare_rounds(Metric("per_s", "maximise"), [(10, 12)] * 4, 0.04, WIN, last=False)
    assert faster and faster.status == "keep" and faster.bar == pytest.approx(12)
    zero = compare_rounds(MS, [(10, 0.0)], 0.04, WIN, last=False)
    assert zero and zero.status == "discard" and "no ratio" in zero.detail
    alone = compare_rounds(MS, [], 0.04, WIN, last=True)
    assert alone and alone.status == "discard", "the champion failed in all rounds"
