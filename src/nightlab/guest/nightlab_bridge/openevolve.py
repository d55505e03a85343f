"""OpenEvolve and SkyDiscover: ``evaluate(program_path)`` and its stages, and how their numbers become one score.

``python -P -m nightlab_bridge.openevolve [--sealed] [options] EVALUATOR PROGRAM``
"""

from __future__ import annotations

import importlib.util
import math
import os
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nightlab_bridge.load import load_module
from nightlab_bridge.report import number, report, require_score, require_valid
from nightlab_bridge.runner import Said, Unmeasured, arguments, finish, run
from nightlab_bridge.wants import meaning

STAGES = ("evaluate_stage1", "evaluate_stage2", "evaluate_stage3")
SCORE = "combined_score"
FEATURES = "complexity,diversity"  # its feature dimensions, where none are configured


def main() -> None:
    parser = arguments(300)
    parser.add_argument("--cascade", default="", help="thresholds of the stages, with commas; none: no stages")
    parser.add_argument("--features", default=FEATURES, help="metrics that are feature dimensions, with commas")
    options = parser.parse_args()
    thresholds = [float(word) for word in options.cascade.split(",") if word]
    features = set(options.features.split(",")) - {""}

    def function(path: Path, said: Said) -> Any:
        return evaluate(_module(Path(options.evaluator)), path, thresholds, said)

    try:
        result = run(options.program, function, sealed=options.sealed, timeout=options.timeout)
        metrics = result["metrics"]
        if isinstance(metrics.get("error"), str):
            raise Unmeasured(f"the evaluator reports: {metrics['error'][:400]}{meaning(metrics['error'])}")
        require_valid(metrics)
        report(SCORE, require_score(score(metrics, features), SCORE), metrics, result["said"])
    except Unmeasured as error:
        finish(error)


def _module(path: Path) -> Any:
    """The evaluator, imported. Where the peer's package is not installed, its result type is there all the same."""
    if importlib.util.find_spec("openevolve") is None:
        _provide_result_type()
    if folder := path.parent.name:  # SkyDiscover's, where its image would start
        os.chdir(folder)
        sys.path.insert(0, str(Path.cwd()))
    return load_module(path.name, "evaluation_module")


def _provide_result_type() -> None:
    class EvaluationResult:
        def __init__(self, metrics: Any, artifacts: Any = None) -> None:
            self.metrics, self.artifacts = metrics, artifacts or {}

    for name in ("openevolve", "openevolve.evaluation_result"):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].EvaluationResult = EvaluationResult  # type: ignore[attr-defined]


def evaluate(module: Any, path: Path, thresholds: list[float], said: Said) -> Any:
    """Metrics and texts: of ``evaluate``, or of its stages, each of which needs the threshold of the one before."""
    if not (thresholds and hasattr(module, STAGES[0])):
        said("evaluate")
        return _read(module.evaluate(str(path)))
    found: dict[str, Any] = {"metrics": {}, "said": {}}
    for passed, stage in enumerate(STAGES):
        if passed and not (passed <= len(thresholds) and _passes(found["metrics"], thresholds[passed - 1])):
            break
        if not hasattr(module, stage):
            break
        said(stage)
        part = _read(getattr(module, stage)(str(path)))
        found = {key: {**found[key], **part[key]} for key in found}
    return found


def _read(result: Any) -> dict[str, Any]:
    """An evaluator's result, a dict or an object with metrics and artifacts, as plain values."""
    if isinstance(result, types.CoroutineType):
        import asyncio  # which takes longer to import than all else here

        result = asyncio.run(result)
    metrics, said = getattr(result, "metrics", result), getattr(result, "artifacts", None)
    if isinstance(metrics, Mapping) and isinstance(metrics.get("metrics"), Mapping):
        metrics, said = metrics["metrics"], metrics.get("artifacts")
    if not isinstance(metrics, Mapping):
        return {"metrics": {"error": f"evaluate returned {type(metrics).__name__}, no dict of metrics"}, "said": {}}
    texts = said if isinstance(said, Mapping) else {}
    return {
        "metrics": {str(name): plain(value) for name, value in metrics.items()},
        "said": {str(name): str(text)[:8000] for name, text in texts.items()},
    }


def plain(value: Any) -> Any:
    """A number as Python's own, whatever library it is of; anything else as text."""
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)[:500]


def score(metrics: Mapping[str, Any], features: set[str]) -> Any:
    """``combined_score``, else the mean of the numbers, but flags and feature dimensions; None without any."""
    if SCORE in metrics:
        return metrics[SCORE]
    every = {name: number(value) for name, value in metrics.items() if not isinstance(value, bool)}
    found = {name: value for name, value in every.items() if value is not None and not math.isnan(value)}
    values = [value for name, value in found.items() if name not in features] or list(found.values())
    return sum(values) / len(values) if values else None


def _passes(metrics: Mapping[str, Any], threshold: float) -> bool:
    """Whether a stage's score leads to the next stage; feature dimensions count in it, an ``error`` does not."""
    found = number(score({name: value for name, value in metrics.items() if name != "error"}, set()))
    return found is not None and found >= threshold


if __name__ == "__main__":
    main()
