"""What an evaluator's answer is worth: which numbers are a score, and which answers are none. No process starts."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nightlab_bridge.openevolve import FEATURES, evaluate, score
from nightlab_bridge.report import require_score, require_valid
from nightlab_bridge.runner import Unmeasured

BY_DEFAULT = set(FEATURES.split(","))
NO_NUMBERS = (-math.inf, math.inf, math.nan, 10**400, -(10**400), "0.5", "high", [1.0], {}, ())


@pytest.mark.parametrize(
    ("metrics", "features", "theirs"),
    [
        ({"ok": True, "acc": 0.4}, BY_DEFAULT, 0.4),
        ({"complexity": 9, "acc": 0.5}, BY_DEFAULT, 0.5),
        ({"complexity": 9, "acc": 0.5}, set(), 4.75),
        ({"complexity": 9, "diversity": 1}, BY_DEFAULT, 5.0),
        ({"speed": 3, "acc": 0.5, "label": "a", "lost": math.nan}, {"speed"}, 0.5),
        ({"acc": 1, "cost": -math.inf}, BY_DEFAULT, -math.inf),
        ({"combined_score": 2, "acc": 9}, BY_DEFAULT, 2),
    ],
)
def test_a_score_is_openevolves(metrics: dict[str, Any], features: set[str], theirs: float) -> None:
    """``openevolve.utils.metrics_utils.get_fitness_score(metrics, features)`` of openevolve 0.4.1 gives these."""
    assert score(metrics, features) == theirs


@pytest.mark.parametrize("metrics", [{}, {"label": "good"}, {"ok": True}])
def test_without_a_number_there_is_no_score(metrics: dict[str, Any]) -> None:
    with pytest.raises(Unmeasured, match="combined_score is missing"):
        require_score(score(metrics, BY_DEFAULT), "combined_score")


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_what_is_no_finite_number_is_no_score(value: Any) -> None:
    with pytest.raises(Unmeasured, match="has to be a finite number"):
        require_score(value, "combined_score")
    assert require_score(-3, "combined_score") == -3.0


@pytest.mark.parametrize("name", ["valid", "Feasible", "is_correct", "success", "runs_successfully"])
def test_an_answer_that_its_evaluator_calls_invalid_is_none(name: str) -> None:
    for no in (0, 0.0, False):
        with pytest.raises(Unmeasured, match=f"not valid .{name} = 0.: it broke"):
            require_valid({"combined_score": 0.0, name: no, "error": "it broke"})
    for unclear in (1, True, 0.5, None, "no", {}):
        require_valid({name: unclear})


@pytest.mark.parametrize("answer", [None, "0.5", 0.5, -math.inf, [1]])
def test_an_answer_that_is_no_table_is_named(answer: Any) -> None:
    module = SimpleNamespace(evaluate=lambda path: answer)
    found = evaluate(module, Path("p.py"), [], lambda words: None)
    assert found["metrics"]["error"] == f"evaluate returned {type(answer).__name__}, no dict of metrics"


@pytest.mark.parametrize(
    ("first", "stages"),
    [
        ({"acc": 0.6, "complexity": 0.1}, 1),
        ({"acc": 0.6, "complexity": 0.5}, 2),
        ({"acc": 0.6, "error": 0.0}, 2),
        ({"passed": True}, 1),
        ({}, 1),
    ],
)
def test_a_stage_leads_on_as_in_openevolve(first: dict[str, Any], stages: int) -> None:
    """As ``Evaluator._passes_threshold`` of openevolve 0.4.1: all numbers count, also feature dimensions."""
    module = SimpleNamespace(evaluate_stage1=lambda path: first, evaluate_stage2=lambda path: {"second": 1})
    found = evaluate(module, Path("p.py"), [0.5], lambda words: None)
    assert ("second" in found["metrics"]) == (stages == 2)
