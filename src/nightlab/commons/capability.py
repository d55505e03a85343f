"""Checks whether a finding's requirements are met here, with reasons. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from nightlab.commons.fields import GeneNeeds, Requires
from nightlab.commons.record import Finding, Task, Transfer
from nightlab.core.text import one_line

Level = Literal["compatible", "partly", "not"]
LACKING = {"mps": {"float64", "float8_e4m3fn", "float8_e5m2"}, "cpu": {"float8_e4m3fn", "float8_e5m2"}}
LEVELS: list[Level] = ["compatible", "partly", "not"]
DTYPES = ("float64", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")


@dataclass(frozen=True, slots=True)
class TrialResources:
    """What a trial has here. Sizes in MB, None where unknown; versions of libraries by their import names."""

    device: str
    memory_mb: float | None
    gpu_memory_mb: float | None
    libraries: Mapping[str, str]
    host: GeneHost | None = None
    """What the lab offers to genes; None if the contract does not say."""
    licences: frozenset[str] = frozenset()
    """Those that the lab's user has."""


@dataclass(frozen=True, slots=True)
class GeneHost:
    """What a gene can use: host functions, and limits on its memory (bytes) and fuel."""

    functions: frozenset[str] = frozenset()
    memory_bytes: int = 5 * 2**20  # this and the next: defaults of the Rotifer Protocol's draft
    fuel: int = 1_000_000
    domain: str | None = None
    """The task that a gene must solve; None for any."""


@dataclass(frozen=True, slots=True)
class Compatibility:
    """Whether a finding can be measured here, and what is missing or differs."""

    level: Level
    reasons: tuple[str, ...] = ()


def check_requirements(requires: Requires, have: TrialResources) -> Compatibility:
    """``compatible``: all requirements are met; ``partly``: runs, but may behave differently; ``not``: can't run."""
    parts = (_device, _memory, _dtypes, _libraries, _licences, _genes)
    return worst_of([found for part in parts for found in part(requires, have)])


def compare_tasks(finding: Finding, task: Task, shown: Sequence[Transfer] = ()) -> Compatibility:
    """Whether a finding's task is this one, or differs only in parts that its author declares portable, or in a budget
    at which it held in the transfers ``shown``.
    """
    differs, found = finding.task.differs_from(task), list[tuple[Level, str]]()
    if "frozen_sha256" in differs:
        found.append(("not", "its frozen files or contract differ"))
    if "metric" in differs:
        found.append(("not", f"its metric is {one_line(finding.task.metric.name, 40)}"))
    for part, name in (("budget", "budget"), ("data", "data_sha256")):
        if name == "budget" and name in differs and (held := _held(finding, task, shown)):
            found.append(held)
        elif name in differs:
            declared = part in finding.portable
            found.append(("partly" if declared else "not", f"its {part} differs{', as declared' * declared}"))
    return worst_of(found)


def _held(finding: Finding, task: Task, shown: Sequence[Transfer]) -> tuple[Level, str] | None:
    """Whether a finding held at this task's budget, or on both sides of it; None if that was not measured."""
    clock, amount = task.budget.clock, task.budget.amount
    there = {one.budget.amount: one for one in shown if one.budget and one.budget.clock == clock}
    if (one := there.get(amount)) and not one.low <= 0 <= one.high:
        words = f"gained {one.gain:.6g} at this budget (95 %: {one.low:.6g} to {one.high:.6g})"
        return ("compatible", f"it {words}") if one.low > 0 else ("not", f"it {words}, not only at its own")
    held = [value for value, each in there.items() if each.low > 0]
    held += [finding.task.budget.amount] * (finding.task.budget.clock == clock)
    if min(held, default=amount) < amount < max(held, default=amount):
        return "partly", "its budget differs; it held at a smaller and at a larger one"
    return None


def worse_of(one: Compatibility, other: Compatibility) -> Compatibility:
    """The worse of two levels, with the reasons of both."""
    return Compatibility(max(one.level, other.level, key=LEVELS.index), one.reasons + other.reasons)


def worst_of(found: list[tuple[Level, str]]) -> Compatibility:
    """The worst of the levels, with all reasons."""
    levels: list[Level] = [level for level, _ in found]
    level = max(levels, key=LEVELS.index, default=LEVELS[0])
    return Compatibility(level, tuple(reason for _, reason in found))


Reasons = Iterator[tuple[Level, str]]


def _device(requires: Requires, have: TrialResources) -> Reasons:
    if have.device not in requires.devices:
        yield "partly", f"it ran on {' or '.join(requires.devices) or 'nothing'}, not on {have.device}"


def _memory(requires: Requires, have: TrialResources) -> Reasons:
    pairs = (("memory", requires.memory_mb, have.memory_mb), ("GPU memory", requires.gpu_memory_mb, have.gpu_memory_mb))
    for name, needed, there in pairs:
        if there is not None and needed > there:
            yield "not", f"it needed {needed:,.0f} MB of {name}, available are {there:,.0f} MB"


def _dtypes(requires: Requires, have: TrialResources) -> Reasons:
    for dtype in requires.dtypes:
        if dtype not in DTYPES:
            yield "partly", f"it uses {one_line(dtype, 40)}, which is unknown here"
        elif dtype in LACKING.get(have.device, ()):
            yield "not", f"it uses {dtype}, which {have.device} does not support"


def _libraries(requires: Requires, have: TrialResources) -> Reasons:
    for name, version in sorted(requires.libraries.items()):
        word = one_line(name, 40)
        if name not in have.libraries:
            yield "not", f"it imports {word}, which is not installed here"
        elif (there := have.libraries[name]) and version and version.split(".")[0] != there.split(".")[0]:
            yield "partly", f"it ran with {word} {one_line(version, 20)}, installed is {there}"


def _licences(requires: Requires, have: TrialResources) -> Reasons:
    for name in requires.licences:
        if name not in have.licences:
            word = one_line(name, 40)
            yield "not", f"it needs the licence {word}; if you have it, name it in commons.licences of lab.toml"


def _genes(requires: Requires, have: TrialResources) -> Reasons:
    for path, needs in sorted(requires.genes.items()):
        if have.host:
            yield from ((level, f"{one_line(path, 60)}: {reason}") for level, reason in unmet_needs(needs, have.host))


def unmet_needs(needs: GeneNeeds, host: GeneHost) -> Reasons:
    """The requirements of a gene that the host does not meet."""
    if host.domain not in (None, needs.domain):
        yield "not", f"it solves {one_line(needs.domain, 60)}, required is {host.domain}"
    for name in needs.imports:
        if name not in host.functions:
            yield "not", f"it needs the host function {one_line(name, 60)}"
    if needs.memory_bytes > host.memory_bytes:
        yield "not", f"it needs {needs.memory_bytes:,} bytes of memory, the limit is {host.memory_bytes:,}"
    if needs.fuel > host.fuel:
        yield "not", f"it needs {needs.fuel:,} fuel, the limit is {host.fuel:,}"
    for name in needs.optional:
        if name not in host.functions:
            yield "partly", f"it would use the host function {one_line(name, 60)}"
