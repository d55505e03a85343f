"""All that a candidate's record says of its program, found in the text of its genome."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nightlab.core.program.canonical import fingerprint
from nightlab.core.program.constants import changes, find_constants
from nightlab.core.program.information import compressed, find_data, joined, new_information, program_information
from nightlab.core.program.theme import theme
from nightlab.core.source import code_lines, same_program, syntax_fault

MOST = 40  # parts of a genome that a change is said to be about
PARSING = 0.25  # CPU seconds to find a file's constants, which a session does too, deaf to Ctrl-C meanwhile

Genome = Mapping[str, str]
"""Texts by path."""


@dataclass(frozen=True, slots=True)
class ProgramFacts:
    """What a genome is, and how it differs from its parent. ``refusal``: why it is no candidate; then no more is said.

    ``program`` is the hash of its canonical form, ``lines`` its lines of code, ``information`` the bytes that these
    compress to.
    """

    refusal: str = ""
    constants: Mapping[str, Any] | None = None
    changes: Sequence[str] = ()
    lines: int = 0
    information: int = 0
    program: str = ""
    theme: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class SessionContext:
    """What the facts of all genomes of a session depend on.

    ``outside``: the words of the frozen files, which may name the genome's variables. ``growth``: bytes of information
    that a genome may have beyond the baseline's, None without a limit; ``data``: whether its literals may hold data.
    """

    device: str
    outside: Collection[str] = ()
    baseline: Genome = field(default_factory=dict)
    growth: int | None = None
    data: bool = True


def program_facts(genome: Genome, parent: Genome, touched: Sequence[str], context: SessionContext) -> ProgramFacts:
    """The facts of a genome that differs from its parent's in the files ``touched``; of a baseline in none."""
    device = context.device
    for path in touched:
        if fault := syntax_fault(path, genome.get(path, "")):
            return ProgramFacts(f"it does not parse: {fault}")
    if touched and all(same_program(path, parent.get(path, ""), genome.get(path, "")) for path in touched):
        return ProgramFacts("it changes nothing but layout, comments or seeds, and the seeds are not its own")
    if touched and (refusal := _too_much(genome, parent, context)):
        return ProgramFacts(refusal)
    for path in touched:
        if _slow(genome.get(path, ""), parent.get(path, ""), device):
            return ProgramFacts(f"parsing {path} takes more than {PARSING:g} s: make it smaller, or less deeply nested")
    constants = _constants(genome, device)
    return ProgramFacts(
        constants=constants,
        changes=changes(_constants(parent, device), constants),
        lines=sum(code_lines(path, text) for path, text in genome.items()),
        information=sum(program_information(path, text) for path, text in genome.items()),
        program=fingerprint(genome, device, context.outside),
        theme=sorted(theme(parent, genome))[:MOST],
    )


def _slow(text: str, parent: str, device: str) -> bool:
    """Whether a file's constants take too long to find, twice, and more than twice as long as those of its parent."""
    seconds = _seconds(text, device)
    if seconds <= PARSING or seconds <= 2 * _seconds(parent, device):
        return False
    return _seconds(text, device) > PARSING


def _seconds(text: str, device: str) -> float:
    begun = time.process_time()
    find_constants(text, device)
    return time.process_time() - begun


def _too_much(genome: Genome, parent: Genome, context: SessionContext) -> str:
    """Why a genome carries more information than its contract allows; empty for one that does not."""
    if context.growth is not None:
        new, size = new_information(genome, context.baseline), compressed(joined(context.baseline))
        limit = max(context.growth, size)
        if new > limit and new > new_information(parent, context.baseline):
            return (
                f"over limit: it carries {new:,} bytes of information that the baseline has not; the limit is "
                f"{limit:,} (information.growth in lab.toml): a genome is a program, not data"
            )
    if not context.data and (found := find_data(genome, context.baseline)):
        return f"over limit: {found} (information.literals in lab.toml): a genome is a program, not data"
    return ""


def _constants(genome: Genome, device: str) -> dict[str, object]:
    """The constants of all genome files; names of a second file carry its path."""
    found: dict[str, object] = {}
    for path, text in genome.items():
        for name, constant in find_constants(text, device).items():
            found[name if name not in found else f"{path}:{name}"] = constant.value
    return found
