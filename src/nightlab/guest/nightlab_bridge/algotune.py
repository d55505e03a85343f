"""AlgoTune: a task's problems are solved by the candidate's ``Solver``, checked by the task, and timed.

``python -P -m nightlab_bridge.algotune --sealed --size N TASK PROGRAM``
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import Any

from nightlab_bridge.load import load_module
from nightlab_bridge.report import report, require_score
from nightlab_bridge.runner import Said, Unmeasured, arguments, finish, run

PROBLEMS = 15  # each is solved once by both, so that no answer can be remembered


def main() -> None:
    parser = arguments(300)
    parser.add_argument("--size", type=int, default=100)
    options = parser.parse_args()

    def function(path: Path, said: Said) -> Any:
        said(options.evaluator)
        return measure(load_module(options.evaluator, "task"), load_module(path, "solver").Solver(), options.size)

    try:
        metrics = run(options.program, function, sealed=options.sealed, timeout=options.timeout)
        if metrics["wrong"]:
            raise Unmeasured(f"is_solution rejects the answer to {metrics['wrong']} of {PROBLEMS + 1} problems")
        report("speedup", require_score(metrics.pop("speedup"), "speedup"), metrics)
    except Unmeasured as error:
        finish(error)


def measure(module: Any, solver: Any, size: int) -> dict[str, float]:
    """The median ratio of the reference's time to the candidate's, over problems that it can't know beforehand."""
    kinds = [kind for kind in vars(module).values() if isinstance(kind, type) and hasattr(kind, "generate_problem")]
    kind = next(kind for kind in kinds if kind.__module__ == module.__name__)
    task, ratios, wrong, seconds = kind(), [], 0, []
    for number in range(PROBLEMS + 1):
        problem = task.generate_problem(size, random_seed=int.from_bytes(os.urandom(4), "little"))
        reference, _ = _timed(task.solve, problem)
        taken, answer = _timed(solver.solve, problem)
        wrong += not task.is_solution(problem, answer)
        if number:  # the first warms up
            ratios.append(reference / taken)
            seconds.append(taken)
    return {"speedup": statistics.median(ratios), "seconds": statistics.median(seconds), "wrong": wrong}


def _timed(function: Any, problem: Any) -> tuple[float, Any]:
    begun = time.perf_counter()
    answer = function(problem)
    return time.perf_counter() - begun, answer


if __name__ == "__main__":
    main()
