"""The record of the commons: canonical JSON (RFC 8785), its SHA-256 its name, signed with Ed25519 by its author.

A record is read from a stranger: ``parse`` takes any bytes and gives a record, every one of whose bytes is as it
must be, or says why not. docs/commons.md describes the format, ``record.schema.json`` is its JSON Schema.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from nightlab.core.types import Clock, Goal, Metric, NightlabError, Status, average

VERSION = 1
LARGEST = 64 * 1024  # bytes of a record
LARGEST_PATCH = 256 * 1024
EXACT = 2**53  # integers from here on are floats to JSON

Category = Literal[
    "oversized",
    "malformed",
    "future version",
    "wrong schema",
    "not canonical",
    "wrong id",
    "wrong signature",
    "wrong author",
    "wrong commit",
    "wrong patch",
    "wrong requirements",
    "outside the genome",
    "replayed",
    "broken chain",
    "rewritten",
    "rolled back",
]


class Rejected(Exception):
    """Something from a stranger that is no record. ``category`` is for counting, ``str(error)`` for people."""

    def __init__(self, category: Category, detail: str) -> None:
        super().__init__(detail)
        self.category: Category = category


Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Signature = Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]
Instant = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$")]
Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(allow_inf_nan=False, gt=0)]
Size = Annotated[float, Field(allow_inf_nan=False, ge=0)]
Name = Annotated[str, Field(max_length=120)]
Words = Annotated[str, Field(max_length=400)]
Seed = Annotated[int, Field(ge=0, lt=EXACT)]
Part = Literal["budget", "data"]


class RecordModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class MetricRecord(RecordModel):
    """What is measured, and which way is better."""

    name: Name
    goal: Goal
    unit: Name

    def gain(self, before: float, after: float) -> float:
        return Metric(self.name, self.goal).gain(before, after)


class BudgetRecord(RecordModel):
    clock: Clock
    amount: Positive


class Task(RecordModel):
    """Within which findings can be measured against each other. ``id`` is the hash of all the rest."""

    id: Hash
    frozen_sha256: Hash
    """Of the contract and the frozen files."""
    data_sha256: Hash | None
    """A fingerprint of the data folders; null when there are none."""
    budget: BudgetRecord
    metric: MetricRecord

    @model_validator(mode="after")
    def _named_by_the_rest(self) -> Task:
        if self.id != task_id(self.model_dump(mode="json", exclude={"id"})):
            raise ValueError("the task's id is not the hash of the task")
        return self


class PlatformRecord(RecordModel):
    """On what it was measured."""

    device: Literal["cuda", "mps", "cpu"]
    accelerator: Name
    processor: Name
    cores: Annotated[int, Field(ge=1, lt=EXACT)]
    system: Name
    python: Name


class Patch(RecordModel):
    """A unified patch, with paths relative to the lab, beside the record in its commit."""

    git: Annotated[str, Field(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")]
    sha256: Hash
    bytes: Annotated[int, Field(gt=0, le=LARGEST_PATCH)]


class Run(RecordModel):
    seed: Seed
    value: Number


Runs = Annotated[list[Run], Field(max_length=200)]


class GeneNeeds(RecordModel):
    """What a gene in WebAssembly asks for, as its custom sections say."""

    domain: Name
    memory_bytes: Annotated[int, Field(gt=0, lt=EXACT)]
    fuel: Annotated[int, Field(gt=0, lt=EXACT)]
    """For each unit of its task."""
    imports: Annotated[list[Name], Field(max_length=50)]
    optional: Annotated[list[Name], Field(max_length=50)]
    """Host functions that it can do without."""


class Requires(RecordModel):
    """What a trial of it needs. Sizes in MB, 0 where nothing was measured."""

    devices: Annotated[list[Literal["cuda", "mps", "cpu"]], Field(max_length=3)]
    memory_mb: Size
    gpu_memory_mb: Size
    dtypes: Annotated[list[Name], Field(max_length=20)]
    libraries: Annotated[dict[Name, Name], Field(max_length=40)]
    """Versions by the names that Python imports them by; empty where the version is not known."""
    genes: Annotated[dict[Name, GeneNeeds], Field(max_length=20)] = {}
    """Of its genome's files; left out where none is a gene."""


class RecordHeader(RecordModel):
    """What every record says. ``seq`` counts its author's records from 0, ``prev`` is the id of the one before."""

    v: Literal[1]
    author: Hash
    seq: Annotated[int, Field(ge=0, lt=EXACT)]
    prev: Hash | None
    at: Instant

    @field_validator("v", mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        if isinstance(value, bool):  # which to Python is 1
            raise ValueError("the version is a number")
        return value


class Finding(RecordHeader):
    """An experiment made portable; one that failed too."""

    kind: Literal["finding"]
    task: Task
    portable: Annotated[list[Part], Field(max_length=2)]
    """In what else than this very task its author expects it to hold."""
    platform: PlatformRecord
    parent: Hash
    """The genome that the patch was made on, by ``genome_id``."""
    genome: Hash
    """The genome that it makes of that one."""
    patch: Patch
    hypothesis: Words
    changes: Annotated[list[Words], Field(max_length=20)]
    """What it changes, as resolved from the texts."""
    status: Status
    reason: Name
    runs: Runs
    against: Runs
    """The parent's, with the same seeds where the rule compares on the same seeds."""
    requires: Requires
    inspired_by: Annotated[list[Hash], Field(max_length=20)]

    @property
    def claimed(self) -> float:
        """The gain that it claims: over the seeds that both have met, else of the means; 0 where it has none."""
        return gain(self.task.metric, self.runs, self.against)


class Verification(RecordHeader):
    """What one lab found when it measured another's finding."""

    kind: Literal["verification"]
    target: Hash
    task: Hash
    platform: PlatformRecord
    parent: Hash
    """The genome that it was applied to here."""
    verdict: Literal["confirmed", "refuted", "inconclusive"]
    detail: Words
    adopted: bool
    runs: Runs
    against: Runs
    sigma: Size
    """How far luck alone moves one trial here."""


class Retraction(RecordHeader):
    """An author takes back a finding of their own."""

    kind: Literal["retraction"]
    target: Hash
    why: Words


class Threat(RecordHeader):
    """A finding did something that no honest one does. It warns: nothing is done on one author's word."""

    kind: Literal["threat"]
    target: Hash
    category: Literal["tampering", "leak", "escape"]
    evidence_sha256: Hash | None
    detail: Words


Record = Annotated[Finding | Verification | Retraction | Threat, Field(discriminator="kind")]
RECORD: TypeAdapter[Finding | Verification | Retraction | Threat] = TypeAdapter(Record)


class Signed(RecordModel):
    """A record with its name and its author's signature: what is stored and sent."""

    id: Hash
    record: Record
    signature: Signature


def schema() -> dict[str, Any]:
    """The JSON Schema of a signed record."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Signed.model_json_schema()}


def gain(metric: MetricRecord, runs: list[Run], against: list[Run]) -> float:
    """How much better some runs are than others: paired by seed where they can be, else by their means.

    0 where they are so huge that no number says it.
    """
    before = {run.seed: run.value for run in against}
    pairs = [(before[run.seed], run.value) for run in runs if run.seed in before]
    if not pairs and runs and against:
        pairs = [(average([run.value for run in against]), average([run.value for run in runs]))]
    if not pairs:
        return 0.0
    found = average([metric.gain(one, other) for one, other in pairs])
    return found if math.isfinite(found) else 0.0


def library(name: str) -> Any:
    """A module of the extra ``commons``. Raises NightlabError when it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise NightlabError(f"the commons needs {name.split('.')[0]}", "pip install 'nightlab[commons]'") from None


# -- making ------------------------------------------------------------------------------------------


def canonical(value: Any) -> bytes:
    """The one form in bytes that a JSON value has. Raises ValueError for what has none, such as NaN."""
    return bytes(library("rfc8785").dumps(value))


def digest(value: Any) -> str:
    """The SHA-256 of a JSON value, in hexadecimal."""
    return hashlib.sha256(canonical(value)).hexdigest()


def task_id(facts: dict[str, Any]) -> str:
    return digest(facts)


def genome_id(genome: dict[str, str]) -> str:
    """The name of a genome: the hash of its files' texts, by path."""
    return digest({path: hashlib.sha256(text.encode()).hexdigest() for path, text in genome.items()})


def author_of(key: Any) -> str:
    """The name of the author who has this private key: the public key."""
    return bytes(key.public_key().public_bytes_raw()).hex()


def sign(record: Finding | Verification | Retraction | Threat, key: Any) -> Signed:
    """The record, signed by the private key of the author that it names."""
    name = hashlib.sha256(canonical(record.model_dump(mode="json", exclude_unset=True))).digest()
    return Signed(id=name.hex(), record=record, signature=bytes(key.sign(name)).hex())


def encode(signed: Signed) -> bytes:
    return canonical(signed.model_dump(mode="json", exclude_unset=True))  # what was left out stays so


# -- reading -----------------------------------------------------------------------------------------


def parse(raw: bytes) -> Signed:
    """The signed record in these bytes. Raises Rejected for any others."""
    if len(raw) > LARGEST:
        raise Rejected("oversized", f"a record of {len(raw):,} bytes, at most {LARGEST:,} are read")
    value = _json(raw)
    if not isinstance(value, dict) or not isinstance(value.get("record"), dict):
        raise Rejected("wrong schema", "it is no signed record")
    version = value["record"].get("v")
    if isinstance(version, int) and version > VERSION:
        raise Rejected("future version", f"version {version}; this nightlab reads {VERSION}: upgrade it")
    try:
        signed = Signed.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))[:200]
        raise Rejected("wrong schema", f"{where}: {first['msg'][:200]}") from None
    try:
        if canonical(value) != raw:
            raise Rejected("not canonical", "its bytes are not the canonical form of what they say")
        before, after = len(f'{{"id":"{signed.id}","record":'), len(f',"signature":"{signed.signature}"}}')
        name = hashlib.sha256(raw[before:-after]).digest()  # as canonical as the whole is
    except ValueError as error:
        raise Rejected("malformed", str(error)[:200]) from None
    if name.hex() != signed.id:
        raise Rejected("wrong id", f"its id is {signed.id[:12]}…, the hash of its record is {name.hex()[:12]}…")
    verify(signed.record.author, name, bytes.fromhex(signed.signature))
    return signed


def verify(author: str, name: bytes, signature: bytes) -> None:
    """Raises Rejected unless the author signed this."""
    keys = library("cryptography.hazmat.primitives.asymmetric.ed25519")
    try:
        keys.Ed25519PublicKey.from_public_bytes(bytes.fromhex(author)).verify(signature, name)
    except (library("cryptography.exceptions").InvalidSignature, ValueError):
        raise Rejected("wrong signature", f"author {author[:12]}… did not sign it") from None


def check_patch(finding: Finding, patch: bytes) -> str:
    """The text of a finding's patch. Raises Rejected unless it is the one that the record names."""
    if len(patch) != finding.patch.bytes or hashlib.sha256(patch).hexdigest() != finding.patch.sha256:
        raise Rejected("wrong patch", "the patch is not the one that the record names")
    try:
        return patch.decode()
    except UnicodeDecodeError:
        raise Rejected("wrong patch", "the patch is no text") from None


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw.decode(), parse_int=_integer, parse_constant=_constant, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise Rejected("malformed", f"it is no JSON: {re.sub(r'[^ -~]', '?', str(error))[:200]}") from None


def _integer(digits: str) -> int | float:
    """JSON has no integers beyond those that a double tells apart: what looks like one is a float."""
    if len(digits) > 310:
        raise ValueError("a number that no double holds")
    value = int(digits)
    return value if abs(value) < EXACT else float(value)


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key that comes twice")
    return found
