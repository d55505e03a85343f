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


MOST = 50  # files of a folder that are looked into
SYSTEMS = (
    Foreign(
        "GPU Mode",
        "task.yml, reference.py, submission.py",
        _has("task.yml", "reference.py", "submission.py"),
        f"{BY_HAND} runs its eval.py and prints the time; its leaderboard measures on its own GPUs",
    ),
    Foreign(
        "GEPA",
        "a module that calls gepa's optimize with an adapter",
        _says("*.py", r"^\s*(import gepa|from gepa)\b"),
        f"{BY_HAND} reads the candidate's text from a file, calls the evaluator on the validation examples and "
        "prints the mean; the text is the genome",
    ),
)
