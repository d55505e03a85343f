"""The attacks, and which of them are made for a lab."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from nightlab.analysis.redteam.attack import Attack, Target
from nightlab.analysis.redteam.on_answers import ANSWER_ATTACKS
from nightlab.analysis.redteam.on_files import FILE_ATTACKS
from nightlab.analysis.redteam.on_programs import PROGRAM_ATTACKS
from nightlab.analysis.redteam.on_texts import TEXT_ATTACKS
from nightlab.core.config import LabConfig

ATTACKS = (*PROGRAM_ATTACKS, *ANSWER_ATTACKS, *FILE_ATTACKS, *TEXT_ATTACKS)
C = (".c", ".cc", ".cpp", ".cxx")
NO_PYTHON = "attacks on clocks, budgets and answers are made in Python, and this genome is not: they were not tried"
NO_PROGRAM = "no trial runs a program of this genome: it has no clock, no budget and no answers to attack"


def target(lab: LabConfig, genome: Iterable[str]) -> str:
    """The genome's file that the attacks change: the program that a trial runs, or else the first Python or C."""
    files = [*genome]
    words = shlex.split(lab.command or "")
    return max(files, key=lambda path: (path in words, path.endswith(".py"), path.endswith(C)))


def targets(lab: LabConfig, path: str) -> set[Target]:
    """What there is to attack of a lab whose file ``path`` is changed."""
    if not lab.command or not path.endswith((".py", *C)):
        return {"text"}
    if path.endswith(C):
        return {"C"}
    if lab.evaluator is None:
        return {"program"}
    if not lab.evaluator.served:
        return {"program", "files"}
    return {"program", "answers", "timed answers"} if lab.timed else {"program", "answers"}


def attacks_on(lab: LabConfig, path: str, text: str) -> list[Attack]:
    """The attacks that make sense for a lab whose file ``path`` is changed, and that change its ``text``."""
    there = targets(lab, path)
    fitting = (attack for attack in ATTACKS if there & {*attack.on})
    return [attack for attack in fitting if attack.on_genome(lab, path, text) != text]


def left_out(lab: LabConfig, path: str) -> str:
    """Which attacks are not made, and why; empty where all are."""
    return NO_PROGRAM if not lab.command else "" if path.endswith(".py") else NO_PYTHON
