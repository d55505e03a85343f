"""Types of the fields of records, and what a finding's trial requires."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from nightlab.commons.canonical import EXACT

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


class GeneNeeds(RecordModel):
    """What a WebAssembly gene requires, from its custom sections."""

    domain: Name
    memory_bytes: Annotated[int, Field(gt=0, lt=EXACT)]
    fuel: Annotated[int, Field(gt=0, lt=EXACT)]
    """Per unit of its task."""
    imports: Annotated[list[Name], Field(max_length=50)]
    optional: Annotated[list[Name], Field(max_length=50)]
    """Host functions that it can do without."""


class Requires(RecordModel):
    """What a trial requires. Sizes in MB, 0 where not measured."""

    devices: Annotated[list[Literal["cuda", "mps", "cpu"]], Field(max_length=3)]
    memory_mb: Size
    gpu_memory_mb: Size
    dtypes: Annotated[list[Name], Field(max_length=20)]
    libraries: Annotated[dict[Name, Name], Field(max_length=40)]
    """Versions, by the import names of the libraries; empty where the version is unknown."""
    genes: Annotated[dict[Name, GeneNeeds], Field(max_length=20)] = {}
    """Per genome file; left out if no file is a gene."""
    licences: Annotated[list[Name], Field(max_length=20)] = []
    """Licences that a user must have, e.g. of a solver or of data; left out if none."""
