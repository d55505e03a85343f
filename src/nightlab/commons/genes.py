"""Portable genes: what a WebAssembly module requires, and whether the lab offers it. Pure; no module is run.

Requirements are JSON in custom sections, following the Rotifer Protocol's intermediate representation (draft 0.2):
``nightlab.version`` (1), ``nightlab.phenotype`` (``domain``, ``exports``), ``nightlab.constraints`` (``memory_bytes``,
``imports`` and the dispensable ``optional`` ones) and ``nightlab.metering`` (``fuel`` per unit of the task).

Only modules in WebAssembly's binary or text format are read. Precompiled modules are machine code that an engine would
trust, so they are never loaded.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nightlab.commons.capability import Compatibility, GeneHost, Level, unmet_needs, worse_of, worst_of
from nightlab.commons.fields import GeneNeeds
from nightlab.commons.record import Rejected
from nightlab.core.source_bytes import encode_source
from nightlab.core.text import one_line
from nightlab.core.types import NightlabError

VERSION = 1
MAGIC = b"\0asm\x01\0\0\0"
PREFIX = "nightlab."
LARGEST = 2**20  # bytes of a module, and of its text
ENDINGS = (".wat", ".wasm")

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
    """A module's description of itself."""

    version: int
    phenotype: Phenotype
    constraints: Constraints
    metering: Metering

    @property
    def needs(self) -> GeneNeeds:
        """Its requirements, in the form of a record."""
        return GeneNeeds(
            domain=self.phenotype.domain,
            memory_bytes=self.constraints.memory_bytes,
            fuel=self.metering.fuel,
            imports=list(self.constraints.imports),
            optional=list(self.constraints.optional),
        )


class NoGene(NightlabError):
    """A file that is not a portable gene."""


def read_gene(module: bytes, where: str) -> Gene:
    """The description of a module in binary or text format. Raises NoGene when it is missing or invalid."""
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
        raise _refused(where, f"its sections are unreadable ({type(error).__name__})") from None


def check_gene(gene: Gene, host: GeneHost) -> Compatibility:
    """``compatible``: all requirements are met; ``partly``: runs without what is missing; ``not``: can't run."""
    other: list[tuple[Level, str]] = [("not", f"it has version {gene.version}, supported is {VERSION}")]
    return worst_of([*other * (gene.version != VERSION), *unmet_needs(gene.needs, host)])


def genes_in(genome: Mapping[str, str]) -> dict[str, Gene]:
    """The descriptions of the genes in a genome, by path. Raises NoGene."""
    genes = (path for path in sorted(genome) if path.endswith(ENDINGS))
    return {path: read_gene(encode_source(genome[path]), path) for path in genes}


def check_genes(
    said: Mapping[str, GeneNeeds], genome: Mapping[str, str], ground: Mapping[str, str] | None, host: GeneHost
) -> Compatibility:
    """Whether the genes of a genome made by a finding's patch can run here, by their own descriptions.

    ``said``: the requirements in the finding's record. ``ground``: the genome that the patch was applied to, if that
    does not give the finding's own genome. Raises Rejected if a gene requires anything that neither of them states.
    """
    try:
        made = genes_in(genome)
    except NoGene as error:
        raise Rejected("wrong requirements", str(error)) from None
    fits = Compatibility("compatible")
    for path, gene in made.items():
        found = gene.needs.model_dump()
        before = _needs_before(path, ground)
        stated = said[path].model_dump() if path in said else {}
        for name, value in found.items():
            if value not in (stated.get(name), before.get(name)):
                what = f"{path} requires {name} {value}, its record states {stated.get(name, 'nothing')}"
                raise Rejected("wrong requirements", one_line(what))
        fits = worse_of(fits, check_gene(gene, host))
    return fits


def _needs_before(path: str, ground: Mapping[str, str] | None) -> dict[str, Any]:
    try:
        return read_gene(encode_source(ground[path]), path).needs.model_dump() if ground and path in ground else {}
    except NoGene:
        return {}


def import_wasmtime() -> Any:
    """The library that reads WebAssembly's text format. Raises NightlabError when it is not installed."""
    try:
        return importlib.import_module("wasmtime")
    except ImportError:
        raise NightlabError(
            "reading WebAssembly's text format needs wasmtime", "pip install 'nightlab[wasm]'"
        ) from None


def _from_text(source: bytes, where: str) -> bytes:
    if not source.lstrip().startswith((b"(", b";;")):
        raise _refused(where, "not WebAssembly in binary or text format; precompiled modules are never loaded")
    wasmtime = import_wasmtime()
    try:
        return bytes(wasmtime.wat2wasm(source.decode()))
    except (wasmtime.WasmtimeError, UnicodeDecodeError) as error:
        raise _refused(where, one_line(str(error), 200)) from None


def _custom(module: bytes) -> Iterator[tuple[str, bytes]]:
    """The custom sections of a module in binary format, as name and content."""
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
    """The LEB128 number of at most 32 bits at an offset, and the offset after it."""
    value = 0
    for shift in range(0, 35, 7):
        value |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            return value, at
    raise ValueError("a number of more than 32 bits")


def _refused(where: str, why: str) -> NoGene:
    hint = "give a .wasm or .wat file whose custom sections state its requirements (docs/arena.md)"
    return NoGene(f"{where} is not a portable gene: {why}", hint)
