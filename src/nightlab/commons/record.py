"""The record of the commons: canonical JSON (RFC 8785), named by its SHA-256, signed by its author with Ed25519.

``parse_record`` reads untrusted bytes: it returns a fully valid record, or raises Rejected with the reason.
docs/commons.md describes the format, ``record.schema.json`` is its JSON Schema.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from nightlab.commons.canonical import EXACT, canonical_json, digest, import_library, read_json
from nightlab.commons.fields import (
    Hash,
    Instant,
    Name,
    Number,
    Part,
    Positive,
    RecordModel,
    Requires,
    Seed,
    Signature,
    Size,
    Words,
)
from nightlab.core.source_bytes import encode_source
from nightlab.core.types import Clock, Goal, Metric, Status, average

VERSION = 1
LARGEST = 64 * 1024  # bytes of a signed record
LARGEST_PATCH = 256 * 1024  # bytes of a patch
BEFORE, AFTER = len('{"id":"","record":') + 64, len(',"signature":""}') + 128  # bytes around it in a signed one

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
    """Untrusted data that is not a valid record. ``category`` is for counting, ``str(error)`` is the message."""

    def __init__(self, category: Category, detail: str) -> None:
        super().__init__(detail)
        self.category: Category = category


class MetricRecord(RecordModel):
    """The metric, and which way is better."""

    name: Name
    goal: Goal
    unit: Name

    def gain(self, before: float, after: float) -> float:
        return _metric(self.name, self.goal).gain(before, after)


class BudgetRecord(RecordModel):
    clock: Clock
    amount: Positive


class Task(RecordModel):
    """What is measured: findings of one task compare. ``id`` is the hash of the other fields."""

    id: Hash
    frozen_sha256: Hash
    """Of the contract and the frozen files."""
    data_sha256: Hash | None
    """A fingerprint of the data folders; null when there are none."""
    budget: BudgetRecord
    metric: MetricRecord

    @model_validator(mode="after")
    def _named_by_the_rest(self) -> Task:
        if self.id != _task_id(self.model_dump_json(exclude={"id"})):
            raise ValueError("the task's id is not the hash of the task")
        return self

    def differs_from(self, other: Task) -> set[str]:
        """The fields, but the id, that are not the same."""
        return {name for name in type(self).model_fields if getattr(self, name) != getattr(other, name)} - {"id"}


class PlatformRecord(RecordModel):
    """The platform of the measurements."""

    device: Literal["cuda", "mps", "cpu"]
    accelerator: Name
    processor: Name
    cores: Annotated[int, Field(ge=1, lt=EXACT)]
    system: Name
    python: Name


class Patch(RecordModel):
    """A unified patch with paths relative to the lab, stored beside the record in its commit."""

    git: Annotated[str, Field(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")]
    sha256: Hash
    bytes: Annotated[int, Field(gt=0, le=LARGEST_PATCH)]


class Run(RecordModel):
    seed: Seed
    value: Number
    standard_error: Size = 0.0
    """Of the value, as its lab states it; left out if it does not."""


Runs = Annotated[list[Run], Field(max_length=200)]
MOST_STEPS = 20
Steps = Annotated[list[Hash], Field(max_length=MOST_STEPS)]


class RecordHeader(RecordModel):
    """Fields of every record. ``seq`` counts its author's records from 0; ``prev`` is the id of the last one."""

    v: Literal[1]
    author: Hash
    seq: Annotated[int, Field(ge=0, lt=EXACT)]
    prev: Hash | None
    at: Instant

    @field_validator("v", mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        if isinstance(value, bool):  # True equals 1 in Python
            raise ValueError("the version is a number")
        return value


class Finding(RecordHeader):
    """An experiment in portable form, successful or not."""

    kind: Literal["finding"]
    task: Task
    portable: Annotated[list[Part], Field(max_length=2)]
    """The parts of the task that may differ without invalidating the finding, as its author expects."""
    platform: PlatformRecord
    parent: Hash
    """The genome that the patch applies to, by ``genome_id``."""
    genome: Hash
    """The genome that results from the patch."""
    patch: Patch
    hypothesis: Words
    changes: Annotated[list[Words], Field(max_length=20)]
    """The resolved changes, e.g. of constants, as text."""
    status: Status
    reason: Name
    runs: Runs
    against: Runs
    """The parent's runs, with the same seeds if the rule compares on the same seeds."""
    requires: Requires
    inspired_by: Steps
    without: Steps = Field(default=[])
    """Findings whose steps were taken out of the parent; left out if there were none."""
    metric_claim: Name = ""
    """Why the metric is only the candidate's claim; left out if a separate process computed it."""

    @property
    def claimed(self) -> float:
        """The claimed gain: over the seeds that both sides have, else of the means; 0 without runs."""
        return gain(self.task.metric, self.runs, self.against)


class Verification(RecordHeader):
    """One lab's result of measuring another lab's finding."""

    kind: Literal["verification"]
    target: Hash
    task: Hash
    platform: PlatformRecord
    parent: Hash
    """The genome that the verifying lab applied it to."""
    verdict: Literal["confirmed", "refuted", "inconclusive"]
    detail: Words
    adopted: bool
    runs: Runs
    against: Runs
    sigma: Size
    """The seed-to-seed noise of one trial in the verifying lab."""
    metric_claim: Name = ""
    """As in a finding, of the verifying lab."""
    along: Steps = Field(default=[])
    """The findings that led to the target, whose steps it brought along; left out if there were none."""
    beside: Steps = Field(default=[])
    """Other findings that were tried in the same trial; left out if there were none."""
    without: Steps = Field(default=[])
    """As in a finding."""

    @property
    def alone(self) -> bool:
        """Whether the target was measured by itself, so that the result says something of it and its author."""
        return not (self.beside or self.without)


class Retraction(RecordHeader):
    """An author's withdrawal of a finding."""

    kind: Literal["retraction"]
    target: Hash
    why: Words


class Threat(RecordHeader):
    """A warning that a finding behaved maliciously. One author's warning alone has no effect."""

    kind: Literal["threat"]
    target: Hash
    category: Literal["tampering", "leak", "escape"]
    evidence_sha256: Hash | None
    detail: Words


class Transfer(RecordHeader):
    """What a finding's genome gained over its lab's baseline in another setting, with a 95 % interval."""

    kind: Literal["transfer"]
    target: Hash
    setting: Words
    budget: BudgetRecord | None
    """The setting, where it is another budget and nothing else."""
    platform: PlatformRecord
    gain: Number
    low: Number
    high: Number
    pairs: Annotated[int, Field(ge=1, lt=EXACT)]


class Revocation(RecordHeader):
    """A key's withdrawal, signed with that key. Any author may publish it, so it does not need the key's own chain."""

    kind: Literal["revocation"]
    key: Hash
    """The author whose key it is."""
    since: Annotated[int, Field(ge=0, lt=EXACT)]
    """The ``seq`` from which that author's records have no weight; the earlier ones stay."""
    proof: Signature
    """Of the canonical ``{"revoked": key, "since": since}``, by the key itself."""


AnyRecord = Finding | Verification | Retraction | Threat | Transfer | Revocation
Record = Annotated[AnyRecord, Field(discriminator="kind")]
RECORD: TypeAdapter[AnyRecord] = TypeAdapter(Record)


class Signed(RecordModel):
    """A record with its id and its author's signature: the form that is stored and sent."""

    id: Hash
    record: Record
    signature: Signature


def record_schema() -> dict[str, Any]:
    """The JSON Schema of a signed record."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Signed.model_json_schema()}


def gain(metric: MetricRecord, runs: list[Run], against: list[Run]) -> float:
    """The gain of ``runs`` over ``against``: mean over the seeds that both have, else difference of means.

    0 without runs, and where the result is not finite.
    """
    before = {run.seed: run.value for run in against}
    pairs = [(before[run.seed], run.value) for run in runs if run.seed in before]
    if not pairs and runs and against:
        pairs = [(average([run.value for run in against]), average([run.value for run in runs]))]
    if not pairs:
        return 0.0
    found = average([metric.gain(one, other) for one, other in pairs])
    return found if math.isfinite(found) else 0.0


@lru_cache(16)
def _metric(name: str, goal: Goal) -> Metric:
    return Metric(name, goal)


# -- creating ----------------------------------------------------------------------------------------


def task_id(facts: dict[str, Any]) -> str:
    return digest(facts)


@lru_cache(64)
def _task_id(facts: str) -> str:
    """The same, of JSON: a commons has few tasks, and each of its records is read many times."""
    return task_id(json.loads(facts))


def genome_id(genome: dict[str, str]) -> str:
    """The id of a genome: the hash of its files' texts, by path."""
    return digest({path: hashlib.sha256(encode_source(text)).hexdigest() for path, text in genome.items()})


def author_of(key: Any) -> str:
    """The author's id for a private key: the public key in hexadecimal."""
    return bytes(key.public_key().public_bytes_raw()).hex()


def sign(record: AnyRecord, key: Any) -> Signed:
    """Sign a record with the private key of the author that it names."""
    name = hashlib.sha256(canonical_json(record.model_dump(mode="json", exclude_unset=True))).digest()
    return Signed(id=name.hex(), record=record, signature=bytes(key.sign(name)).hex())


def revoke(key: Any, since: int) -> dict[str, Any]:
    """The body of a revocation of this private key, but for its time."""
    author = author_of(key)
    return {"kind": "revocation", "key": author, "since": since, "proof": key.sign(_revoked(author, since)).hex()}


def _revoked(author: str, since: int) -> bytes:
    return hashlib.sha256(canonical_json({"revoked": author, "since": since})).digest()


def encode_record(signed: Signed) -> bytes:
    return canonical_json(signed.model_dump(mode="json", exclude_unset=True))  # optional fields left out stay out


# -- reading -----------------------------------------------------------------------------------------


def parse_record(raw: bytes) -> Signed:
    """The signed record in these bytes. Raises Rejected if they are not exactly one valid record."""
    if len(raw) > LARGEST:
        raise Rejected("oversized", f"a record of {len(raw):,} bytes; the limit is {LARGEST:,}")
    value = _json(raw)
    if not isinstance(value, dict) or not isinstance(value.get("record"), dict):
        raise Rejected("wrong schema", "not a signed record")
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
        if canonical_json(value) != raw:
            raise Rejected("not canonical", "its bytes are not the canonical form of its content")
        name = bytes.fromhex(hash_in(raw))  # of canonical bytes, because the whole is
    except ValueError as error:
        raise Rejected("malformed", str(error)[:200]) from None
    if name.hex() != signed.id:
        raise Rejected("wrong id", f"its id is {signed.id[:12]}…, the hash of its record is {name.hex()[:12]}…")
    record = signed.record
    verify(record.author, name, bytes.fromhex(signed.signature))
    if isinstance(record, Revocation):
        verify(record.key, _revoked(record.key, record.since), bytes.fromhex(record.proof))
    return signed


def hash_in(raw: bytes) -> str:
    """The hash of the record in the canonical bytes of a signed one: its id, if they are unchanged."""
    return hashlib.sha256(raw[BEFORE:-AFTER]).hexdigest()


def verify(author: str, name: bytes, signature: bytes) -> None:
    """Check that the author signed ``name``. Raises Rejected if not."""
    keys = import_library("cryptography.hazmat.primitives.asymmetric.ed25519")
    try:
        keys.Ed25519PublicKey.from_public_bytes(bytes.fromhex(author)).verify(signature, name)
    except (import_library("cryptography.exceptions").InvalidSignature, ValueError):
        raise Rejected("wrong signature", f"not signed by author {author[:12]}…") from None


def check_patch(finding: Finding, patch: bytes) -> str:
    """The text of a finding's patch. Raises Rejected if it is not the patch that the record names."""
    if len(patch) != finding.patch.bytes or hashlib.sha256(patch).hexdigest() != finding.patch.sha256:
        raise Rejected("wrong patch", "the patch is not the one that the record names")
    try:
        return patch.decode()
    except UnicodeDecodeError:
        raise Rejected("wrong patch", "the patch is not UTF-8 text") from None


def _json(raw: bytes) -> Any:
    try:
        return read_json(raw)
    except (ValueError, RecursionError) as error:
        raise Rejected("malformed", f"not JSON: {re.sub(r'[^ -~]', '?', str(error))[:200]}") from None
