"""Harbor and AutoLab: ``tests/test.sh`` writes a reward, in folders that stand for the container's.

``python -P -m nightlab_bridge.harbor --metric NAME PROGRAM``
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from nightlab_bridge.report import report, require_score, require_valid
from nightlab_bridge.runner import Said, Unmeasured, finish, run

LOGS = "logs/verifier"
TEXT = 1 << 20  # bytes of the largest file in which paths are replaced


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--metric", default="reward")
    parser.add_argument("--timeout", type=float, default=600)
    options = parser.parse_args()

    def function(path: Path, said: Said) -> Any:
        said("tests/test.sh")
        return test(Path.cwd(), Path.cwd().parent / "container")

    try:
        result = run(options.program, function, sealed=False, timeout=options.timeout)
        require_valid(result)
        score = next(
            (result[name] for name in (options.metric, "metric", "reward") if result.get(name) is not None), None
        )
        others = {name: value for name, value in result.items() if name not in (options.metric, "metric")}
        report(options.metric, require_score(score, options.metric), others)
    except Unmeasured as error:
        finish(error)


def test(lab: Path, place: Path) -> dict[str, Any]:
    """Run the test in folders like the container's; returns what it wrote as its reward."""
    for name, source in (("app", "environment"), ("orig", "environment"), ("tests", "tests")):
        shutil.copytree(lab / source, place / name)
    (place / LOGS).mkdir(parents=True)
    move(place, "app|tests|logs|orig")
    if (place / "app/Makefile").exists():  # what the image builds, whatever is there
        subprocess.run(["make", "-B"], cwd=place / "app", check=False)
    env = {**os.environ, "LOG_DIR": str(place / LOGS), "APP_DIR": str(place / "app")}
    status = subprocess.run(["bash", str(place / "tests/test.sh")], cwd=place / "app", env=env, check=False).returncode
    found = _reward(place / LOGS)
    if found is None:
        raise RuntimeError(f"tests/test.sh wrote no reward, and exited with status {status}")
    return found


def move(place: Path, names: str) -> None:
    """Replace the paths of a container's folders (``names`` with bars between) in texts by those in ``place``."""
    folders = re.compile(rf"(?<![\w./}}])/({names})(?=[/\s\"'`);:}}]|$)")
    for path in (path for path in place.rglob("*") if path.is_file() and path.stat().st_size <= TEXT):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        moved = folders.sub(lambda found: f"{place}/{found[1]}", text)
        if moved != text:
            path.write_text(moved, encoding="utf-8")


def _reward(logs: Path) -> dict[str, Any] | None:
    for name in ("reward.json", "reward.txt"):
        if (logs / name).exists():
            found = json.loads((logs / name).read_text(encoding="utf-8").strip() or "null")
            return found if isinstance(found, dict) else {"reward": found}
    return None


if __name__ == "__main__":
    main()
