"""What was tried before: the same program in other words, or nearly the same change."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import Any

from nightlab.core.program.canonical import identifiers
from nightlab.core.types import Candidate, Experiment
from nightlab.session.session import Session
from nightlab.storage.git import in_genome

SPEAK_OF_NAMES = ("*.py", "*.toml", "*.sh", "*.ipynb", "*Makefile")  # files that may name a genome's variables
RECENT = 100  # experiments among which a nearly equal one is looked for
NEAR = 0.05  # values are nearly equal that lie no further apart than this part of their way from the parent's
LONGEST = 100_000  # characters of a patch that is compared line by line
ALIKE = 0.7  # of the words of two hypotheses, that they must share
SHORT = 3  # lines of a program in which the same lines are touched by nearly every change
WORD = re.compile(r"[^\W\d]\w*|\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
HUNK = re.compile(r"^@@ -(\d+)")

CurveLine = tuple[str, str, int]  # of a patch: its sign, its file, and where that stands in the old one


class DuplicateIndex:
    """Finds experiments by what their candidates do. One that is nearly equal is told to each proposer once."""

    def __init__(self, session: Session) -> None:
        self.session, self.ledger = session, session.ledger
        self._told: set[tuple[int, str]] = set()
        self._patch = lru_cache(RECENT)(self.session.repo.diff)

    def same(self, candidate: Candidate) -> Experiment | None:
        """The experiment that tried this genome, or the same program in other words."""
        return self.ledger.find_tree(candidate.tree) or self.ledger.find_program(candidate.program)

    def nearly(self, candidate: Candidate) -> Experiment | None:
        """A recent experiment that moved the same constants of the same parent to nearly the same values, or touched
        the same lines of it with nearly the same hypothesis; None if its proposer was told of that one before."""
        parent = self.ledger.by_commit(candidate.parent)
        if parent is None:
            return None
        before = parent.candidate.constants
        for old in reversed(self.ledger.experiments(last=RECENT)):
            one = old.candidate
            if one.parent != candidate.parent or (old.number, candidate.proposer) in self._told or not old.number:
                continue
            if near(before, one.constants, candidate.constants) and self._same_place(one, candidate, before):
                self._told.add((old.number, candidate.proposer))
                return old
        return None

    def _same_place(self, one: Candidate, two: Candidate, before: Mapping[str, Any]) -> bool:
        moved, said = len(_moved(before, two.constants)), alike(one.hypothesis, two.hypothesis)
        if not moved and not said:
            return False  # without a look at the patches
        patches = [self._patch(each.parent, each.commit) for each in (one, two)]
        if max(map(len, patches)) > LONGEST:
            return False
        if said:
            return same_lines(patches[0], patches[1], min(one.lines, two.lines))
        first, second = map(touched, patches)
        return sorted(first) == sorted(second) and len(first) == 2 * moved  # of constants alone

    @cached_property
    def outside(self) -> set[str]:
        """The words of the frozen files, which may name the genome's variables."""
        session = self.session
        paths = [path for path in session.repo.files(session.base) if in_genome(path, session.lab.genome)]
        return identifiers(
            session.repo.text(session.base, [*SPEAK_OF_NAMES, *(f":(exclude,literal){p}" for p in paths)])
        )


def outcome_summary(experiment: Experiment) -> str:
    """What became of an experiment, in a few words."""
    verdict, measured = experiment.verdict, experiment.measurement
    if verdict is None:
        return "it is under way"
    value = measured.metric if measured else None
    return verdict.reason if value is None else f"{value:.6g}, {verdict.reason}"


def near(before: Mapping[str, Any], one: Mapping[str, Any], two: Mapping[str, Any]) -> bool:
    """Whether two genomes moved the same constants to nearly the same values, or none."""
    first, second = _moved(before, one), _moved(before, two)
    return first.keys() == second.keys() and all(_close(before.get(n), first[n], second[n]) for n in first)


def _moved(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    return {name: after.get(name) for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def _close(old: Any, one: Any, two: Any) -> bool:
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in (old, one, two)):
        return bool(one == two)
    return bool(abs(one - two) <= NEAR * min(abs(one - old), abs(two - old)))


def alike(one: str, two: str) -> bool:
    """Whether two texts are nearly the same words and numbers."""
    first, second = set(WORD.findall(one.lower())), set(WORD.findall(two.lower()))
    return len(first & second) >= ALIKE * max(len(first | second), 1)


def same_lines(one: str, two: str, program: int) -> bool:
    """Whether two patches take out the same lines of a genome with ``program`` lines.

    Nearly all changes of a short one do: then what they put in must be alike, too.
    """
    if program <= SHORT and not alike(added(one), added(two)):
        return False
    first, second = ({line for line in touched(patch) if line[0] == "-"} for patch in (one, two))
    return first == second


def added(patch: str) -> str:
    """The lines that a unified patch puts in."""
    lines = (line[1:] for line in patch.splitlines() if line.startswith("+") and not line.startswith("+++ "))
    return "\n".join(lines)


def touched(patch: str) -> list[CurveLine]:
    """The lines that a unified patch takes out and puts in."""
    found: list[CurveLine] = []
    path, at = "", 0
    for line in patch.splitlines():
        if line.startswith("diff "):
            path, at = line, 0
        elif hunk := HUNK.match(line):
            at = int(hunk[1])
        elif at and line.startswith("+"):
            found.append(("+", path, at))
        elif at and line.startswith(("-", " ")):
            if line.startswith("-"):
                found.append(("-", path, at))
            at += 1
    return found
