"""All that a candidate's record says of its program, found in the text of its genome."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nightlab.core.program.canonical import fingerprint
from nightlab.core.program.constants import changes, find_constants
from nightlab.core.program.theme import theme
from nightlab.core.source import code_lines, same_program, syntax_fault

MOST = 40  # parts of a genome that a change is said to be about

Genome = Mapping[str, str]
"""Texts by path."""


@dataclass(frozen=True, slots=True)
class ProgramFacts:
    """What a genome is, and how it differs from its parent. ``refusal``: why it is no candidate; then no more is said.

    ``program`` is the hash of its canonical form, ``lines`` its lines of code.
    """

    refusal: str = ""
    constants: Mapping[str, Any] | None = None
    changes: Sequence[str] = ()
    lines: int = 0
    program: str = ""
    theme: Sequence[str] = ()


def program_facts(
    genome: Genome, parent: Genome, touched: Sequence[str], device: str, outside: Collection[str]
) -> ProgramFacts:
    """The facts of a genome that differs from its parent's in the files ``touched``; of a baseline in none.

    ``outside``: the words of the frozen files, which may name the genome's variables.
    """
    for path in touched:
        if fault := syntax_fault(path, genome.get(path, "")):
            return ProgramFacts(f"it does not parse: {fault}")
    if touched and all(same_program(path, parent.get(path, ""), genome.get(path, "")) for path in touched):
        return ProgramFacts("it changes nothing but layout, comments or seeds, and the seeds are not its own")
    constants = _constants(genome, device)
    return ProgramFacts(
        constants=constants,
        changes=changes(_constants(parent, device), constants),
        lines=sum(code_lines(path, text) for path, text in genome.items()),
        program=fingerprint(genome, device, outside),
        theme=sorted(theme(parent, genome))[:MOST],
    )


def _constants(genome: Genome, device: str) -> dict[str, object]:
    """The constants of all genome files; names of a second file carry its path."""
    found: dict[str, object] = {}
    for path, text in genome.items():
        for name, constant in find_constants(text, device).items():
            found[name if name not in found else f"{path}:{name}"] = constant.value
    return found
