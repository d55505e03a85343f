"""GEPA: a module that calls ``optimize_anything(seed_candidate, evaluator=…, dataset=…, valset=…, test_set=…)``."""

from __future__ import annotations

import ast
import re
import shlex
from typing import Any

from nightlab.core.layouts import Problem, Reading, safe_name
from nightlab.core.source import syntax_tree
from nightlab.core.types import NightlabError
from nightlab.session.metric_claim import executes, imported_names

CALL, SECONDS, FOLDER = "optimize_anything", 600.0, "candidate"
MODEL = re.compile(r"^\s*(?:import|from)\s+(litellm|openai|anthropic|dspy|google\.generativeai|ollama)\b", re.M)


def read(problem: Problem) -> Reading | None:
    """The contract of a folder. Raises NightlabError where the first candidate can't be read from the text."""
    mains = [path for path in problem.match("*.py") if re.search(rf"^[^#\n]*\b{CALL}\(", problem.text(path), re.M)]
    main = problem.only(mains, f"the module that calls {CALL}")
    tree = syntax_tree(problem.text(main)) if main else None
    call = _call(tree) if tree else None
    if main is None or tree is None or call is None or not ({"evaluator", "batch_evaluator"} & call.keys()):
        return None
    parts = _candidate(problem, tree, call.get("seed_candidate"))
    if parts is None:
        raise NightlabError(
            f"{problem.name} is a GEPA problem ({main}) whose seed_candidate can't be read without running it",
            f"write it into {FOLDER}.txt, or a folder {FOLDER} with a file for each component",
        )
    files, extra = parts
    evaluating = [path for path in problem.files if path.endswith(".py") and path not in files]
    runs = next((path for path in evaluating if _executes(problem.text(path))), "")
    why = "as you asked" if not problem.sealed else f"{runs} may run the candidate's text" if runs else ""
    named = files if why else [f"--apart={file}" for file in files]
    command = shlex.join(["python", "-P", "-m", "nightlab_bridge.gepa", f"--timeout={SECONDS:g}", main, *named])
    contract: dict[str, Any] = {
        "name": safe_name(problem.name),
        "genome": list(files),
        "metric": {"name": "score", "goal": "maximise"},
    }
    if why:
        contract |= {"command": command, "budget": {"amount": SECONDS + 30}}
        sealed = f"the number is a claim: {why}"
    else:
        contract["evaluator"] = {"command": command, "held_out": "test_set" in call}
        contract["budget"] = {"amount": 10, "evaluation": SECONDS + 30}
        sealed = "sealed: the candidate is text, which the evaluator only reads"
    notes = ["config is not read: it configures the other system's search"] if "config" in call else []
    if why and "test_set" in call:
        notes.append("test_set is not read: a held-out number needs an evaluator that is apart from the candidate")
    if found := next(filter(None, (MODEL.search(problem.text(path)) for path in evaluating)), None):
        notes.append(f"{found[1]} is imported: a trial has no network, so an evaluator that asks a model there fails")
    told = (_text(problem, tree, call.get(key)) for key in ("objective", "background"))
    source = f"a GEPA problem: {main}, whose candidate is {', '.join(files)}; {sealed}"
    strategy = "" if problem.has("program.md") else "\n\n".join(filter(None, told))
    return Reading(contract, source, tuple(notes), strategy, extra)


def _executes(text: str) -> bool:
    """Whether a module may run the candidate's text in its own process, where that can change what is measured."""
    tree = syntax_tree(text)
    nodes = list(ast.walk(tree)) if tree else []
    bound = imported_names(nodes)
    return tree is None or any(executes(node, bound) for node in nodes)


def _call(tree: ast.Module) -> dict[str, ast.expr] | None:
    """The arguments of the call, by name; None without one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == CALL:
            named = {each.arg: each.value for each in node.keywords if each.arg}
            return {**({"seed_candidate": node.args[0]} if node.args else {}), **named}
    return None


def _candidate(
    problem: Problem, tree: ast.Module, node: ast.expr | None
) -> tuple[tuple[str, ...], dict[str, str]] | None:
    """The files that hold the candidate, and the text of those that have to be written; None if there is no text."""
    there = [path for path in problem.files if re.fullmatch(rf"{FOLDER}\.\w+|{FOLDER}/[\w.-]+", path)]
    if there:
        return tuple(sorted(there)), {}
    value = _value(tree, node)
    if isinstance(value, ast.Dict):
        found = {
            _text(problem, tree, key): _text(problem, tree, item)
            for key, item in zip(value.keys, value.values, strict=True)
        }
        if not found or not all(found.keys()) or not all(found.values()):
            return None
        extra = {f"{FOLDER}/{safe_name(name)}{_ending(text)}": text for name, text in found.items()}
        return tuple(sorted(extra)), extra
    text = _text(problem, tree, value)
    return ((f"{FOLDER}{_ending(text)}",), {f"{FOLDER}{_ending(text)}": text}) if text else None


def _ending(text: str) -> str:
    """Whether a text is a program: one that defines something."""
    tree = syntax_tree(text)
    body = tree.body if tree else []
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom | ast.Assign
    return ".py" if any(isinstance(node, kinds) for node in body) else ".txt"


def _value(tree: ast.Module, node: ast.expr | None) -> ast.expr | None:
    """What a name is assigned, anywhere in the module, if it is assigned once."""
    if not isinstance(node, ast.Name):
        return node
    found = [
        each.value
        for each in ast.walk(tree)
        if isinstance(each, ast.Assign | ast.AnnAssign)
        for target in (each.targets if isinstance(each, ast.Assign) else [each.target])
        if isinstance(target, ast.Name) and target.id == node.id and each.value is not None
    ]
    return found[0] if len(found) == 1 else None


def _text(problem: Problem, tree: ast.Module, node: ast.expr | None) -> str:
    """A text that the module has: a constant, or what ``Path(…).read_text()`` or ``open(…).read()`` finds."""
    value = _value(tree, node)
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
        if value.func.attr in ("strip", "lstrip", "rstrip") and not value.args:
            return _text(problem, tree, value.func.value).strip()
        if value.func.attr in ("read", "read_text"):
            named = [each.value for each in ast.walk(value) if isinstance(each, ast.Constant)]
            return next((problem.text(path) for path in named if isinstance(path, str) and problem.has(path)), "")
    try:
        text = ast.literal_eval(value) if value is not None else ""
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return ""
    return text if isinstance(text, str) else ""
