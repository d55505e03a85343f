"""Experiments: proposed, tried, judged, measured again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from nightlab.core.events.base import LedgerEvent, as_json, from_json
from nightlab.core.events.records import candidate_of, check_of, evidence_of, trial_of, verdict_of
from nightlab.core.types import OMIT, Candidate, Evidence, HeldOutCheck, Measurement, Scale, Trial, Verdict

NOT_ASKED = "not asked"  # a re-check after a change of machine: the rule had nothing to compare with


@dataclass(frozen=True, slots=True)
class Proposed(LedgerEvent):
    """A candidate became experiment ``number``."""

    kind = "proposed"
    number: int
    candidate: Candidate = field(metadata=from_json(candidate_of))


@dataclass(frozen=True, slots=True)
class TrialStarted(LedgerEvent):
    """A trial is about to start."""

    kind = "started"
    trial: Trial

    def to_dict(self) -> dict[str, Any]:
        return dict(as_json(self.trial))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, seq: int = 0, at: float = 0.0) -> Self:
        return cls(trial_of(data), seq=seq, at=at)


@dataclass(frozen=True, slots=True)
class TrialFinished(LedgerEvent):
    """The trial ``id`` ended, however it did."""

    kind = "finished"
    id: str
    measurement: Measurement = field(metadata=from_json(Measurement.from_dict))


@dataclass(frozen=True, slots=True)
class Judged(LedgerEvent):
    """An experiment got its verdict. A keep makes it the champion."""

    kind = "judged"
    number: int
    measurement: Measurement = field(metadata=from_json(Measurement.from_dict))
    verdict: Verdict = field(metadata=from_json(verdict_of))


@dataclass(frozen=True, slots=True)
class Rechecked(LedgerEvent):
    """The champion was measured again: on fresh ``seeds``, with these ``values``. Its bar was ``before``.

    ``would`` is the status that the rule gives the unchanged champion (a keep is a false one), or ``NOT_ASKED``.
    ``after``: the number of experiments judged by then; ``sigma``: the noise of one trial, in the metric's unit.
    """

    kind = "upkeep"
    number: int
    bar: float
    before: float = 0.0
    seeds: tuple[int, ...] = field(default=(), metadata=from_json(tuple))
    values: tuple[float, ...] = field(default=(), metadata=from_json(tuple))
    after: int = 0
    would: str = NOT_ASKED
    sigma: float = 0.0
    look: HeldOutCheck | None = field(default=None, metadata=from_json(check_of) | OMIT)


@dataclass(frozen=True, slots=True)
class ScaleFound(LedgerEvent):
    """How two values of the metric are compared from now on, and why. ``final``: nothing changes it any more."""

    kind = "scale"
    scale: Scale = "difference"
    why: str = ""
    final: bool = False


@dataclass(frozen=True, slots=True)
class EvidenceShown(LedgerEvent):
    """How far the gain of an experiment has been shown."""

    kind = "evidence"
    number: int
    evidence: Evidence = field(metadata=from_json(evidence_of))


@dataclass(frozen=True, slots=True)
class ConfirmationStarted(LedgerEvent):
    """The champion is about to be confirmed on these seeds. Written first, so that each look counts as one."""

    kind = "look"
    number: int
    seeds: tuple[int, ...] = field(default=(), metadata=from_json(tuple))


@dataclass(frozen=True, slots=True)
class FindingVerified(LedgerEvent):
    """A finding of ``author``'s was measured here, as experiment ``number``.

    ``target`` is the finding's id and ``parent`` the id of the genome it was measured against; ``elsewhere``: not the
    genome it was made on. ``runs`` and ``against`` are the values by seed of both. ``claimed`` is the gain of what of
    it was new here, by its author's numbers; ``gain`` was measured here; ``short`` and ``shown``: by how many standard
    errors it is below the claim, and above nothing. ``doubt``: the commit on which the finding should be measured once
    more. ``along``: the findings that led to it. ``beside`` and ``without``: findings whose steps were added in the
    same trial, and taken out of the champion.
    """

    kind = "verified"
    number: int
    target: str
    author: str
    task: str = ""
    platform: dict[str, Any] = field(default_factory=dict)
    elsewhere: bool = False
    reason: str = ""
    parent: str = ""
    adopted: bool = False
    runs: list[dict[str, float]] = field(default_factory=list)
    against: list[dict[str, float]] = field(default_factory=list)
    sigma: float = 0.0
    verdict: str = "inconclusive"
    detail: str = ""
    gain: float | None = field(default=None, metadata=OMIT)
    short: float | None = field(default=None, metadata=OMIT)
    shown: float | None = field(default=None, metadata=OMIT)
    doubt: str | None = field(default=None, metadata=OMIT)
    claimed: float | None = field(default=None, metadata=OMIT)
    along: tuple[str, ...] = field(default=(), metadata=from_json(tuple) | OMIT)
    beside: tuple[str, ...] = field(default=(), metadata=from_json(tuple) | OMIT)
    without: tuple[str, ...] = field(default=(), metadata=from_json(tuple) | OMIT)

    @property
    def alone(self) -> bool:
        """Whether the finding was measured by itself, so that the result says something of it and its author."""
        return not (self.beside or self.without)
