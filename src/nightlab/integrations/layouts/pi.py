"""pi-autoresearch: ``.auto/`` with a measure script, checks, hooks, configuration, prompt and log; or its old files."""

from __future__ import annotations

import json
import re
from typing import Any

from nightlab.core.layouts import Problem, Reading, safe_name
from nightlab.core.text import METRIC_NAME, one_line

MEASURE_SECONDS, CHECK_SECONDS = 600, 300  # its own limits of a run, and of the checks
# What a project has besides source: not the genome where the prompt names no files.
NO_SOURCE = re.compile(
    r"(^|/)(\.|tests?[/_.]|node_modules/|dist/|build/|LICENSE|README|CHANGELOG|Makefile$|Dockerfile)|"
    r"\.(toml|json|jsonl|lock|ya?ml|md|txt|cfg|ini|csv|tsv|png|jpg|svg|pdf|sh)$|([._]test\.|test_[^/]*$|_test\.)"
)
MOST = 400  # files of a genome that are listed by name


def read(problem: Problem) -> Reading | None:
    """The contract of a session's folder."""
    script = next((name for name in (".auto/measure.sh", "autoresearch.sh") if problem.has(name)), None)
    if script is None:
        return None
    where = ".auto/" if script.startswith(".auto/") else "autoresearch."
    said, notes = _said(problem, where)
    prompt = next((name for name in (f"{where}prompt.md", "autoresearch.md") if problem.has(name)), "")
    metric = _metric(problem, script, prompt, said)
    genome, how = _genome(problem, script, prompt)
    contract: dict[str, Any] = {
        "name": safe_name(said.get("name") or problem.name or "measured"),
        "genome": genome,
        "command": f"bash {script}",
        "metric": metric,
        "budget": {"amount": MEASURE_SECONDS, "evaluation": CHECK_SECONDS},
    }
    checks = f"{where}checks.sh"
    if problem.has(checks):
        contract["checks"] = [{"command": f"bash {checks}"}]
    hooks = {
        name: f"bash {where}hooks/{name}.sh" for name in ("before", "after") if problem.has(f"{where}hooks/{name}.sh")
    }
    if hooks:
        contract["hooks"] = hooks
        notes.append("the hooks get nightlab's JSON, whose fields have other names than pi's (docs/steering.md)")
    if said.get("maxIterations"):
        contract["stop"] = {"experiments": int(said["maxIterations"])}
    if problem.has(f"{where}ideas.md"):
        notes.append(f"{where}ideas.md is prose; nightlab tries patches: a *.patch file for each idea, in ideas/")
    source = f"a pi-autoresearch session: {script}, {how}, {metric.get('goal', 'minimise')} {metric['name']}"
    strategy = problem.text(prompt) if prompt and not problem.has("program.md") else ""
    return Reading(contract, source, tuple(notes), strategy)


def _said(problem: Problem, where: str) -> tuple[dict[str, Any], list[str]]:
    """What config.json and the last configuration in the log say, by key, and notes on what is not understood."""
    notes, said = [], {}
    name = f"{where}config.json"
    for line in problem.text(f"{where}log.jsonl" if where == ".auto/" else "autoresearch.jsonl").splitlines():
        entry = _object(line) if '"config"' in line else None
        if entry and entry.get("type") == "config":
            said = entry
    if problem.has(name):
        config = _object(problem.text(name))
        if config is None:
            notes.append(f"{name} is no JSON object, so it is not read")
        known = {
            "maxIterations",
            "workingDir",
            "maxAutoResumeTurns",
            "name",
            "metricName",
            "metricUnit",
            "bestDirection",
        }
        if unknown := sorted((config or {}).keys() - known):
            notes.append(f"{name}: {', '.join(unknown)} is not understood, so it is not read")
        if (config or {}).get("workingDir") not in (None, ".", "./"):
            notes.append(f"{name}: workingDir is another folder; run nightlab in that folder instead")
        said = {**said, **(config or {})}
    if not isinstance(said.get("maxIterations"), int | None) or (said.get("maxIterations") or 0) < 0:
        notes.append(f"{name}: maxIterations {said.pop('maxIterations')!r} is no number of experiments")
    return said, notes


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _metric(problem: Problem, script: str, prompt: str, said: dict[str, Any]) -> dict[str, Any]:
    """The metric: as the log or configuration says, else the prompt's primary one, else the script's first."""
    printed = re.findall(rf"METRIC\s+({METRIC_NAME})\s*=", problem.text(script))
    primary = (
        re.search(r"\*\*Primary\*\*:?\s*`?([\w.µ/-]+)`?\s*(?:\(([^)]*)\))?", problem.text(prompt)) if prompt else None
    )
    about = (primary[2] or "") if primary else ""
    name = said.get("metricName") or (primary[1] if primary else "") or (printed[0] if printed else "metric")
    direction = said.get("bestDirection") or ("higher" if re.search(r"higher is better", about) else "")
    metric = {"name": re.sub(r"[^\w.µ/-]+", "_", one_line(str(name), 60)) or "metric"}
    metric["goal"] = "maximise" if direction == "higher" else "minimise"
    unit = said.get("metricUnit") or about.split(",")[0].strip()
    if unit and "better" not in str(unit):
        metric["unit"] = one_line(str(unit), 20)
    return metric


def _genome(problem: Problem, script: str, prompt: str) -> tuple[list[str], str]:
    """The genome's globs, and where they come from: the prompt's files in scope, else the project's source files."""
    section = (
        re.search(r"^#+\s*Files in Scope\s*$(.*?)(?=^#|\Z)", problem.text(prompt), re.M | re.S | re.I)
        if prompt
        else None
    )
    scope = []
    for word in re.findall(r"`([^`\s]+)`|^\s*[-*]\s+([\w./*-]+)", section[1] if section else "", re.M):
        path = (word[0] or word[1]).removeprefix("./").rstrip(":,")
        if path.endswith("/") or any(name.startswith(f"{path}/") for name in problem.files):
            scope.append(f"{path.rstrip('/')}/**")
        elif problem.has(path) or "*" in path:
            scope.append(path)
    if scope:
        return list(dict.fromkeys(scope)), "the prompt's files in scope as genome"
    named = set(re.findall(r"[\w./-]+", problem.text(script)))
    source = [name for name in problem.files if not NO_SOURCE.search(name)]
    free = [name for name in source if name not in named] or source
    return (free[:MOST] or ["**"]), "the source files that the script does not name as genome"
