"""The packing lab: answers are verified exactly, and what breaks the rules is no packing."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.shipped import trials_of

from nightlab.session.create import SHIPPED, make_lab

LAB = SHIPPED / "packing"


@pytest.fixture(scope="module")
def verify() -> Any:
    spec = importlib.util.spec_from_file_location("verify", LAB / "verify.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GRID = [(0.1 + 0.2 * (i % 5), 0.1 + 0.2 * (i // 5), 0.1) for i in range(25)] + [(0.4, 0.4, 0.0414)]


def test_a_packing_that_only_rounds_badly_is_restated_strictly(verify: Any) -> None:
    assert verify.violation(GRID) < 1e-12
    made = verify.strict(GRID)
    assert verify.holds(made)
    assert all(0 < r - less < 1e-15 for (_, _, r), (_, _, less) in zip(GRID, made, strict=True))


def test_a_violation_that_others_tolerate_costs_what_it_gained(verify: Any) -> None:
    larger = [(x, y, r + 5e-7) for x, y, r in GRID]
    assert 4e-7 < verify.violation(larger) < 6e-7 and not verify.holds(larger)
    made = verify.strict(larger)
    assert verify.holds(made) and math.fsum(r for _, _, r in made) <= math.fsum(r for _, _, r in GRID) + 1e-9


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c[:-1], "a list of 26 circles"),
        (lambda c: [*c[:-1], [0.4, 0.4, float("nan")]], "circle 25 is no x, y, radius"),
        (lambda c: [*c[:-1], [0.4, 0.4, "1"]], "circle 25 is no x, y, radius"),
        (lambda c: [*c[:-1], [0.4, 0.4, True]], "circle 25 is no x, y, radius"),
        (lambda c: [*c[:-1], [0.4, 0.4, -1.0]], "the radius -1.0"),
        (lambda c: [*c[:-1], [0.4, 0.4, 10**400]], "is no x, y, radius|too large"),
        (lambda c: {"circles": c}, "a list of 26 circles"),
    ],
)
def test_what_is_no_answer_is_named(verify: Any, tmp_path: Path, change: Any, says: str) -> None:
    path = tmp_path / "circles.json"
    path.write_text(json.dumps(change([list(c) for c in GRID])))
    with pytest.raises((ValueError, OverflowError), match=says):
        verify.read(path)


def test_a_circle_smaller_than_its_violation_ends(verify: Any) -> None:
    tiny = [*GRID[:-1], (0.1, 0.1, 1e-9)]
    with pytest.raises(ValueError, match="smaller"):
        verify.strict(tiny)


@pytest.mark.integration
def test_it_works_by_hand(tmp_path: Path) -> None:
    folder = make_lab(tmp_path / "packing", "packing")
    for script in ("pack.py", "verify.py"):
        done = subprocess.run([sys.executable, script], cwd=folder, capture_output=True, text=True, check=True)
    names, values = zip(*(line.split("=") for line in done.stdout.splitlines()), strict=True)
    assert names == ("METRIC violation", "METRIC tolerant", "METRIC sum_of_radii")
    assert values[2].startswith("2.541421356") and float(values[1]) >= float(values[2])


@pytest.mark.integration
def test_an_idea_that_overlaps_is_a_crash(tmp_path: Path) -> None:
    overlap = trials_of("packing", tmp_path)("02-overlap")
    assert (overlap.outcome, overlap.metric) == ("crashed", None) and "a radius is" in overlap.detail
