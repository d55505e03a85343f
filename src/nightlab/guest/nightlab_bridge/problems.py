"""autoresearch-problems: the program's function answers, and the evaluator scores the answer.

``python -P -m nightlab_bridge.problems --sealed --function solve --entry evaluate --parameters JSON EVALUATOR PROGRAM``
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nightlab_bridge.load import load_module
from nightlab_bridge.openevolve import plain
from nightlab_bridge.report import report, require_score, require_valid
from nightlab_bridge.runner import Said, Unmeasured, arguments, finish, run

SCORE = "score"


def main() -> None:
    parser = arguments(60)
    parser.add_argument("--function", default="solve")
    parser.add_argument("--entry", default="evaluate")
    parser.add_argument("--parameters", type=json.loads, default={})
    parser.add_argument("--callable", action="store_true", help="the function itself is the answer")
    options = parser.parse_args()

    def function(path: Path, said: Said) -> Any:
        evaluate = getattr(load_module(options.evaluator, "problem_evaluator"), options.entry)
        said(options.function)
        solve = getattr(load_module(path, "program"), options.function)
        answer = solve if options.callable else solve(**accepted(solve, options.parameters))
        said(options.entry)
        return read(evaluate(answer, **options.parameters))

    try:
        metrics = run(options.program, function, sealed=options.sealed, timeout=options.timeout)
        require_valid(metrics)
        if metrics.get("error"):
            raise Unmeasured(f"the evaluator reports: {metrics['error']}"[:500])
        report(SCORE, require_score(metrics.get(SCORE), SCORE), metrics)
    except Unmeasured as error:
        finish(error)


def accepted(function: Any, parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters that a function takes: they are the evaluator's, and not each program needs them."""
    known = inspect.signature(function).parameters.values()
    if any(each.kind is each.VAR_KEYWORD for each in known):
        return parameters
    return {name: value for name, value in parameters.items() if name in {each.name for each in known}}


def read(result: Any) -> dict[str, Any]:
    """An evaluator's result, a dict or a number, as plain values; its ``metrics`` are beside the score."""
    if not isinstance(result, Mapping):
        return {SCORE: plain(result)}
    inner = result.get("metrics")
    both = {**(inner if isinstance(inner, Mapping) else {}), **result}
    return {str(name): plain(value) for name, value in both.items() if name != "metrics"}


if __name__ == "__main__":
    main()
