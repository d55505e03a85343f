"""AlgoTune: a task with ``generate_problem``, ``solve`` and ``is_solution``; the candidate is a ``Solver``."""

from __future__ import annotations

import re

from nightlab.core.layouts import Problem, Reading, safe_name
from nightlab.integrations.layouts.bridged import bridged

PROGRAM, SECONDS = "solver.py", 300.0
TASK = re.compile(r"^class (\w+)\b", re.M)
PARTS = ("def generate_problem(", "def solve(", "def is_solution(")
SOLVER = '''\
"""The genome: solves a problem of the task in {task}.py. At first by the task's own reference."""

from {task} import {kind}


class Solver:
    def solve(self, problem):
        return {kind}().solve(problem)
'''
BASE = '''\
"""What AlgoTune's tasks import of its package: their base class, and their registration by name."""


class Task:
    def __init__(self, **kwargs):
        pass


def register_task(name):
    return lambda kind: kind
'''


def read(problem: Problem) -> Reading | None:
    """The contract of a task's folder."""
    tasks = [path for path in problem.match("*.py") if all(part in problem.text(path) for part in PARTS)]
    task = problem.only(tasks, "the task")
    kind = next((name for name in TASK.findall(problem.text(task)) if name != "Solver"), None) if task else None
    if task is None or kind is None:
        return None
    has_program = problem.has(PROGRAM)
    extra = {} if has_program else {PROGRAM: SOLVER.format(task=task.removesuffix(".py"), kind=kind)}
    if "AlgoTuneTasks.base" in problem.text(task) and not problem.has("AlgoTuneTasks/base.py"):
        extra |= {"AlgoTuneTasks/__init__.py": "", "AlgoTuneTasks/base.py": BASE}
    options = [f"--timeout={SECONDS:g}"]
    contract, sealed = bridged(problem, "algotune", options, task, PROGRAM, SECONDS + 30, timed=True)
    contract |= {"name": safe_name(problem.name), "metric": {"name": "speedup", "goal": "maximise", "unit": "x"}}
    notes = ("problems have size 100, not the size at which the reference takes 100 ms: set --size in lab.toml",)
    strategy = problem.text("description.txt") if not problem.has("program.md") else ""
    source = f"an AlgoTune task: {task}, solved by {PROGRAM}; {sealed}"
    return Reading(contract, source, notes, strategy, extra)
