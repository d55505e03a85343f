"""Portable genes: what a WebAssembly module says that it needs, and whether that is here. Pure; nothing is run.

A gene says it in custom sections, after the Rotifer Protocol's intermediate representation (its draft 0.2), as JSON:
``nightlab.version`` (1), ``nightlab.phenotype`` (``domain``, ``exports``), ``nightlab.constraints`` (``memory_bytes``,
``imports`` and, what it can do without, ``optional``) and ``nightlab.metering`` (``fuel`` for each unit of its task).

Only modules in WebAssembly's binary or text format are read. What an engine has compiled is machine code that it would
believe: nobody's is ever loaded.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nightlab.commons.capability import Fit, Level, fit_of
from nightlab.records import NightlabError
from nightlab.words import one_line

VERSION = 1
MAGIC = b"\0asm\x01\0\0\0"
PREFIX = "nightlab."
LARGEST = 2**20  # bytes of a module, and of its text
MEMORY, FUEL = 5 * 2**20, 1_000_000  # the draft's defaults

Name = Annotated[str, Field(max_length=100)]
Names = Annotated[tuple[Name, ...], Field(max_length=50)]
Amount = Annotated[int, Field(gt=0, lt=2**53)]


class Section(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Phenotype(Section):
    domain: Name
    exports: Annotated[dict[Name, Name], Field(min_length=1, max_length=50)]


class Constraints(Section):
    memory_bytes: Amount
    imports: Names = ()
    optional: Names = ()


class Metering(Section):
    fuel: Amount


class Gene(Section):
    """What a module says of itself."""

    version: int
    phenotype: Phenotype
    constraints: Constraints
    metering: Metering


@dataclass(frozen=True, slots=True)
class Host:
    """What there is for a gene: host functions, and the most of memory (bytes) and fuel that it may have."""

    functions: frozenset[str] = frozenset()
    memory_bytes: int = MEMORY
    fuel: int = FUEL
    domain: str | None = None
    """What it must do; None where anything will do."""


def read(module: bytes, where: str) -> Gene:
    """What a module, in binary or in text format, says that it needs. Raises NightlabError when it does not say."""
    if len(module) > LARGEST:
        raise _refused(where, f"it is larger than {LARGEST:,} bytes")
    if not module.startswith(MAGIC):
        module = _from_text(module, where)
    try:
        said = {name: json.loads(content) for name, content in _custom(module) if name.startswith(PREFIX)}
        return Gene.model_validate({name.removeprefix(PREFIX): value for name, value in said.items()})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise _refused(where, f"{PREFIX}{'.'.join(map(str, first['loc']))[:100]}: {first['msg'][:200]}") from None
    except (ValueError, IndexError, RecursionError) as error:
        raise _refused(where, f"its sections can't be read ({type(error).__name__})") from None


def negotiate(gene: Gene, host: Host) -> Fit:
    """``compatible``: all is here; ``partly``: it can run without what is missing; ``not``: it can't run, and why."""
    needs, missing = gene.constraints, [name for name in gene.constraints.optional if name not in host.functions]
    found: list[tuple[Level, str]] = []
    if gene.version != VERSION:
        found.append(("not", f"it is of version {gene.version}, here is {VERSION}"))
    if host.domain not in (None, gene.phenotype.domain):
        found.append(("not", f"it does {one_line(gene.phenotype.domain, 60)}, wanted is {host.domain}"))
    found += [
        ("not", f"it needs the host function {one_line(name, 60)}")
        for name in needs.imports
        if name not in host.functions
    ]
    if needs.memory_bytes > host.memory_bytes:
        found.append(("not", f"it needs {needs.memory_bytes:,} bytes of memory, here are {host.memory_bytes:,}"))
    if gene.metering.fuel > host.fuel:
        found.append(("not", f"it needs {gene.metering.fuel:,} fuel, here is {host.fuel:,}"))
    found += [("partly", f"it would use the host function {one_line(name, 60)}") for name in missing]
    return fit_of(found)


def _from_text(source: bytes, where: str) -> bytes:
    if not source.lstrip().startswith((b"(", b";;")):
        raise _refused(where, "it is no WebAssembly, in binary or in text; what an engine has compiled is never loaded")
    try:
        wasmtime = importlib.import_module("wasmtime")
    except ImportError:
        raise NightlabError(
            "reading WebAssembly's text format needs wasmtime", "pip install 'nightlab[wasm]'"
        ) from None
    try:
        return bytes(wasmtime.wat2wasm(source.decode()))
    except (wasmtime.WasmtimeError, UnicodeDecodeError) as error:
        raise _refused(where, one_line(str(error), 200)) from None


def _custom(module: bytes) -> Iterator[tuple[str, bytes]]:
    """The custom sections of a module in binary format: name and content of each."""
    at = len(MAGIC)
    while at < len(module):
        size, start = _number(module, at + 1)
        if start + size > len(module):
            raise ValueError("a section ends beyond the module")
        if module[at] == 0:
            length, name = _number(module, start)
            yield module[name : name + length].decode(), module[name + length : start + size]
        at = start + size


def _number(data: bytes, at: int) -> tuple[int, int]:
    """The LEB128 number of 32 bits at a place, and where it ends."""
    value = 0
    for shift in range(0, 35, 7):
        value |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            return value, at
    raise ValueError("a number of more than 32 bits")


def _refused(where: str, why: str) -> NightlabError:
    mend = "give a .wasm or .wat file whose custom sections say what it needs (docs/arena.md)"
    return NightlabError(f"{where} is no portable gene: {why}", mend)
