"""Submissions of records, and referees' replays of them: signed JSON, checked before anything of it is used.

A submission holds both genomes as text and the id of the task, so a referee who has the lab needs nothing else: the
evaluator and the data are the referee's own.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from nightlab.commons.canonical import canonical_json
from nightlab.commons.fields import Hash, RecordModel, Signature
from nightlab.commons.record import (
    PlatformRecord,
    Rejected,
    Run,
    Task,
    genome_id,
    verify,
)
from nightlab.core.files import read_plain
from nightlab.core.types import NightlabError

LARGEST = 32 * 2**20  # bytes of a submission: two genomes as text
FILE = "nightlab.json"  # the submission in its folder
FormName = Literal["plain", "modded-nanogpt", "parameter-golf", "nanochat"]
Text = Annotated[str, Field(max_length=4000)]


class Gain(RecordModel):
    """A mean gain over paired seeds with its 95 % interval, in the metric's unit, and its one-sided p-value."""

    mean: float
    low: float
    high: float
    p: float
    margin: float = 0.0


class Threshold(RecordModel):
    """What the mean of a metric has to stay at or below, that mean, and the one-sided p-value that it does."""

    name: Text
    limit: float
    mean: float
    p: float


class Genome(RecordModel):
    """A genome: the texts of its files by path, and what it is."""

    name: Text
    id: Hash
    files: dict[str, str]


class Statement(RecordModel):
    """What its author measured: a candidate's runs beside those of the record before it, on the same machine."""

    v: Literal[1] = 1
    author: Hash
    at: str
    platform: PlatformRecord
    libraries: dict[str, str]
    against: list[Run]
    runs: list[Run]
    gain: Gain
    claim: Text = ""
    threshold: Threshold | None = None


class Submission(Statement):
    """A genome and the record before it, measured in turn, on seeds that no decision used."""

    kind: Literal["submission"] = "submission"
    form: FormName
    task: Task
    record: Genome
    candidate: Genome


class Replay(Statement):
    """What a referee measured of a submission, on the referee's own machine and seeds."""

    kind: Literal["replay"] = "replay"
    target: Hash
    task: Hash


class SignedStatement(RecordModel):
    id: Hash
    statement: Annotated[Submission | Replay, Field(discriminator="kind")]
    signature: Signature


def sign_statement(statement: Submission | Replay, key: Any) -> SignedStatement:
    """Sign with the private key of the author that it names."""
    name = _digest(statement)
    return SignedStatement(id=name.hex(), statement=statement, signature=bytes(key.sign(name)).hex())


def write_statement(path: Path, signed: SignedStatement) -> None:
    path.write_text(json.dumps(signed.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_statement(path: Path) -> SignedStatement:
    """A signed statement. Raises NightlabError where it can't be read, was changed, or is not signed by its author."""
    hint = "ask its author for the folder again"
    try:
        signed = SignedStatement.model_validate_json(read_plain(path, LARGEST))
        name = _digest(signed.statement)
        if name.hex() != signed.id:
            raise Rejected("wrong id", "it was changed after it was signed")
        verify(signed.statement.author, name, bytes.fromhex(signed.signature))
        if isinstance(signed.statement, Submission):
            for genome in (signed.statement.record, signed.statement.candidate):
                if genome_id(genome.files) != genome.id:
                    raise Rejected("wrong id", f"the genome {genome.name!r} is not the one that its id names")
    except OSError as error:
        raise NightlabError(f"{path}: {error.strerror}", "give the folder that nightlab submit wrote") from None
    except (ValidationError, ValueError, Rejected) as error:
        said = str(error).splitlines()[0][:200]
        raise NightlabError(f"{path} is no valid submission: {said}", hint) from None
    return signed


def _digest(statement: Statement) -> bytes:
    facts = statement.model_dump(mode="json")
    if statement.threshold is None:  # a field that statements of before lack
        del facts["threshold"]
    return hashlib.sha256(canonical_json(facts)).digest()
