"""OpenEvolve and SkyDiscover: ``initial_program.*``, ``evaluator.py``, ``config.yaml``.

SkyDiscover's container form, with ``evaluator/evaluate.sh``, is read in ``skydiscover.py``.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from nightlab.core.layouts import Problem, Reading, safe_name
from nightlab.core.regions import EVOLVE_BLOCK, regions
from nightlab.core.source import syntax_tree
from nightlab.core.source_bytes import parse_python
from nightlab.core.types import NightlabError
from nightlab.integrations.layouts.bridged import bridged, requirements
from nightlab.integrations.layouts.yaml_text import number, part_of, table, unread

EVALUATOR, CONFIG = "evaluator.py", ("config.yaml", "config.yml")
TIMEOUT, CASCADE = 300.0, [0.5, 0.75, 0.9]  # its defaults
STAGES = 3
CONFIGURES, NO_PROGRAM = re.compile(r"\.(ya?ml|json|toml)$"), re.compile(r"^best_|\.(md|txt|ya?ml|json|toml)$")
# What the contract expresses of the configuration, and what only steers its search, which nightlab does its own way.
READ = {"evaluator.timeout", "evaluator.cascade_evaluation", "evaluator.cascade_thresholds", "max_iterations"}
READ |= {"database.feature_dimensions", "prompt.system_message", "random_seed"}
READ |= {f"llm.{key}" for key in ("primary_model", "models", "api_base", "api_key")}
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
SEARCH += ("max_code_length", "diff_based_evolution", "allow_full_rewrites", "early_stopping_patience")
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
    """The contract of an example folder. Raises NightlabError for one without a program, or with two."""
    if not evaluates(problem, EVALUATOR):
        return None
    return reading(problem, EVALUATOR, "an OpenEvolve problem")


def evaluates(problem: Problem, evaluator: str) -> bool:
    """Whether a file has ``evaluate``, or a stage of it."""
    return re.search(r"^(async )?def evaluate\w*\(", problem.text(evaluator), re.M) is not None


def reading(problem: Problem, evaluator: str, system: str) -> Reading:
    """The contract of a folder with ``evaluator``, and the configuration's part in it. Raises NightlabError."""
    program = program_of(problem)
    config, notes = configuration(problem)
    notes += [*_unparsed(problem, evaluator), *requirements(problem, "requirements.txt")]
    options, seconds = _options(problem, config, evaluator)
    contract, sealed = bridged(problem, "openevolve", options, evaluator, program, seconds)
    contract |= rest(problem, config)
    source = f"{system}: {evaluator} and {program}; {sealed}"
    return Reading(contract, source, tuple(notes), strategy(problem, config))


def program_of(problem: Problem) -> str:
    """The initial program. Raises NightlabError without one, or with two."""
    initial = [f for f in problem.match("initial_*.*") if not CONFIGURES.search(f)]
    program = problem.only(problem.match("initial_program.*") or initial, "the initial program")
    if program is None:
        others = [f for f in problem.match("*.*") if f != EVALUATOR and not NO_PROGRAM.search(f)]
        program = problem.only([f for f in others if regions(problem.text(f), EVOLVE_BLOCK)], "the initial program")
    if program is None:
        raise NightlabError(
            f"{problem.name} has an OpenEvolve evaluator, and no program: neither initial_*.* nor a source file with "
            f"a comment line {EVOLVE_BLOCK[0]}",
            "add the initial program, or write a lab.toml whose `genome` names it",
        )
    return program


def configuration(problem: Problem) -> tuple[dict[str, Any], list[str]]:
    """The configuration, and notes on what of it is not read."""
    name = next((name for name in CONFIG if problem.has(name)), "")
    config, fault = table(problem.text(name)) if name else ({}, "")
    notes = [f"{name} is not read: {fault}"] if fault else []
    notes += [*_faults(config, name), *_elsewhere(config, name), *unread(config, READ, SEARCH, name)]
    return config, notes


def rest(problem: Problem, config: dict[str, Any]) -> dict[str, Any]:
    """The keys of a contract that do not depend on how its evaluator runs."""
    keys: dict[str, Any] = {"name": safe_name(problem.name), "metric": {"name": "combined_score", "goal": "maximise"}}
    if rounds := _positive(config.get("max_iterations")):
        keys["stop"] = {"experiments": max(int(rounds), 1)}
    return keys


def _positive(value: Any) -> float | None:
    found = number(value)
    return found if found is not None and found > 0 else None


def _faults(config: dict[str, Any], name: str) -> list[str]:
    """A sentence for each value that can't be meant."""
    notes = [
        f"{name}: {key} should be a table of keys, so it is not read"
        for key in ("evaluator", "database", "prompt")
        if config.get(key) is not None and not isinstance(config[key], dict)
    ]
    timeout = part_of(config, "evaluator").get("timeout")
    given = (("evaluator.timeout", timeout), ("max_iterations", config.get("max_iterations")))
    return notes + [
        f"{name}: {key} is {value!r:.40}, no number above 0, so it is not read"
        for key, value in given
        if value is not None and _positive(value) is None
    ]


def _elsewhere(config: dict[str, Any], name: str) -> list[str]:
    """Where the contract has what ``llm`` and ``random_seed`` say. It is not taken over: a model costs money."""
    notes = []
    part = part_of(config, "llm")
    listed = part.get("models") if isinstance(part.get("models"), list) else []
    models = [part.get("primary_model"), *(one.get("name") for one in listed or () if isinstance(one, dict))]
    if model := next((one for one in models if isinstance(one, str) and one), None):
        base = part.get("api_base")
        url = f", base_url = {json.dumps(base)}" if isinstance(base, str) else ""
        notes.append(
            f"{name}: no model is asked until lab.toml says so, as it may cost money; for the one of llm: "
            f'[[proposers]] with kind = "model", model = {json.dumps(model)}{url}, and key, the variable of its key'
        )
    if config.get("random_seed") is not None:
        notes.append(
            f"{name}: random_seed seeds the other system's search; here each trial has its own seed, "
            'which seed = "python" in lab.toml gives to a program'
        )
    return notes


def _unparsed(problem: Problem, evaluator: str) -> list[str]:
    """A sentence for an evaluator that is no Python."""
    try:
        parse_python(problem.text(evaluator))
    except SyntaxError as error:
        return [f"{evaluator}, line {error.lineno}, can't be parsed, so the baseline will fail: {error.msg}"]
    except (ValueError, RecursionError, MemoryError):
        return [f"{evaluator} can't be parsed as Python"]
    return []


def strategy(problem: Problem, config: dict[str, Any]) -> str:
    said = part_of(config, "prompt").get("system_message")
    return said if isinstance(said, str) and not problem.has("program.md") else ""


def timeout_of(config: dict[str, Any]) -> float:
    """The seconds of a stage."""
    return _positive(part_of(config, "evaluator").get("timeout")) or TIMEOUT


def _options(problem: Problem, config: dict[str, Any], evaluator: str) -> tuple[list[str], float]:
    """The options of the bridge, and the seconds that all stages may take."""
    part, timeout = part_of(config, "evaluator"), timeout_of(config)
    options = [f"--timeout={timeout:g}"]
    stages = 1
    if part.get("cascade_evaluation", True) and "evaluate_stage1" in _functions(problem.text(evaluator)):
        given = part.get("cascade_thresholds")
        steps = [float(step) for step in given if number(step) is not None] if isinstance(given, list) else CASCADE
        options.append("--cascade=" + ",".join(f"{step:g}" for step in steps or CASCADE))
        stages = STAGES
    features = part_of(config, "database").get("feature_dimensions")
    if isinstance(features, list):
        options.append("--features=" + ",".join(map(str, features)))
    return options, stages * timeout + 30


def _functions(text: str) -> set[str]:
    tree = syntax_tree(text)
    body = tree.body if tree else []
    return {node.name for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
