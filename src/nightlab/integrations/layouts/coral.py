"""CORAL: ``task.yaml``, a grader in ``eval/grader.py`` or a package, and the first program in ``seed/``."""

from __future__ import annotations

import json
import re
from typing import Any

from nightlab.core.layouts import Problem, Reading, safe_name
from nightlab.core.types import NightlabError
from nightlab.integrations.layouts.bridged import bridged
from nightlab.integrations.layouts.yaml_text import number, part_of, table, unread

TASK, GRADER, SECONDS = "task.yaml", "eval/grader.py", 300.0  # its default of a time-out
READ = {"task.name", "task.description", "task.tips", "grader.entrypoint", "grader.timeout", "grader.args"}
READ |= {"grader.direction", "grader.private"}
SEARCH = ("agents", "run", "sharing", "islands", "warmstart", "gateway", "heartbeat", "grader", "workspace")
NO_PROGRAM = re.compile(
    r"(^|/)(pyproject\.toml|requirements.*|README.*|[^/]*\.txt|\..*)$|\.(json|ya?ml|csv|md|lock|parquet|npy)$"
)
STARTS = re.compile(r"\.run_program\(|\bsubprocess\b.*\b(g\+\+|gcc|nvcc)\b")


def read(problem: Problem) -> Reading | None:
    """The contract of a task's folder. Raises NightlabError for one without a program, or with several."""
    config, fault = table(problem.text(TASK)) if problem.has(TASK) else ({}, "")
    if fault and (problem.has(GRADER) or re.search(r"^grader:", problem.text(TASK), re.M)):
        raise NightlabError(f"{problem.name}: {TASK} can't be read: {fault}", "correct that line")
    part = part_of(config, "grader")
    entry = str(part.get("entrypoint") or "")
    if fault or "task" not in config or not (problem.has(GRADER) or entry):
        return None
    grader = _grader(problem, entry)
    program = _program(problem, part)
    seconds = number(part.get("timeout")) or SECONDS
    options = [f"--timeout={seconds:g}"]
    if entry:
        options.append(f"--entry={entry}")
    if args := part.get("args"):
        options.append(f"--args={json.dumps(args, default=str)}")
    helpers = [path for path in problem.files if path.startswith("eval/") and path.endswith(".py") and path != grader]
    starts = next((path for path in (grader, *helpers) if STARTS.search(problem.text(path))), "")
    why = f"{starts} starts the program as a script" if starts and problem.sealed else ""
    contract, sealed = bridged(problem, "coral", options, grader, program, seconds + 30, why=why, also=helpers)
    task = part_of(config, "task")
    goal = "minimise" if str(part.get("direction", "maximize")).startswith("min") else "maximise"
    contract |= {"name": safe_name(str(task.get("name") or problem.name)), "metric": {"name": "score", "goal": goal}}
    notes = list(unread(config, READ, SEARCH, TASK))
    if setup := [*_list(part_of(config, "workspace").get("setup")), *_list(part.get("setup"))]:
        notes.append(f"it is set up with {'; '.join(map(str, setup))}: run that where nightlab is installed")
    told = "\n\n".join(str(task[key]).strip() for key in ("description", "tips") if task.get(key))
    source = f"a CORAL task: {TASK}, {grader} and {program}; {sealed}"
    return Reading(contract, source, tuple(notes), told if not problem.has("program.md") else "")


def _grader(problem: Problem, entry: str) -> str:
    """The grader's file: of an entry point ``module:Class`` the module, wherever in the folder it is."""
    if not entry:
        return GRADER
    wanted = entry.partition(":")[0].replace(".", "/")
    ends = (f"{wanted}.py", f"{wanted}/__init__.py")
    found = [path for path in problem.files if any(path == end or path.endswith("/" + end) for end in ends)]
    if not found:
        raise NightlabError(
            f"{problem.name} is a CORAL task whose grader {entry} is in no file of the folder",
            "add the grader's package to the folder, or write a lab.toml whose `command` runs it",
        )
    return min(found, key=len)


def _program(problem: Problem, grader: dict[str, Any]) -> str:
    args = part_of(grader, "args")
    named = (value for key, value in args.items() if "program" in str(key) or str(key).endswith("_file"))
    for value in named:
        for path in (f"seed/{value}", str(value)):
            if problem.has(path):
                return path
    pointers = [path for path in problem.files if re.match(r"seed/(.*/)?initial_program\.txt$", path)]
    if len(pointers) == 1 and problem.has(path := f"seed/{problem.text(pointers[0]).strip()}"):
        return path
    seeds = [path for path in problem.files if path.startswith("seed/") and not NO_PROGRAM.search(path)]
    usual = [path for path in seeds if re.search(r"/(initial_program|solution|program|main|kernel\w*)\.\w+$", path)]
    found = problem.only(usual or seeds, "the first program")
    if found is None:
        raise NightlabError(
            f"{problem.name} is a CORAL task ({TASK}) without a first program in seed/",
            "add one, or write a lab.toml whose `genome` names the file that may change",
        )
    return found


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
