"""hillclimb: a verifier that runs the solution and scores it, or a run and a scorer that are kept apart.

``python -P -m nightlab_bridge.hillclimb --name METRIC (--verifier V | --run R | --score S) PROGRAM``

``--run`` is the candidate's step, and leaves its files in ``left``; empty: the program itself is run. ``--score``
scores what it left, with ``--apart=PROGRAM`` without the program; with ``--unsealed`` it does both.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from nightlab_bridge.report import report, require_score
from nightlab_bridge.runner import Said, Unmeasured, finish, run

LEFT = "left"  # the folder of what the candidate's step leaves


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("program", nargs="?", default="")
    parser.add_argument("--apart", default="")
    parser.add_argument("--name", default="score")
    parser.add_argument("--data", default="data")
    parser.add_argument("--timeout", type=float, default=600)
    parser.add_argument("--verifier", default="")
    parser.add_argument("--run")
    parser.add_argument("--score", default="")
    parser.add_argument("--unsealed", action="store_true")
    options = parser.parse_args()
    options.program = options.program or options.apart
    if options.run is not None and not options.unsealed:
        sys.exit(_solve(Path.cwd(), options))
    try:
        result = _scored(options, "validation")
        others = {name: value for name, value in result.items() if name not in ("score", "report", "instances")}
        held = os.environ.get("NIGHTLAB_HELD_OUT") and options.score and not options.unsealed
        held_out = require_score(_scored(options, "holdout").get("score"), "held-out score") if held else None
        said = {"report": result["report"]} if result.get("report") else {}
        score = require_score(result.get("score"), "score")
        report(options.name, score, others, said, result.get("instances"), held_out)
    except Unmeasured as error:
        finish(error)


def _scored(options: argparse.Namespace, split: str) -> dict[str, Any]:
    """The result that the verifier, or the scorer, writes of one split. Raises Unmeasured."""
    step = options.verifier or options.score

    def function(path: Path, said: Said) -> Any:
        said(step)
        lab = Path.cwd()
        place = _place(lab.parent / f"work-{split}", lab, options)
        if options.apart:
            path.unlink()
            (place / "solution.py").unlink()
        if options.score and not options.unsealed:
            _take(place)
        if options.unsealed and (status := _start(_call(options.run, lab), place, split, lab)):
            raise RuntimeError(f"the program exited with status {status}")
        ending = ["--holdout"] if split == "holdout" else []
        result = place / "eval_result.json"
        result.unlink(missing_ok=True)
        if status := _start([*_call(step, lab), *ending], place, split, lab):
            raise RuntimeError(f"{step} exited with status {status}")
        return _read(result, step)

    return run(options.program, function, sealed=False, timeout=options.timeout)  # type: ignore[no-any-return]


def _solve(lab: Path, options: argparse.Namespace) -> int:
    """The candidate's step: run it, in a folder whose files the scorer is given."""
    return _start(_call(options.run, lab), _place(lab / LEFT, lab, options), "validation", lab)


def _place(place: Path, lab: Path, options: argparse.Namespace) -> Path:
    """The folder that a step is run in: the solution, and the problem and its data beside it."""
    place.mkdir()
    shutil.copyfile(lab / options.program, place / "solution.py")
    (place / "problem").symlink_to(lab)
    if (lab / options.data).exists():
        (place / "data").symlink_to(lab / options.data)
    return place


def _take(place: Path) -> None:
    """Copy what the candidate left, but neither the solution nor what a step is given."""
    left = Path(os.environ.get("NIGHTLAB_ARTEFACTS", ".")) / LEFT
    for path in left.rglob("*"):
        inner = path.relative_to(left)
        if path.is_file() and not path.is_symlink() and inner.parts[0] not in ("problem", "data", "solution.py"):
            (place / inner).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place / inner)


def _call(step: str, lab: Path) -> list[str]:
    """The words of a step: a Python file, another script, or a command whose first word is a program.

    A word that names a file of the problem's is that file, and none of that name that the candidate left; an absolute
    path is itself.
    """
    words = shlex.split(step) or ["solution.py"]
    own = {word for word in words if word != "solution.py" and not word.startswith("/") and (lab / word).is_file()}
    words = [f"problem/{word}" if word in own else word for word in words]
    if len(words) == 1:
        path = words[0]
        words = [*(["bash"] if path.endswith(".sh") else ["python"] if path.endswith(".py") else []), path]
    return [sys.executable if word in ("python", "{python}") else word for word in words]


def _start(call: list[str], place: Path, split: str, lab: Path) -> int:
    given = {
        "HILLCLIMB_PYTHON": sys.executable,
        "HILLCLIMB_SOLUTION": str(place / "solution.py"),
        "HILLCLIMB_RESULT": str(place / "eval_result.json"),
        "HILLCLIMB_SPLIT": split,
        "PYTHONPATH": os.pathsep.join([str(lab), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    if seed := os.environ.get("NIGHTLAB_SEED"):
        given |= {"HILLCLIMB_REPLICATE_SEED": seed, "HILLCLIMB_TRIAL_SEED": seed}
    return subprocess.run(call, cwd=place, env={**os.environ, **given}, check=False).returncode


def _read(path: Path, step: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RuntimeError(f"{step} wrote no score to $HILLCLIMB_RESULT") from None
    return found if isinstance(found, dict) else {"score": found}


if __name__ == "__main__":
    main()
