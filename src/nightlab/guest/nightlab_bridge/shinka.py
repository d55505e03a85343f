"""ShinkaEvolve: a script that is given ``--program_path`` and ``--results_dir``, and leaves two JSON files.

``python -P -m nightlab_bridge.shinka [--sealed] [--timeout SECONDS] EVALUATOR PROGRAM``
"""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any

from nightlab_bridge.load import run_script
from nightlab_bridge.report import report, require_score, require_valid
from nightlab_bridge.runner import Said, Unmeasured, arguments, finish, run

SCORE = "combined_score"


def main() -> None:
    options = arguments(600).parse_args()

    def function(path: Path, said: Said) -> Any:
        said(options.evaluator)
        return evaluate(options.evaluator, path)

    try:
        result = run(options.program, function, sealed=options.sealed, timeout=options.timeout)
        metrics, correct = result["metrics"], result["correct"]
        if not correct.get("correct"):
            raise Unmeasured(f"the evaluator says that the answer is not correct: {correct.get('error')}"[:500])
        require_valid(metrics)
        others = {**metrics, **(metrics.get("public") or {})}
        text = metrics.get("text_feedback")
        report(SCORE, require_score(metrics.get(SCORE), SCORE), others, {"feedback": text} if text else {})
    except Unmeasured as error:
        finish(error)


def evaluate(script: str, program: Path) -> dict[str, Any]:
    """Run the script, and read what it left."""
    results = program.parent.parent / "results"
    results.mkdir()
    if importlib.util.find_spec("shinka") is None:
        _provide_package()
    run_script(script, "--program_path", str(program), "--results_dir", str(results))
    return {name: _left(results / f"{name}.json") for name in ("metrics", "correct")}


def _left(path: Path) -> Any:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RuntimeError(f"it left no {path.name} in its results_dir") from None
    if not isinstance(found, dict):
        raise RuntimeError(f"{path.name} holds no object")
    return found


def _provide_package() -> None:
    """The one function of Shinka's package that evaluators call, where the package is not installed."""
    core = types.ModuleType("shinka.core")
    core.run_shinka_eval = run_shinka_eval  # type: ignore[attr-defined]
    package = types.ModuleType("shinka")
    package.core = core  # type: ignore[attr-defined]
    sys.modules.update({"shinka": package, "shinka.core": core, "shinka.core.wrap_eval": core})


def run_shinka_eval(
    program_path: str,
    results_dir: str,
    experiment_fn_name: str,
    num_runs: int,
    get_experiment_kwargs: Any = None,
    aggregate_metrics_fn: Any = None,
    validate_fn: Any = None,
    default_metrics_on_error: Any = None,
    **_: Any,
) -> tuple[dict[str, Any], bool, str | None]:
    """Call the experiment's function ``num_runs`` times, validate and aggregate, and leave the two files."""
    error: str | None = None
    metrics: dict[str, Any] = dict(default_metrics_on_error or {SCORE: 0.0})
    try:
        spec = importlib.util.spec_from_file_location("program", program_path)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        experiment, answers = getattr(module, experiment_fn_name), []
        for number in range(num_runs):
            answer = experiment(**(get_experiment_kwargs(number) if get_experiment_kwargs else {"seed": number + 1}))
            answers.append(answer)
            good, why = validate_fn(answer) if validate_fn else (True, None)
            if not good:
                error = error or f"Validation failed: {why}"
        metrics = aggregate_metrics_fn(answers) if aggregate_metrics_fn else {"num_successful_runs": len(answers)}
        metrics.pop("extra_data", None)
    except Exception as failure:
        error = f"{type(failure).__name__}: {failure}"
    folder = Path(results_dir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "correct.json").write_text(json.dumps({"correct": error is None, "error": error}), encoding="utf-8")
    (folder / "metrics.json").write_text(json.dumps(metrics, default=_number), encoding="utf-8")
    return metrics, error is None, error


def _number(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)


if __name__ == "__main__":
    main()
