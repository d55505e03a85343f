"""OpenEvolve and SkyDiscover: ``initial_program.*``, ``evaluator.py``, ``config.yaml``."""

from __future__ import annotations

import ast
import re
from typing import Any

from nightlab.core.layouts import Problem, Reading, safe_name
from nightlab.core.regions import EVOLVE_BLOCK, regions
from nightlab.core.source import syntax_tree
from nightlab.core.types import NightlabError
from nightlab.integrations.layouts.bridged import bridged
from nightlab.integrations.layouts.yaml_text import number, part_of, table, unread

EVALUATOR, CONFIG = "evaluator.py", ("config.yaml", "config.yml")
TIMEOUT, CASCADE = 300.0, [0.5, 0.75, 0.9]  # its defaults
STAGES = 3
CONFIGURES, NO_PROGRAM = re.compile(r"\.(ya?ml|json|toml)$"), re.compile(r"^best_|\.(md|txt|ya?ml|json|toml)$")
# What the contract expresses of the configuration, and what only steers its search, which nightlab does its own way.
READ = {"evaluator.timeout", "evaluator.cascade_evaluation", "evaluator.cascade_thresholds", "max_iterations"}
READ |= {"database.feature_dimensions", "prompt.system_message"}
SEARCH: tuple[str, ...] = (
    "llm",
    "database",
    "prompt",
    "evaluator",
    "evolution_trace",
    "log_level",
    "checkpoint_interval",
    "language",
)
SEARCH += ("max_code_length", "diff_based_evolution", "allow_full_rewrites", "random_seed", "early_stopping_patience")
SEARCH += (
    "file_suffix",
    "log_dir",
    "convergence_threshold",
    "early_stopping_metric",
    "diff_pattern",
    "max_solution_length",
)
SEARCH += ("search", "agentic", "monitor")


def read(problem: Problem) -> Reading | None:
    """The contract of an example folder. Raises NightlabError for one that needs a container, or has two programs."""
    if problem.has("evaluator/evaluate.sh"):
        raise NightlabError(
            f"{problem.name} is a SkyDiscover problem with a container: evaluator/Dockerfile, evaluator/evaluate.sh",
            "nightlab runs no containers: install what the Dockerfile installs, and write an evaluator.py "
            "with evaluate(program_path) that does what evaluate.sh does",
        )
    if not problem.has(EVALUATOR) or not re.search(r"^(async )?def evaluate\w*\(", problem.text(EVALUATOR), re.M):
        return None
    initial = [f for f in problem.match("initial_*.*") if not CONFIGURES.search(f)]
    program = problem.only(problem.match("initial_program.*") or initial, "the initial program")
    if program is None:
        others = [
            f for f in problem.match("*.*") if f != EVALUATOR and not re.search(r"^best_|\.(md|txt|ya?ml|json)$", f)
        ]
        program = problem.only([f for f in others if regions(problem.text(f), EVOLVE_BLOCK)], "the initial program")
    if program is None:
        raise NightlabError(
            f"{problem.name} has an OpenEvolve evaluator, and no program: neither initial_*.* nor a source file with "
            f"a comment line {EVOLVE_BLOCK[0]}",
            "add the initial program, or write a lab.toml whose `genome` names it",
        )
    name = next((name for name in CONFIG if problem.has(name)), None)
    config, fault = table(problem.text(name)) if name else ({}, "")
    notes = [f"{name} is not read: {fault}"] if fault else []
    notes += _faults(problem, config, name or "")
    notes += unread(config, READ, SEARCH, name or "")
    options, seconds = _options(problem, config)
    contract, sealed = bridged(problem, "openevolve", options, EVALUATOR, program, seconds)
    contract |= {"name": safe_name(problem.name), "metric": {"name": "combined_score", "goal": "maximise"}}
    if rounds := _positive(config.get("max_iterations")):
        contract["stop"] = {"experiments": max(int(rounds), 1)}
    source = f"an OpenEvolve problem: {EVALUATOR} and {program}; {sealed}"
    return Reading(contract, source, tuple(notes), _strategy(problem, config))


def _positive(value: Any) -> float | None:
    found = number(value)
    return found if found is not None and found > 0 else None


def _faults(problem: Problem, config: dict[str, Any], name: str) -> list[str]:
    """A sentence for each value that can't be meant, and for an evaluator that is no Python."""
    notes = [
        f"{name}: {key} should be a table of keys, so it is not read"
        for key in ("evaluator", "database", "prompt")
        if config.get(key) is not None and not isinstance(config[key], dict)
    ]
    timeout = part_of(config, "evaluator").get("timeout")
    given = (("evaluator.timeout", timeout), ("max_iterations", config.get("max_iterations")))
    notes += [
        f"{name}: {key} is {value!r:.40}, no number above 0, so it is not read"
        for key, value in given
        if value is not None and _positive(value) is None
    ]
    try:
        ast.parse(problem.text(EVALUATOR))
    except SyntaxError as error:
        notes.append(f"{EVALUATOR}, line {error.lineno}, can't be parsed, so the baseline will fail: {error.msg}")
    except (ValueError, RecursionError, MemoryError):
        notes.append(f"{EVALUATOR} can't be parsed as Python")
    return notes


def _strategy(problem: Problem, config: dict[str, Any]) -> str:
    said = part_of(config, "prompt").get("system_message")
    return said if isinstance(said, str) and not problem.has("program.md") else ""


def _options(problem: Problem, config: dict[str, Any]) -> tuple[list[str], float]:
    """The options of the bridge, and the seconds that all stages may take."""
    part = part_of(config, "evaluator")
    timeout = _positive(part.get("timeout")) or TIMEOUT
    options = [f"--timeout={timeout:g}"]
    stages = 1
    if part.get("cascade_evaluation", True) and "evaluate_stage1" in _functions(problem.text(EVALUATOR)):
        given = part.get("cascade_thresholds")
        steps = [float(step) for step in given if number(step) is not None] if isinstance(given, list) else CASCADE
        options.append("--cascade=" + ",".join(f"{step:g}" for step in steps or CASCADE))
        stages = STAGES
    features = part_of(config, "database").get("feature_dimensions")
    if isinstance(features, list) and features:
        options.append("--features=" + ",".join(map(str, features)))
    return options, stages * timeout + 30


def _functions(text: str) -> set[str]:
    tree = syntax_tree(text)
    body = tree.body if tree else []
    return {node.name for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
