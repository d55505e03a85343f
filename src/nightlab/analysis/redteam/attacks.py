"""The attacks, and which of them are made for a lab."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from nightlab.analysis.redteam.attack import LATER, Attack, C, Target
from nightlab.analysis.redteam.on_answers import ANSWER_ATTACKS
from nightlab.analysis.redteam.on_files import FILE_ATTACKS
from nightlab.analysis.redteam.on_programs import PROGRAM_ATTACKS
from nightlab.analysis.redteam.on_texts import TEXT_ATTACKS
from nightlab.core.config import LabConfig

ATTACKS = (*PROGRAM_ATTACKS, *ANSWER_ATTACKS, *FILE_ATTACKS, *TEXT_ATTACKS)
NO_PYTHON = "attacks on clocks, budgets and answers are made in Python, and this genome is not: they were not tried"
NO_PLACE = "between the markers of {path} there is no place for these, which were not tried"
INSIDE = "the markers of {path} are inside a function, class or block: attacks begin when it runs, for some too late"
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
    return [attack for attack in _fitting(lab, path) if _placed(attack, lab, path, text) not in (None, text)]


def left_out(lab: LabConfig, path: str, text: str) -> str:
    """Which attacks are not made, or may come too late, and why; empty where all are made."""
    why = NO_PROGRAM if not lab.command else "" if path.endswith(".py") else NO_PYTHON
    placed = [(attack.name, _placed(attack, lab, path, text)) for attack in _fitting(lab, path)]
    if without := [name for name, found in placed if found is None]:
        return f"{NO_PLACE.format(path=path)}: {', '.join(without)}{f'; {why}' if why else ''}"
    if any(LATER in found for _, found in placed if found):
        return INSIDE.format(path=path)
    return why


def _fitting(lab: LabConfig, path: str) -> list[Attack]:
    there = targets(lab, path)
    return [attack for attack in ATTACKS if there & {*attack.on}]


def _placed(attack: Attack, lab: LabConfig, path: str, text: str) -> str | None:
    try:
        return attack.on_genome(lab, path, text)
    except SyntaxError:
        return None
