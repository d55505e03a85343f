"""Folders of systems for which there is no reader: which system it is, and what to do with the folder instead."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from nightlab.core.layouts import Problem

BY_HAND = "write a lab.toml (nightlab init) whose `genome` names the file that may change, and whose `command`"


@dataclass(frozen=True)
class Foreign:
    """A system, by the files that show it, and how a lab is made of its folder by hand."""

    system: str
    files: str
    shown: Callable[[Problem], bool]
    hint: str

    def __str__(self) -> str:
        return f"a problem of {self.system} ({self.files}), for which nightlab has no reader"


def recognise(problem: Problem) -> Foreign | None:
    """The system that a folder without a known layout belongs to; None when nothing shows it. It reads texts only."""
    return next((system for system in SYSTEMS if system.shown(problem)), None)


def _has(*paths: str) -> Callable[[Problem], bool]:
    return lambda problem: all(problem.has(path) for path in paths)


def _says(glob: str, *patterns: str) -> Callable[[Problem], bool]:
    """Whether one file that matches a glob holds all patterns, each at the start of a line."""
    tests = [re.compile(pattern, re.M) for pattern in patterns]
    return lambda problem: any(
        all(test.search(problem.text(path)) for test in tests) for path in problem.match(glob)[:MOST]
    )


def _any(*shown: Callable[[Problem], bool]) -> Callable[[Problem], bool]:
    return lambda problem: any(test(problem) for test in shown)


MOST = 50  # files of a folder that are looked into
KERNEL = (r"^class Model\(", r"^def get_inputs\(", r"^def get_init_inputs\(")
SYSTEMS = (
    Foreign(
        "robust-kbench",
        "func_forward.py with forward_fn and get_inputs",
        _says("func_*.py", r"^def forward_fn\(", r"^def get_inputs\("),
        f"{BY_HAND} compares your function with forward_fn and prints the ratio of their times",
    ),
    Foreign(
        "KernelBench",
        "a module with Model, get_inputs, get_init_inputs",
        _says("*.py", *KERNEL),
        f"{BY_HAND} compares ModelNew with Model and prints the ratio of their times",
    ),
    Foreign(
        "SOL-ExecBench",
        "definition.json, workload.jsonl",
        _has("definition.json", "workload.jsonl"),
        f"{BY_HAND} runs the solution on the workloads; its own runner needs the GPU that it states",
    ),
    Foreign(
        "GPU Mode",
        "task.yml, reference.py, submission.py",
        _has("task.yml", "reference.py", "submission.py"),
        f"{BY_HAND} runs its eval.py and prints the time; its leaderboard measures on its own GPUs",
    ),
    Foreign(
        "CORAL",
        "task.yaml and a grader",
        _any(_has("task.yaml", "eval/grader.py"), _says("task.yaml", r"^grader:")),
        f"{BY_HAND} calls what the grader's evaluate() calls and prints its score; seed/ holds the first program",
    ),
    Foreign(
        "Harbor or AutoLab",
        "task.toml, instruction.md, tests/test.sh",
        _any(_has("task.toml", "tests/test.sh"), _has("task.toml", "instruction.md")),
        "nightlab runs no containers: install what environment/Dockerfile installs, and "
        f"{BY_HAND} does what tests/test.sh does and prints the reward",
    ),
    Foreign(
        "hillclimb",
        "problem.yaml with a verifier, or run and score",
        _says("problem.yaml", r"^(problem_id|verifier|run|score|higher_is_better|holdout|private):"),
        f"{BY_HAND} does what `run` does; what `score` or `verifier` does is the `command` of [evaluator], "
        "and `data.sealed` names the folder that candidates must not see",
    ),
    Foreign(
        "autoresearch-lab",
        "campaigns/*/campaign.json",
        lambda problem: bool(problem.match("campaigns/*/campaign.json")),
        f"{BY_HAND} runs its train.py",
    ),
    Foreign(
        "GEPA",
        "a module that calls gepa's optimize or optimize_anything",
        _any(
            _says("*.py", r"^\s*(import gepa|from gepa)\b"),
            _says(
                "*.py", r"^\s*def evaluat\w+\(\s*candidate\b", r"^\s*\w*(dataset|valset|trainset|seed_candidate)\b\s*="
            ),
        ),
        f"{BY_HAND} reads the candidate's text from a file, calls the evaluator on the validation examples and "
        "prints the mean; the text is the genome",
    ),
)
