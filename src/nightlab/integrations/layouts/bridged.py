"""Contracts whose evaluator is another system's, run by ``nightlab_bridge``: sealed, or in one sandbox."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any

from nightlab.core.layouts import Problem
from nightlab.core.regions import EVOLVE_BLOCK, regions
from nightlab.integrations.layouts.sealing import obstacle

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
) -> tuple[dict[str, Any], str]:
    """The keys of a contract that run an evaluator on a program, and a sentence that says how they are kept apart.

    ``module``: of ``nightlab_bridge``, called with ``options``, evaluator and program. ``seconds``: of an evaluation.
    ``why``: they can't be kept apart, as text. ``also``: further files of the evaluator.
    """
    why = why or next(filter(None, (obstacle(problem, file, program) for file in (evaluator, *also))), "")
    call = ["python", "-P", "-m", f"nightlab_bridge.{module}", *([] if why else ["--sealed"]), *options]
    command = shlex.join([*call, evaluator, program])
    contract: dict[str, Any] = {"genome": [program], "command": command, "budget": {"amount": seconds}}
    if regions(problem.text(program), EVOLVE_BLOCK):
        contract["between"] = list(EVOLVE_BLOCK)
    if why:
        return contract, f"the number is a claim: the evaluator and the program share a sandbox ({why})"
    contract["command"] = f"python -P -m nightlab_bridge.serve {shlex.quote(program)}"
    contract["evaluator"] = {"command": command, "served": True}
    contract["budget"] = {"amount": HANDED_OVER, "evaluation": seconds}
    return contract, "sealed: the evaluator calls the program in another process"
