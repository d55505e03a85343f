"""Whether an evaluator can be given a stand-in for the candidate's program: what its text does with the program."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator

from nightlab.core.layouts import Problem
from nightlab.core.source import syntax_tree
from nightlab.session.metric_claim import executed_text, imported_files

PROGRAM = re.compile(
    r"^(?!te?mp|results?_|out)\w*(program|code|file|solution|candidate|submission|initial|script|source)\w*path$|"
    r"^(program|path)$",
    re.IGNORECASE,
)
READS = {"open", "read_text", "read_bytes", "getsource", "copy", "copyfile", "copy2", "move", "parse"}
STARTS = {"run", "Popen", "check_output", "check_call", "call", "run_path", "create_subprocess_exec"}


def obstacle(problem: Problem, evaluator: str, program: str) -> str:
    """Why the evaluator has to see the program itself, as text; empty if it only calls its functions."""
    if not problem.sealed:
        return "as you asked"
    if not program.endswith(".py"):
        return f"{program} is no Python module whose functions could be called"
    for path, nodes in reached(problem, [evaluator], but=program):
        if not nodes and path == evaluator:
            return f"{path} can't be parsed"
        if executing := executed_text(nodes):
            return f"{path}, line {executing.lineno}, may execute what the program answers"
        # What the evaluator imports does not know the program's path by its name.
        for node in nodes if path == evaluator else ():
            if isinstance(node, ast.Call) and (why := _of_call(node, program)):
                return f"{path}, line {node.lineno}, {why}"
    return ""


def reached(problem: Problem, start: Iterable[str], but: str = "") -> Iterator[tuple[str, list[ast.AST]]]:
    """These Python files and those of the folder that they import, without ``but``, each with its syntax tree's nodes.

    There are none where a file can't be parsed.
    """
    files = list(start)
    for path in files:  # which grows
        tree = syntax_tree(problem.text(path))
        nodes = list(ast.walk(tree)) if tree else []
        yield path, nodes
        for node in nodes:
            found = imported_files(node, path, problem.files)
            files += [each for each in found if each not in (*files, but)]


def _of_call(node: ast.Call, program: str) -> str:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    given = [*node.args, *(keyword.value for keyword in node.keywords)]
    if isinstance(node.func, ast.Attribute):
        given.append(node.func.value)
    mentioned = any(_is_program(part, program) for each in given for part in _direct(each))
    if name in ("getsource", "getsourcelines"):
        return "reads the program's source"
    if name in READS and mentioned:
        return "reads the program's text"
    return "starts the program as a script" if name in STARTS and mentioned else ""


def _direct(node: ast.expr) -> list[ast.expr]:
    """An argument, and what it directly consists of: the items of a list, the argument of Path or str."""
    inner = list(node.elts) if isinstance(node, ast.List | ast.Tuple) else []
    inner += node.args if isinstance(node, ast.Call) else []
    return [node, *(part for each in inner for part in _direct(each))]


def _is_program(node: ast.expr, program: str) -> bool:
    if isinstance(node, ast.Name):
        return bool(PROGRAM.search(node.id))
    if isinstance(node, ast.Attribute):
        return bool(PROGRAM.search(node.attr))
    return isinstance(node, ast.Constant) and node.value == program
