"""The pde lab: its truth is one, by another method; a better method is as exact and much quicker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.shipped import lab_module, trials_of

from nightlab.session.create import SHIPPED


@pytest.fixture
def measure() -> Any:
    module = lab_module("pde", "measure")
    module.draw = np.random.default_rng(1)
    return module


def test_a_solver_by_another_method_converges_to_the_truth_at_its_order(
    measure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    solver, values = lab_module("pde", "solver"), measure.start()
    errors = []
    for step in (0.004, 0.002):
        monkeypatch.setattr(solver, "STEP", step)
        errors.append(measure.error(solver.solve(values, measure.LENGTH, measure.END), values))
    assert errors[1] < 0.01 and errors[0] / errors[1] == pytest.approx(2, rel=0.05), "the first order"
    fine, finer = measure.truth(values), measure.truth(values, measure.FINE / 2)
    assert np.linalg.norm(fine - finer) < 1e-6 * np.linalg.norm(finer)


def test_what_is_no_number_is_infinitely_wrong(measure: Any) -> None:
    values = measure.start()
    assert measure.error(np.full(measure.POINTS, np.nan), values) == measure.error(values * 1e308, values) == np.inf


@pytest.mark.integration
def test_the_better_method_is_measured_and_what_diverges_is_not(tmp_path: Path) -> None:
    run = trials_of("pde", tmp_path)
    fourth = run("04-fourth-order")
    assert fourth.metric and 0 < fourth.secondary["error"] < 0.05, fourth  # of 2,500 starts five were over 0.005
    diverged = run({"solver.py": "def solve(start, length, end):\n    return start / 0\n"})
    assert (diverged.outcome, diverged.metric) == ("crashed", None) and "no number" in diverged.detail
    remembers = (SHIPPED / "pde" / "solver.py").read_text() + (
        "\nhonest, calls = solve, []\n\n\ndef solve(start, length, end):\n"
        "    calls.append(1)\n    return honest(start, length, end) * (1 + 1e-5 * len(calls))\n"
    )
    assert run({"solver.py": remembers}).outcome == "tampered"
