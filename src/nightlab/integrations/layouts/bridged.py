"""Contracts whose evaluator is another system's, run by ``nightlab_bridge``: sealed, or in one sandbox."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from collections.abc import Iterable
from importlib.machinery import PathFinder
from typing import Any

from nightlab.core.layouts import Problem
from nightlab.core.regions import EVOLVE_BLOCK, regions
from nightlab.core.source import syntax_tree
from nightlab.integrations.layouts.sealing import obstacle

WARM = ("nightlab_guest", "nightlab_bridge.values"), ("nightlab_bridge.runner",)  # of the two sides of the bridge
PEERS = {"openevolve", "shinka", "coral", "gepa"}  # of which an evaluator takes a class, and that import much
CLOCK = re.compile(r"\b(perf_counter|process_time|thread_time|monotonic|timeit|time\.time|clock_gettime)")
HANDED_OVER = 10  # seconds until a candidate whose program is only called has handed it over


def bridged(
    problem: Problem,
    module: str,
    options: list[str],
    evaluator: str,
    program: str,
    seconds: float,
    *,
    why: str = "",
    also: Iterable[str] = (),
    timed: bool = False,
) -> tuple[dict[str, Any], str]:
    """The keys of a contract that run an evaluator on a program, and a sentence that says how they are kept apart.

    ``module``: of ``nightlab_bridge``, called with ``options``, evaluator and program. ``seconds``: of an evaluation.
    ``why``: they can't be kept apart, as text. ``also``: further files of the evaluator. ``timed``: the bridge keeps
    the time. While a time is kept nothing is imported ahead, which would disturb it.
    """
    files = (evaluator, *also)
    why = why or next(filter(None, (obstacle(problem, file, program) for file in files)), "")
    call = ["python", "-P", "-m", f"nightlab_bridge.{module}", *([] if why else ["--sealed"]), *options]
    command = shlex.join([*call, evaluator, program])
    contract: dict[str, Any] = {"genome": [program], "command": command, "budget": {"amount": seconds}}
    if regions(problem.text(program), EVOLVE_BLOCK):
        contract["between"] = list(EVOLVE_BLOCK)
    if why:
        return contract, f"the number is a claim: the evaluator and the program share a sandbox ({why})"
    contract["command"] = f"python -P -m nightlab_bridge.serve {shlex.quote(program)}"
    contract["evaluator"] = {"command": command, "served": True}
    if not (timed or any(CLOCK.search(problem.text(file)) for file in files)):
        contract["warm"] = [*WARM[0], *installed_imports(problem, program)]
        imported = dict.fromkeys(name for file in files for name in installed_imports(problem, file))
        contract["evaluator"]["warm"] = [*WARM[1], *imported]
    contract["budget"] = {"amount": HANDED_OVER, "evaluation": seconds}
    return contract, "sealed: the evaluator calls the program in another process"


def installed_imports(problem: Problem, file: str) -> list[str]:
    """The installed packages, beyond Python's own, whose modules a Python file imports; nothing is imported here."""
    tree = syntax_tree(problem.text(file)) if file.endswith(".py") else None
    names = dict.fromkeys(name for node in ast.walk(tree) for name in imported(node)) if tree else {}
    own = {path.split("/")[0].removesuffix(".py") for path in problem.files}
    other = own | PEERS | sys.stdlib_module_names
    return [name for name in names if (top := name.split(".")[0]) not in other and PathFinder.find_spec(top)]


def requirements(problem: Problem, path: str) -> list[str]:
    """A note on the packages that a ``requirements.txt`` asks for, which have to be installed here."""
    lines = (line.split("#")[0].strip() for line in problem.text(path).splitlines())
    needed = [line for line in lines if line and not line.startswith("-")]
    more = f" and {len(needed) - 12} more" if len(needed) > 12 else ""
    return [f"{path} wants {', '.join(needed[:12])}{more}: install what is missing here"] if needed else []


def imported(node: ast.AST) -> list[str]:
    """The modules that a statement imports; of ``from package import module`` the package."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
