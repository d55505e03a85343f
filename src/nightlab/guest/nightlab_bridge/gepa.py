"""GEPA: the evaluator that a module gives to ``optimize_anything``, called for the candidate's text.

``python -P -m nightlab_bridge.gepa [--timeout SECONDS] MODULE FILE...``; ``--apart=FILE``: one that is only read
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nightlab_bridge.load import run_script
from nightlab_bridge.openevolve import plain
from nightlab_bridge.report import numbers, report, require_score
from nightlab_bridge.runner import Said, Unmeasured, finish, run

SCORE, SHOWN = "score", 3  # examples, the worst ones, whose words are shown
LOGGED: list[str] = []  # what the evaluator said by ``log`` in the call that runs


class Asked(BaseException):
    """The call of ``optimize_anything``, with its arguments. No ``except Exception`` of the module stops it."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("module")
    parser.add_argument("files", nargs="*", help="the candidate's text, or that of each component")
    parser.add_argument("--apart", action="append", default=[])
    parser.add_argument("--timeout", type=float, default=600)
    options = parser.parse_args()
    options.files += options.apart

    def function(path: Path, said: Said) -> Any:
        said(options.module)
        asked = problem(options.module)
        candidate = text(asked.get("seed_candidate"), options.files)
        result = evaluate(asked, candidate, asked.get("valset") or asked.get("dataset"))
        if os.environ.get("NIGHTLAB_HELD_OUT") and asked.get("test_set"):
            result["held_out"] = evaluate(asked, candidate, asked["test_set"])["score"]
        return result

    try:
        result = run(options.files[0], function, sealed=False, timeout=options.timeout)
        held_out = require_score(result["held_out"], "score on the test set") if "held_out" in result else None
        score = require_score(result["score"], SCORE)
        report(SCORE, score, result["metrics"], result["said"], result["instances"], held_out)
    except Unmeasured as error:
        finish(error)


def problem(module: str) -> dict[str, Any]:
    """What the module gives to ``optimize_anything``. Raises RuntimeError for one that does not call it."""

    def ask(seed_candidate: Any = None, **given: Any) -> None:
        raise Asked({"seed_candidate": seed_candidate, **given})

    try:
        package: Any = importlib.import_module("gepa.optimize_anything")
    except ImportError:
        package = _provide_package()
    package.optimize_anything, package.log = ask, log
    package.get_log_context, package.set_log_context = lambda: None, lambda _: None  # any thread's words are heard
    try:
        run_script(module)
    except Asked as asked:
        return dict(asked.args[0])
    raise RuntimeError(f"{module} ended without calling optimize_anything")


def log(*words: Any, sep: str = " ", end: str = "\n") -> None:
    """GEPA's ``log``, called as ``print``: what an evaluator says of a candidate beside what it returns."""
    LOGGED.append(sep.join(map(str, words)) + end)


def _provide_package() -> Any:
    """What modules import of GEPA, where it is not installed: classes of configurations, which are not read."""

    class Anything:
        def __init__(self, *_: Any, **__: Any) -> None:
            pass

        def __class_getitem__(cls, _: Any) -> Any:
            return cls

    found = {}
    for name in ("gepa", "gepa.optimize_anything"):
        found[name] = sys.modules[name] = types.ModuleType(name)
        vars(found[name]).update(__path__=[], __getattr__=lambda _: Anything)
    vars(found["gepa"])["optimize_anything"] = found["gepa.optimize_anything"]
    return found["gepa.optimize_anything"]


def text(seed: Any, files: list[str]) -> Any:
    """The candidate as the evaluator expects it: one text, or a text for each component."""
    found = {Path(file).stem: Path(file).read_text(encoding="utf-8") for file in files}
    if not isinstance(seed, Mapping):
        return next(iter(found.values()))
    if len(seed) == len(found) == 1:
        return dict(zip(seed, found.values(), strict=True))
    return {name: found.get(str(name), value) for name, value in seed.items()}


def evaluate(asked: Mapping[str, Any], candidate: Any, examples: Any) -> dict[str, Any]:
    """The mean score, each example's, the means of the numbers beside it, and what is said of the worst examples."""
    found = [read(*each) for each in _results(asked, candidate, examples)]
    scores = [score for score, *_ in found]
    known = [score for score in scores if isinstance(score, bool | int | float)]
    mean = (
        sum(known) / len(known)
        if scores and len(known) == len(scores)
        else next((s for s in scores if s not in known), None)
    )
    worst = sorted(range(len(known)), key=lambda n: float(known[n]))[:SHOWN] if len(known) == len(scores) else []
    said = {(f"example {n}" if len(scores) > 1 else "feedback"): found[n][2] for n in worst if found[n][2]}
    each: dict[str, list[float]] = {}
    for _, info, _ in found:
        for name, value in numbers({name: plain(value) for name, value in _numbers(info).items()}).items():
            each.setdefault(name, []).append(value)
    metrics = {name: sum(values) / len(values) for name, values in each.items()}
    instances = {str(n): score for n, score in enumerate(scores)} if len(scores) > 1 else {}
    return {"score": mean, "metrics": metrics, "said": said, "instances": instances}


def _results(asked: Mapping[str, Any], candidate: Any, examples: Any) -> list[tuple[Any, str]]:
    """The result of each example, and what the evaluator logged meanwhile; of a batch, as with GEPA, no log."""
    function, batch = asked.get("evaluator"), asked.get("batch_evaluator")
    if function is None:
        if batch is None:
            raise RuntimeError("neither an evaluator nor a batch_evaluator is given")
        given = [(candidate, example) for example in (list(examples) if examples else [None])]
        return [(result, "") for result in batch(given)]
    taken = inspect.signature(function).parameters
    more = {"opt_state": None} if "opt_state" in taken else {}
    found = []
    for rest in [(example,) for example in examples] if examples else [()]:
        LOGGED.clear()
        result = function(candidate, *rest, **more)
        found.append((result, "".join(LOGGED)))
    return found


def read(result: Any, logged: str) -> tuple[Any, Any, str]:
    """A result, a score or a score and what is said of it, as a plain score, that, and all that is said as text."""
    score, info = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    said = "\n".join(filter(None, (str(info)[:2000] if info else "", logged[:2000].rstrip())))
    return plain(score), info, said


def _numbers(info: Any) -> dict[str, Any]:
    if not isinstance(info, Mapping):
        return {}
    inner = [info[key] for key in ("scores", "metrics") if isinstance(info.get(key), Mapping)]
    both = {key: value for part in (info, *inner) for key, value in part.items()}
    return {str(key): value for key, value in both.items() if isinstance(plain(value), int | float) and key != SCORE}


if __name__ == "__main__":
    main()
