"""autoresearch-problems: ``spec.yaml`` names a function, whose answer ``evaluator.py`` scores."""

from __future__ import annotations

import json

from nightlab.core.layouts import Problem, Reading, safe_name
from nightlab.core.types import NightlabError
from nightlab.integrations.layouts.bridged import bridged
from nightlab.integrations.layouts.yaml_text import number, table, unread

SPEC, EVALUATOR, PROGRAM, SECONDS = "spec.yaml", "evaluator.py", "initial_program.py", 60.0
READ = {"name", "description", "function_name", "output_type", "evaluator_entrypoint", "timeout_seconds", "maximize"}
TOLD = {"category", "source", "tags", "known_best_score", "evaluator_dependencies"}  # words for readers


def read(problem: Problem) -> Reading | None:
    """The contract of a problem's folder. Raises NightlabError for one without a program, or whose answer is code."""
    if not problem.has(SPEC):
        return None
    spec, fault = table(problem.text(SPEC))
    if not fault and not {"function_name", "evaluator_entrypoint"} & spec.keys():
        return None
    if fault:
        if "evaluator_entrypoint" not in problem.text(SPEC):
            return None
        raise NightlabError(f"{problem.name}: {SPEC} can't be read: {fault}", "correct that line")
    for path in (EVALUATOR, PROGRAM):
        if not problem.has(path):
            raise NightlabError(
                f"{problem.name} is a problem of autoresearch-problems ({SPEC}), and has no {path}",
                f"add {path}, or write a lab.toml whose `genome` names the program",
            )
    seconds = number(spec.get("timeout_seconds")) or SECONDS
    function = str(spec.get("function_name") or "solve")
    entry = str(spec.get("evaluator_entrypoint") or "evaluate").replace(":", ".").rpartition(".")[2]
    parameters = spec.get("parameters") if isinstance(spec.get("parameters"), dict) else {}
    options = [f"--timeout={seconds:g}", f"--function={function}", f"--entry={entry}"]
    if spec.get("output_type") == "callable":
        options.append("--callable")
    if parameters:
        options.append(f"--parameters={json.dumps(parameters, default=str)}")
    contract, sealed = bridged(problem, "problems", options, EVALUATOR, PROGRAM, seconds + 30)
    goal = "minimise" if spec.get("maximize") is False else "maximise"
    contract |= {"name": safe_name(str(spec.get("name") or problem.name)), "metric": {"name": "score", "goal": goal}}
    rest = {key: value for key, value in spec.items() if key != "parameters" and key not in TOLD}
    notes = list(unread(rest, READ, (), SPEC))
    if needed := spec.get("evaluator_dependencies"):
        notes.append(f"the evaluator needs {', '.join(map(str, needed))}: install what is missing beside nightlab")
    told = str(spec.get("description") or "") if not problem.has("program.md") else ""
    source = f"a problem of autoresearch-problems: {SPEC}, {EVALUATOR}, {PROGRAM}; {sealed}"
    return Reading(contract, source, tuple(notes), told)
