"""Schedules: which constants move, how they are perturbed within their ranges, and which members give way."""

from __future__ import annotations

import random

import pytest

from nightlab.core.config import LabConfig
from nightlab.core.types import Metric
from nightlab.proposers.schedules import drawn, moving_constants, perturbed, stretched, truncation

LAB = LabConfig.model_validate({"name": "x", "genome": ["a.py"], "command": "true", "metric": {"name": "loss"}})
GENOME = """\
LR = 0.1  # step size [0.01..0.2 log, moves]
WIDTH = 8  # [1..16 moves]
KIND = "a"  # [a | b, moves]
BETA = 0.9  # [moves]
FIXED = 3  # [1..9]
PAST = (0.1, 0.05)  # of an earlier population [0.001..1 log, moves]
"""
SPACES = {name: space for name, (_, space) in moving_constants(GENOME, "cpu", LAB).items()}


def test_constants_that_are_marked_move() -> None:
    assert list(SPACES) == ["LR", "WIDTH", "KIND", "BETA", "PAST"]


def test_a_schedule_keeps_its_course_over_other_parts() -> None:
    assert stretched(0.1, 3) == (0.1,) * 3
    assert stretched((0.1, 0.05), 4) == (0.1, 0.1, 0.05, 0.05)
    assert stretched((1, 2, 3, 4), 2) == (1, 3)


@pytest.mark.parametrize("seed", range(20))
def test_a_perturbation_changes_what_is_left_within_the_ranges(seed: int) -> None:
    draw = random.Random(seed)
    before = drawn(SPACES, 4, draw)
    after = perturbed(before, 3, SPACES, draw)
    for name, space in SPACES.items():
        assert after[name][:2] == before[name][:2], "what was trained is written down as it was"
        assert all(space._contains(space.to_internal_repr(value)) for value in after[name])
    assert after != before or seed, "something moved"
    assert type(after["WIDTH"][3]) is int


def test_a_fifth_of_those_that_have_a_score_give_way_to_a_fifth() -> None:
    loss, scores = Metric("loss"), {member: float(member) for member in range(10)}
    assert truncation(scores, loss) == ({8, 9}, [0, 1])
    assert truncation(scores, Metric("score", "maximise")) == ({0, 1}, [9, 8])
    assert truncation({3: 1.0, 5: 0.5}, loss) == ({3}, [5])
    assert truncation({3: 1.0}, loss) == (set(), [3]), "none to give way to"
