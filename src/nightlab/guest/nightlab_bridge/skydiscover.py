"""SkyDiscover's container form: ``evaluator/evaluate.sh PROGRAM train`` prints a JSON object with its score.

``python -P -m nightlab_bridge.skydiscover [--timeout SECONDS] PROGRAM``
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from nightlab_bridge.harbor import move
from nightlab_bridge.report import report, require_score, require_valid
from nightlab_bridge.runner import Said, Unmeasured, finish, run

FOLDER, SCRIPT, SCORE = "benchmark", "evaluate.sh", "combined_score"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--timeout", type=float, default=300)
    options = parser.parse_args()

    def function(path: Path, said: Said) -> Any:
        said(SCRIPT)
        return evaluate(path, Path.cwd(), Path.cwd().parent / "container")

    try:
        result = run(options.program, function, sealed=False, timeout=options.timeout)
        metrics = {**(result.get("metrics") or {}), SCORE: result.get(SCORE)}
        told = result.get("artifacts") or {}
        if result.get("status") != "success":
            why = told.get("error") or told.get("stderr") or "no reason given"
            raise Unmeasured(f"the evaluator reports {result.get('status', 'error')}: {str(why)[:400]}")
        require_valid(metrics)
        report(SCORE, require_score(metrics[SCORE], SCORE), metrics, told)
    except Unmeasured as error:
        finish(error)


def evaluate(program: Path, lab: Path, place: Path) -> dict[str, Any]:
    """Run the script in a folder like the container's; returns the object that it printed."""
    shutil.copytree(lab / "evaluator", place / FOLDER)
    move(place, FOLDER)
    call = ["bash", SCRIPT, str(program), "train"]
    done = subprocess.run(call, cwd=place / FOLDER, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{SCRIPT} exited with status {done.returncode}")
    try:
        found = json.loads(done.stdout)
    except ValueError:
        sys.stdout.write(done.stdout)
        found = None
    if not isinstance(found, dict):
        raise RuntimeError(f"{SCRIPT} has to print one JSON object, and nothing else")
    return found


if __name__ == "__main__":
    main()
