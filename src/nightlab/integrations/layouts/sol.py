"""SOL-ExecBench: a definition with its reference, the workloads, and a solution that computes the same faster."""

from __future__ import annotations

import json
from typing import Any

from nightlab.core.layouts import Problem, Reading, safe_name
from nightlab.core.types import NightlabError
from nightlab.integrations.layouts.bridged import bridged
from nightlab.integrations.layouts.kernelbench import WHY

SECONDS, DEFINITION, WORKLOADS, PROGRAM = 600.0, "definition.json", "workload.jsonl", "solution.py"


def read(problem: Problem) -> Reading | None:
    """The contract of a problem's folder. Raises NightlabError for one that is no JSON, or can't be measured here."""
    if not (problem.has(DEFINITION) and problem.has(WORKLOADS)):
        return None
    definition = _parsed(problem, DEFINITION, problem.text(DEFINITION))
    if not isinstance(definition.get("reference"), str) or "def run(" not in definition["reference"]:
        raise NightlabError(f"{problem.name}/{DEFINITION} has no reference with a function run", "see SOL-ExecBench")
    lines = enumerate(problem.text(WORKLOADS).splitlines(), 1)
    workloads = [_parsed(problem, f"{WORKLOADS}:{number}", line) for number, line in lines if line.strip()]
    stored = [w for w in workloads if any(i.get("type") == "safetensors" for i in w.get("inputs", {}).values())]
    if len(stored) == len(workloads):
        raise NightlabError(
            f"{problem.name} has no workload whose inputs can be made: {len(stored)} of {len(workloads)} name files",
            "add one with random, scalar or custom inputs",
        )
    notes = ["the score is the speed beside the reference on this machine; SOL-Score, beside a B200's roofline, is not"]
    notes += [f"{len(stored)} workloads with inputs in safetensors files are left out"] if stored else []
    options, extra = [f"--timeout={SECONDS:g}"], {}
    if not problem.has(PROGRAM):
        text, more, left_out = _first(problem, definition)
        extra, options, notes = {PROGRAM: text}, [*options, *more], [*notes, *left_out]
    why = WHY if problem.sealed else "as you asked"
    contract, sealed = bridged(problem, "sol", options, DEFINITION, PROGRAM, SECONDS + 30, why=why)
    contract |= {"name": safe_name(problem.name), "metric": {"name": "speedup", "goal": "maximise", "unit": "x"}}
    strategy = f"# {definition.get('name') or problem.name}\n\n{definition.get('description') or ''}\n"
    source = f"a SOL-ExecBench problem: {DEFINITION}, {WORKLOADS} and {PROGRAM}; {sealed}"
    return Reading(contract, source, tuple(notes), strategy, extra)


def _parsed(problem: Problem, name: str, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise NightlabError(f"{problem.name}/{name} is no JSON: {error}", "correct it") from None
    if not isinstance(found, dict):
        raise NightlabError(f"{problem.name}/{name} is no JSON object", "correct it")
    return found


def _first(problem: Problem, definition: dict[str, Any]) -> tuple[str, list[str], list[str]]:
    """The first program, the options that say how it is called, and notes.

    It is the one Python source of a solution, or else the reference.
    """
    notes: list[str] = []
    for path in problem.match("solution*.json"):
        solution = _parsed(problem, path, problem.text(path))
        spec, sources = solution.get("spec") or {}, solution.get("sources") or []
        file, _, entry = str(spec.get("entry_point", "")).partition("::")
        if len(sources) == 1 and file.endswith(".py") and sources[0].get("path") == file:
            into = ["--destination"] if spec.get("destination_passing_style", True) else []
            return sources[0]["content"], [f"--entry={entry or 'run'}", *into], notes
        notes.append(f"{path} is not read: only a solution of one Python file is")
    return f'"""The genome: at first the reference of {DEFINITION}."""\n\n{definition["reference"]}\n', [], notes
