"""Prints what an evaluator returned as METRIC lines, or says what is wrong with it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from nightlab_bridge.runner import Unmeasured

VALID = {
    "valid",
    "validity",
    "is_valid",
    "correct",
    "is_correct",
    "correctness",
    "feasible",
    "success",
    "runs_successfully",
}  # 0 says that the answer violates
MOST = 8000  # characters of an evaluator's text that are shown
MOST_INSTANCES = 40  # whose scores are recorded


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers among an evaluator's metrics, by name."""
    found = {name: number(value) for name, value in metrics.items() if not isinstance(value, str | bool)}
    return {str(name): value for name, value in found.items() if value is not None and math.isfinite(value)}


def number(value: Any) -> float | None:
    """A number as a float, infinite where it is too large for one; None for anything else."""
    if not isinstance(value, bool | int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def require_score(value: Any, name: str) -> float:
    """The score as a finite number. Raises Unmeasured that says what it is instead."""
    score = number(value)
    if score is not None and math.isfinite(score):
        return score
    what = "missing" if value is None else f"{value!r}"[:80]
    raise Unmeasured(f"the evaluator's {name} is {what}; a score has to be a finite number")


def require_valid(metrics: Mapping[str, Any]) -> None:
    """Raise Unmeasured when the evaluator says that the answer violates what it asks."""
    for name, value in metrics.items():
        if str(name).lower() in VALID and number(value) == 0:
            why = metrics.get("error") or metrics.get("message") or ""
            raise Unmeasured(f"the evaluator says that the answer is not valid ({name} = 0){f': {why}' if why else ''}")


def report(
    name: str,
    score: float,
    metrics: Mapping[str, Any],
    said: Mapping[str, Any] | None = None,
    instances: Any = None,
    held_out: float | None = None,
) -> None:
    """Print the texts that the evaluator gave, its other numbers, the score of each instance, and last its score."""
    for title, text in (said or {}).items():
        words = text if isinstance(text, str) else json.dumps(text, default=str)
        print("\n".join(f"FEEDBACK {title}: {line}" for line in words[:MOST].splitlines()))
    found = numbers(metrics)
    if isinstance(instances, Mapping):
        found |= {f"instance/{key}": value for key, value in list(numbers(instances).items())[:MOST_INSTANCES]}
    for other, value in found.items():
        safe = re.sub(r"[^\w.µ/-]+", "_", other).strip("_")
        if safe and safe not in (name, "held_out"):
            print(f"METRIC {safe}={value!r}")
    if held_out is not None:
        print(f"METRIC held_out={held_out!r}")
    print(f"METRIC {name}={score!r}", flush=True)
