"""Capability negotiation: whether what a finding requires is here, with reasons. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from nightlab.commons.record import Finding, GeneNeeds, Requires, Task
from nightlab.core.text import one_line

Level = Literal["compatible", "partly", "not"]
LACKING = {"mps": {"float64", "float8_e4m3fn", "float8_e5m2"}, "cpu": {"float8_e4m3fn", "float8_e5m2"}}
LEVELS: list[Level] = ["compatible", "partly", "not"]
DTYPES = ("float64", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")


@dataclass(frozen=True, slots=True)
class TrialResources:
    """What a trial has here. Sizes in MB, None where they are not known; libraries by their names in imports."""

    device: str
    memory_mb: float | None
    gpu_memory_mb: float | None
    libraries: Mapping[str, str]
    host: GeneHost | None = None
    """What a gene finds here; None where the contract does not say."""


@dataclass(frozen=True, slots=True)
class GeneHost:
    """What there is for a gene: host functions, and the most of memory (bytes) and fuel that it may have."""

    functions: frozenset[str] = frozenset()
    memory_bytes: int = 5 * 2**20  # this and the next: the defaults of Rotifer's draft
    fuel: int = 1_000_000
    domain: str | None = None
    """What it must do; None where anything will do."""


@dataclass(frozen=True, slots=True)
class Compatibility:
    """How far a finding fits here, and why no further."""

    level: Level
    reasons: tuple[str, ...] = ()


def negotiate(requires: Requires, have: TrialResources) -> Compatibility:
    """``compatible``: all is here; ``partly``: it can run, but may do something else; ``not``: it can't run."""
    parts = (_device, _memory, _dtypes, _libraries, _genes)
    return fit_of([found for part in parts for found in part(requires, have)])


def matches(finding: Finding, task: Task) -> Compatibility:
    """Whether a finding's task is this one, or near enough by what its author declares."""
    theirs = finding.task
    if theirs.id == task.id:
        return Compatibility("compatible")
    found: list[tuple[Level, str]] = []
    if theirs.frozen_sha256 != task.frozen_sha256:
        found.append(("not", "its frozen files or its contract are others"))
    if theirs.metric != task.metric:
        found.append(("not", f"its metric is {one_line(theirs.metric.name, 40)}"))
    for part, one, other in (("budget", theirs.budget, task.budget), ("data", theirs.data_sha256, task.data_sha256)):
        if one != other:
            declared = part in finding.portable
            found.append(("partly" if declared else "not", f"its {part} differs{', as declared' * declared}"))
    return fit_of(found)


def both(one: Compatibility, other: Compatibility) -> Compatibility:
    """What fits in two ways fits as the worse of them says."""
    return Compatibility(max(one.level, other.level, key=LEVELS.index), one.reasons + other.reasons)


def fit_of(found: list[tuple[Level, str]]) -> Compatibility:
    """As the worst of the levels says, with all reasons."""
    levels: list[Level] = [level for level, _ in found]
    level = max(levels, key=LEVELS.index, default=LEVELS[0])
    return Compatibility(level, tuple(reason for _, reason in found))


Reasons = Iterator[tuple[Level, str]]


def _device(requires: Requires, have: TrialResources) -> Reasons:
    if have.device not in requires.devices:
        yield "partly", f"it ran on {' or '.join(requires.devices) or 'nothing'}, here is {have.device}"


def _memory(requires: Requires, have: TrialResources) -> Reasons:
    pairs = (("memory", requires.memory_mb, have.memory_mb), ("GPU memory", requires.gpu_memory_mb, have.gpu_memory_mb))
    for name, needed, there in pairs:
        if there is not None and needed > there:
            yield "not", f"it took {needed:,.0f} MB of {name}, here are {there:,.0f} MB"


def _dtypes(requires: Requires, have: TrialResources) -> Reasons:
    for dtype in requires.dtypes:
        if dtype not in DTYPES:
            yield "partly", f"it computes in {one_line(dtype, 40)}, of which nothing is known here"
        elif dtype in LACKING.get(have.device, ()):
            yield "not", f"it computes in {dtype}, which {have.device} has not"


def _libraries(requires: Requires, have: TrialResources) -> Reasons:
    for name, version in sorted(requires.libraries.items()):
        word = one_line(name, 40)
        if name not in have.libraries:
            yield "not", f"it imports {word}, which is not installed here"
        elif (there := have.libraries[name]) and version and version.split(".")[0] != there.split(".")[0]:
            yield "partly", f"it ran with {word} {one_line(version, 20)}, here is {there}"


def _genes(requires: Requires, have: TrialResources) -> Reasons:
    for path, needs in sorted(requires.genes.items()):
        if have.host:
            yield from ((level, f"{one_line(path, 60)}: {reason}") for level, reason in asked(needs, have.host))


def asked(needs: GeneNeeds, host: GeneHost) -> Reasons:
    """What a gene asks for that is not here."""
    if host.domain not in (None, needs.domain):
        yield "not", f"it does {one_line(needs.domain, 60)}, wanted is {host.domain}"
    for name in needs.imports:
        if name not in host.functions:
            yield "not", f"it needs the host function {one_line(name, 60)}"
    if needs.memory_bytes > host.memory_bytes:
        yield "not", f"it needs {needs.memory_bytes:,} bytes of memory, here are {host.memory_bytes:,}"
    if needs.fuel > host.fuel:
        yield "not", f"it needs {needs.fuel:,} fuel, here is {host.fuel:,}"
    for name in needs.optional:
        if name not in host.functions:
            yield "partly", f"it would use the host function {one_line(name, 60)}"
