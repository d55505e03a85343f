"""CORAL: a grader's ``evaluate()``, which finds the candidate's files in its ``codebase_path``.

``python -P -m nightlab_bridge.coral [--sealed] [--entry MODULE:CLASS] [--args JSON] GRADER PROGRAM``
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

from nightlab_bridge.load import load_module
from nightlab_bridge.openevolve import plain
from nightlab_bridge.report import report, require_score
from nightlab_bridge.runner import Said, Unmeasured, arguments, finish, run

SCORE = "score"


def main() -> None:
    parser = arguments(300)
    parser.add_argument("--entry", default="", help="MODULE:CLASS of a grader in a package")
    parser.add_argument("--args", type=json.loads, default={}, help="the grader's own arguments")
    options = parser.parse_args()

    def function(path: Path, said: Said) -> Any:
        said(options.evaluator)
        return grade(Path(options.evaluator), options.entry, path, options.args, options.timeout)

    try:
        result = run(options.program, function, sealed=options.sealed, timeout=options.timeout)
        if result["score"] is None:
            raise Unmeasured(f"the grader gave no score: {result['said'].get('explanation', 'and no reason')}"[:500])
        report(SCORE, require_score(result["score"], SCORE), result["metrics"], result["said"])
    except Unmeasured as error:
        finish(error)


def grade(grader: Path, entry: str, program: Path, args: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The grader's score, its other numbers, and what it says."""
    if importlib.util.find_spec("coral") is None or importlib.util.find_spec("coral.grader") is None:
        _provide_package()
    sys.path[:0] = [str(grader.resolve().parent), *map(str, Path.cwd().glob("grader/src")), str(Path.cwd())]
    kind = _grader(grader, entry)
    made = kind(_config(args, int(seconds)))
    # What CORAL hides in a separate folder, for the grader alone, is in the lab here.
    folder = Path.cwd() / "seed"
    made.codebase_path = str(folder if folder in program.parents else Path.cwd())
    made.private_dir, made.tasks = str(_private()), []
    return read(made.evaluate())


def _grader(path: Path, entry: str) -> Any:
    if entry:
        module, _, name = entry.partition(":")
        return getattr(importlib.import_module(module), name or "Grader")
    return load_module(path, "task_grader").Grader


def _config(args: dict[str, Any], seconds: int) -> Any:
    return types.SimpleNamespace(
        args=args, timeout=seconds, direction="maximize", private=[], entrypoint="", parallel=None
    )


def _private() -> Path:
    """A folder of the grader's, with the lab's own folders in it."""
    place = Path.cwd().parent / "coral" / "private"
    place.mkdir(parents=True)
    for path in Path.cwd().iterdir():
        (place / path.name).symlink_to(path)
    return place


def read(result: Any) -> dict[str, Any]:
    """A grader's result, a number or a bundle of scores, as plain values."""
    if result is None or isinstance(result, int | float):
        return {"score": result, "metrics": {}, "said": {}}
    scores = getattr(result, "scores", None) or {}
    single = [each for each in scores.values() if each.value is not None]
    score = result.aggregated
    if score is None and single:
        score = sum(float(each.value) for each in single) / len(single)
    said = {"feedback": getattr(result, "feedback", None)}
    said["explanation"] = "; ".join(str(each.explanation) for each in scores.values() if each.explanation)
    numbers = {str(name): plain(each.value) for name, each in scores.items() if len(scores) > 1}
    numbers |= {str(name): plain(value) for name, value in (getattr(result, "metadata", None) or {}).items()}
    return {"score": plain(score), "metrics": numbers, "said": {k: str(v)[:8000] for k, v in said.items() if v}}


class Score:
    """One number of a grader, with its words."""

    def __init__(self, value: Any, name: str = "eval", explanation: Any = None, metadata: Any = None) -> None:
        self.value, self.name, self.explanation, self.metadata = value, name, explanation, metadata or {}


class ScoreBundle:
    """What a grader returns."""

    def __init__(
        self, scores: Any, aggregated: Any = None, is_public: bool = True, feedback: Any = None, metadata: Any = None
    ) -> None:
        self.scores, self.aggregated, self.is_public = scores, aggregated, is_public
        self.feedback, self.metadata = feedback, metadata or {}


class TaskGrader:
    """What graders inherit where CORAL's package is not installed."""

    codebase_path: str
    private_dir: str
    tasks: list[Any]
    tune, budget_class = False, "real"

    def __init__(self, config: Any) -> None:
        self.config = config

    @property
    def args(self) -> Any:
        return self.config.args

    @property
    def timeout(self) -> Any:
        return self.config.timeout or None

    @property
    def eval_logs_dir(self) -> Path:
        folder = Path(self.private_dir).parent / "public" / "eval_logs"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def eval_logs_worktree_path(self, path: Any) -> Path:
        return Path(path)

    def get_python_command(self) -> list[str]:
        return [sys.executable]

    def run_program(self, filename: str, *arguments: str) -> Any:
        call = [*self.get_python_command(), str(Path(self.codebase_path) / filename), *arguments]
        return subprocess.run(call, capture_output=True, text=True, cwd=self.codebase_path, timeout=self.timeout)

    def run_script(self, script: str, *, timeout: int = 300) -> Any:
        call = [*self.get_python_command(), "-c", script]
        return subprocess.run(call, capture_output=True, text=True, timeout=timeout)

    def run_script_json(self, script: str, *, timeout: int = 300) -> Any:
        done = self.run_script(script, timeout=timeout)
        if done.returncode:
            raise RuntimeError(done.stderr.strip()[-2000:])
        for text in (done.stdout, *reversed(done.stdout.splitlines())):
            try:
                return json.loads(text)
            except ValueError:
                continue
        raise RuntimeError(f"the script printed no JSON: {done.stdout[-500:]} {done.stderr[-500:]}")

    def read_eval_path(self, path: str) -> Path:
        return Path(self.private_dir) / "eval" / path

    def read_eval(self, path: str) -> str:
        return self.read_eval_path(path).read_text()

    def bundle(self, value: Any, explanation: str = "", feedback: Any = None, metadata: Any = None) -> ScoreBundle:
        return ScoreBundle({"eval": Score(value, "eval", explanation or None)}, value, True, feedback, metadata)

    score = bundle

    def fail(self, explanation: str = "", feedback: Any = None) -> ScoreBundle:
        return self.bundle(None, explanation, feedback)


class Task:
    """A task, as CORAL describes one."""

    def __init__(self, **known: Any) -> None:
        vars(self).update(known)


class GraderConfig(types.SimpleNamespace):
    """A grader's configuration."""


def _provide_package() -> None:
    """What graders import of CORAL's package, where it is not installed."""
    members: dict[str, dict[str, Any]] = {
        "coral": {},
        "coral.types": {"Score": Score, "ScoreBundle": ScoreBundle, "Task": Task},
        "coral.config": {"GraderConfig": GraderConfig},
        "coral.grader": {"TaskGrader": TaskGrader},
        "coral.grader.task_grader": {"TaskGrader": TaskGrader},
    }
    for name, found in members.items():
        module = sys.modules[name] = types.ModuleType(name)
        vars(module).update(found, __path__=[])


if __name__ == "__main__":
    main()
