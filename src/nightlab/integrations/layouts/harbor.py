"""Harbor and AutoLab: ``task.toml`` with ``[optimization]``, ``environment/`` and ``tests/test.sh``."""

from __future__ import annotations

import re
import shlex
import tomllib
from typing import Any

from nightlab.core.layouts import Problem, Reading, safe_name
from nightlab.core.types import NightlabError
from nightlab.integrations.layouts.yaml_text import number, unread

SPEC, TEST, SECONDS = "task.toml", "tests/test.sh", 600.0
EDITED = re.compile(
    r"\bedit\w*\b[^`\n]{0,40}`(?:/app/)?([\w./-]+\.\w+)`|`(?:/app/)?([\w./-]+\.\w+)`[^`\n]{0,40}\bedit\b", re.I
)
# The keys that are read, or that describe the task only.
READ = {"version", "schema_version", "source", "verifier.timeout_sec", "environment.gpus", "environment.allow_internet"}
READ |= {f"optimization.{key}" for key in ("metric", "direction", "tier", "baseline", "reference")}
DESCRIBE = ("metadata", "agent", "solution")
LIMITS = ("cpus", "memory_mb", "storage_mb", "gpu_types", "gpu_type", "build_timeout_sec")
INSTALLED = re.compile(r"\b(?:apt-get install|pip3? install|conda install)\s+([^&|;\n]+)")


def read(problem: Problem) -> Reading | None:
    """The contract of a task's folder. Raises NightlabError for one that names no file to edit, or has no number."""
    if not (problem.has(SPEC) and problem.has(TEST)):
        return None
    try:
        spec = tomllib.loads(problem.text(SPEC))
    except tomllib.TOMLDecodeError as error:
        raise NightlabError(f"{problem.name}: {SPEC} can't be read: {error}", "correct that line") from None
    goal = spec.get("optimization")
    if not isinstance(goal, dict):
        raise NightlabError(
            f"{problem.name} is a Harbor task without [optimization] in {SPEC}: its reward says whether an agent did a "
            "task, not how good a program is",
            "if its reward grows with the program, write a lab.toml whose `command` runs tests/test.sh and prints it",
        )
    program = _program(problem)
    part = spec.get("verifier")
    seconds = number(part.get("timeout_sec") if isinstance(part, dict) else None) or SECONDS
    name = safe_name(str(goal.get("metric") or "reward"))
    call = ["python", "-P", "-m", "nightlab_bridge.harbor", f"--metric={name}", f"--timeout={seconds:g}", program]
    contract: dict[str, Any] = {
        "name": safe_name(problem.name),
        "genome": [program],
        "command": shlex.join(call),
        "metric": {"name": name, "goal": "minimise" if goal.get("direction") == "lower" else "maximise"},
        "budget": {"amount": seconds + 30},
    }
    sealed = f"the number is a claim: {TEST} runs the program in its own sandbox"
    told = problem.text("instruction.md") if not problem.has("program.md") else ""
    source = f"an AutoLab task: {SPEC}, {TEST} and {program}; {sealed}"
    return Reading(contract, source, tuple(_notes(problem, spec)), told)


def _program(problem: Problem) -> str:
    """The file of the environment that the instructions say to edit."""
    words = [next(filter(None, found)) for found in EDITED.findall(problem.text("instruction.md"))]
    there = [path for path in problem.files if path.startswith("environment/")]
    for word in words:
        if found := [path for path in there if path == f"environment/{word}" or path.endswith(f"/{word}")]:
            return min(found, key=len)
    usual = [path for path in there if re.search(r"/solve\.\w+$", path)]
    found_one = problem.only([path for path in usual if not path.endswith(".h")], "the program")
    if found_one is None:
        raise NightlabError(
            f"{problem.name} is an AutoLab task, and its instruction.md names no file of environment/ to edit",
            "write a lab.toml whose `genome` names it, with the `command` that nightlab open --show prints for others",
        )
    return found_one


def installs(problem: Problem, path: str) -> list[str]:
    """A note on what a container's image installs by name, which has to be here instead."""
    image = problem.text(path).replace("\\\n", " ")
    words = (word for line in INSTALLED.findall(image) for word in line.split() if re.match(r"[a-z]", word))
    wanted = sorted({word for word in words if not word.endswith(".txt")})
    return [f"{path} installs {', '.join(wanted[:12])}: install what is missing here"] if wanted else []


def _notes(problem: Problem, spec: dict[str, Any]) -> list[str]:
    notes = [
        "no container is made: /app, /tests and /logs are folders of the trial, whose paths replace these in texts",
        *installs(problem, "environment/Dockerfile"),
    ]
    if any(path.startswith("solution/") for path in problem.files):
        notes.append("solution/ is the reference's: remove it from the lab, or agents may read it")
    part = spec.get("environment")
    if isinstance(part, dict) and part.get("gpus"):
        notes.append("it asks for a GPU: without one, the baseline says what is missing")
    if isinstance(part, dict) and (limits := [key for key in LIMITS if key in part]):
        notes.append(f"{SPEC}: {', '.join(limits)} are the container's: [resources] in lab.toml limits a trial")
    rest = {key: value for key, value in spec.items() if key not in DESCRIBE}
    notes += unread(rest, READ | {f"environment.{key}" for key in LIMITS}, (), SPEC)
    return notes
