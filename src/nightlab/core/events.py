"""The events of a session's ledger: one frozen record for each kind, and how each is written as JSON.

The JSON keys are persisted, so they are never renamed. A key that an older nightlab did not write takes the field's
default, a key that a newer one added is ignored, and an event of an unknown kind or of a newer version is read as an
``UnknownEvent``, which has no effect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any, ClassVar, Self

from nightlab.core.types import (
    OMIT,
    Budget,
    Candidate,
    Evidence,
    HeldOutCheck,
    Measurement,
    NightlabError,
    PairedGain,
    Scale,
    Segment,
    Trial,
    Verdict,
    WarmStart,
)

NOT_ASKED = "not asked"  # a re-check after a change of machine: the rule had nothing to compare with


def _known(cls: type[Any], data: Mapping[str, Any]) -> dict[str, Any]:
    return {one.name: data[one.name] for one in fields(cls) if one.name in data}


def candidate_of(data: Mapping[str, Any]) -> Candidate:
    facts = _known(Candidate, data)
    return Candidate(**{**facts, "changes": tuple(facts.get("changes", ())), "theme": tuple(facts.get("theme", ()))})


def trial_of(data: Mapping[str, Any]) -> Trial:
    segment, start = data.get("segment"), data.get("warm_start")
    return Trial(
        **{
            **_known(Trial, data),
            "budget": Budget(**_known(Budget, data["budget"])),
            "segment": Segment(**_known(Segment, segment)) if segment else None,
            "warm_start": WarmStart(**_known(WarmStart, start)) if start else None,
        }
    )


def verdict_of(data: Mapping[str, Any]) -> Verdict:
    return Verdict(**_known(Verdict, data))


def evidence_of(data: Mapping[str, Any]) -> Evidence:
    others = {name: _gain(data[name]) if data.get(name) else None for name in ("held_out", "alone")}
    gains = {"gain": _gain(data["gain"]), **others}
    return Evidence(**{**_known(Evidence, data), "seeds": tuple(data["seeds"]), **gains})


def _gain(data: Mapping[str, Any]) -> PairedGain:
    facts = _known(PairedGain, data)
    return PairedGain(**{**facts, "times": tuple(facts["times"]) if facts.get("times") else None})


def _check(data: Mapping[str, Any] | None) -> HeldOutCheck | None:
    return HeldOutCheck(**_known(HeldOutCheck, data)) if data else None


def _by(read: Callable[[Any], Any]) -> dict[str, Any]:
    """Metadata of a field that ``read`` makes from JSON."""
    return {"read": read}


def _record(value: Any) -> Any:
    """A record, with the records in it, as dictionaries; without fields that are left out at their default."""
    if not is_dataclass(value) or isinstance(value, type):
        return value
    own = ((one, getattr(value, one.name)) for one in fields(value))
    return {one.name: _record(each) for one, each in own if not (one.metadata.get("omit") and each == one.default)}


@dataclass(frozen=True, slots=True)
class LedgerEvent:
    """One event. ``kind`` is its persisted name; ``schema`` is raised when the meaning of a key changes.

    ``seq`` is its number in the ledger (from 1) and ``at`` its time (seconds since the epoch): the ledger sets both,
    and they take no part in comparisons.
    """

    kind: ClassVar[str] = ""
    schema: ClassVar[int] = 1
    seq: int = field(default=0, kw_only=True, compare=False)
    at: float = field(default=0.0, kw_only=True, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """The event as it is persisted, without ``seq`` and ``at``."""
        data: dict[str, Any] = {} if self.schema == 1 else {"v": self.schema}
        own = _record(self)
        return data | {name: own[name] for name, _ in _persisted(type(self)) if name in own}  # type: ignore[arg-type]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, seq: int = 0, at: float = 0.0) -> Self:
        """The event from its persisted form. Raises KeyError, TypeError or ValueError when that is damaged."""
        given = {name: read(data[name]) for name, read in _persisted(cls) if name in data}  # type: ignore[arg-type]
        return cls(**given, seq=seq, at=at)

    @property
    def fault(self) -> str:
        """What went wrong, in words; empty for an event that tells of nothing wrong."""
        return ""


@cache
def _persisted(cls: type[Any]) -> list[tuple[str, Callable[[Any], Any]]]:
    """Of each persisted field: its name, and how it is made from JSON."""
    own = (one for one in fields(cls) if one.name not in ("seq", "at"))
    return [(one.name, one.metadata.get("read", _same)) for one in own]


def _same(value: Any) -> Any:
    return value


# -- the session and its runs ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SessionStarted(LedgerEvent):
    """The session was created. What holds for all of it.

    ``lab`` is the contract as ``lab.toml`` says it and ``source`` what it was read from; ``base`` the commit that the
    session began with; ``version`` that of nightlab; ``allowed``: protections that may be missing.
    ``secret``: what its trials' seeds and names are drawn with; empty in a session of before.
    ``imported`` says from which program's log, by file and SHA-256, where nightlab did not run the session.
    ``claim``: why the metric is only the candidate's claim, empty if it is not; None in older sessions.
    """

    kind = "session"
    tag: str = ""
    base: str = ""
    lab: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    budget: dict[str, Any] = field(default_factory=dict)
    platform: dict[str, Any] = field(default_factory=dict)
    version: str = ""
    allowed: tuple[str, ...] = field(default=(), metadata=_by(tuple))
    secret: str = field(default="", repr=False, metadata=OMIT)
    imported: dict[str, Any] | None = field(default=None, metadata=OMIT)
    claim: str | None = field(default=None, metadata=OMIT)


@dataclass(frozen=True, slots=True)
class RunStarted(LedgerEvent):
    """A process began to run the session, in this number of ``slots``.

    ``allowed``: the protections that its sandbox lacks; ``stop``: its stop rules, as ``lab.toml`` would say them.
    """

    kind = "opened"
    platform: str = ""
    allowed: tuple[str, ...] = field(default=(), metadata=_by(tuple))
    slots: int = field(default=1, metadata=_by(int))
    stop: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunStopped(LedgerEvent):
    """The run ended by itself or was stopped; after a kill there is no such event."""

    kind = "stopped"
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ContractOverridden(LedgerEvent):
    """A program opened the session with its parts in place of the contract's; they hold while it is open.

    Each part says what ``lab.toml`` would say, or the ``class`` of an object; None where the contract holds.
    ``program``: the text that proposers are told in place of ``program.md``.
    """

    kind = "overrides"
    proposers: list[dict[str, Any]] | None = field(default=None, metadata=OMIT)
    judge: dict[str, Any] | None = field(default=None, metadata=OMIT)
    search: dict[str, Any] | None = field(default=None, metadata=OMIT)
    program: str | None = field(default=None, metadata=OMIT)


@dataclass(frozen=True, slots=True)
class OrderTaken(LedgerEvent):
    """An order of the user was taken up. ``place``: where it ends in the file of orders, in bytes.

    ``refused``: why it can't be followed; empty where it is.
    """

    kind = "order"
    order: str
    place: int = 0
    refused: str = ""


# -- experiments -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Proposed(LedgerEvent):
    """A candidate became experiment ``number``."""

    kind = "proposed"
    number: int
    candidate: Candidate = field(metadata=_by(candidate_of))


@dataclass(frozen=True, slots=True)
class ProposalRefused(LedgerEvent):
    """A proposer's turn became no experiment. ``source``: the entry of its queue, if it has one."""

    kind = "refused"
    proposer: str = ""
    source: str = ""
    hypothesis: str = ""
    reason: str = ""
    usage: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrialStarted(LedgerEvent):
    """A trial is about to start."""

    kind = "started"
    trial: Trial

    def to_dict(self) -> dict[str, Any]:
        return dict(_record(self.trial))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, seq: int = 0, at: float = 0.0) -> Self:
        return cls(trial_of(data), seq=seq, at=at)


@dataclass(frozen=True, slots=True)
class TrialFinished(LedgerEvent):
    """The trial ``id`` ended, however it did."""

    kind = "finished"
    id: str
    measurement: Measurement = field(metadata=_by(Measurement.from_dict))


@dataclass(frozen=True, slots=True)
class Judged(LedgerEvent):
    """An experiment got its verdict. A keep makes it the champion."""

    kind = "judged"
    number: int
    measurement: Measurement = field(metadata=_by(Measurement.from_dict))
    verdict: Verdict = field(metadata=_by(verdict_of))


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
    seeds: tuple[int, ...] = field(default=(), metadata=_by(tuple))
    values: tuple[float, ...] = field(default=(), metadata=_by(tuple))
    after: int = 0
    would: str = NOT_ASKED
    sigma: float = 0.0
    look: HeldOutCheck | None = field(default=None, metadata=_by(_check) | OMIT)


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
    evidence: Evidence = field(metadata=_by(evidence_of))


@dataclass(frozen=True, slots=True)
class ConfirmationStarted(LedgerEvent):
    """The champion is about to be confirmed on these seeds. Written first, so that each look counts as one."""

    kind = "look"
    number: int
    seeds: tuple[int, ...] = field(default=(), metadata=_by(tuple))


@dataclass(frozen=True, slots=True)
class PopulationStarted(LedgerEvent):
    """A population begins to train, numbered from 1: ``members``, in this number of ``parts`` each.

    Its genome is that of the experiment ``number``, with other values of ``constants``, drawn with ``seed``.
    """

    kind = "population"
    population: int
    number: int
    members: int
    parts: int
    constants: tuple[str, ...] = field(default=(), metadata=_by(tuple))
    seed: int = 0


@dataclass(frozen=True, slots=True)
class PopulationEnded(LedgerEvent):
    """A population has trained: its best ``member`` ended with the trial ``winner``, whose genome is its schedule.

    ``schedule``: by constant, the values over training; ``source``: the id under which that was handed in as a
    candidate, empty where it is what the population began with. ``trained``: seconds of training of all members, and
    ``budgets``: how many whole trainings that is. ``history``: the trials that the winner's training went through.
    """

    kind = "population ended"
    population: int
    member: int
    winner: str
    source: str = ""
    schedule: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    trained: float = 0.0
    budgets: float = 0.0
    history: tuple[str, ...] = field(default=(), metadata=_by(tuple))


@dataclass(frozen=True, slots=True)
class FindingVerified(LedgerEvent):
    """A finding of ``author``'s was measured here, as experiment ``number``.

    ``target`` is the finding's id and ``parent`` the id of the genome it was measured against; ``elsewhere``: not the
    genome it was made on. ``runs`` and ``against`` are the values by seed of both. ``claimed`` is the gain of what of
    it was new here, by its author's numbers; ``gain`` was measured here; ``short`` and ``shown``: by how many standard
    errors it is below the claim, and above nothing. ``doubt``: the commit on which the finding should be measured once
    more.
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


@dataclass(frozen=True, slots=True)
class SharesMoved(LedgerEvent):
    """After ``since`` experiments without a keep, these of the proposers that wait for a plateau take part."""

    kind = "shares"
    since: int = 0
    proposers: tuple[str, ...] = field(default=(), metadata=_by(tuple))


# -- the machine, and what went wrong ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Alarm(LedgerEvent):
    """The session's numbers should be trusted less than before: why."""

    kind = "alarm"
    words: str = ""

    @property
    def fault(self) -> str:
        return self.words


@dataclass(frozen=True, slots=True)
class MachineChanged(LedgerEvent):
    """The first ``since`` trials ran on a machine with which later ones don't compare."""

    kind = "machine"
    since: int = field(default=0, metadata=_by(int))
    why: str = ""

    @property
    def fault(self) -> str:
        return self.why


@dataclass(frozen=True, slots=True)
class SlotLost(LedgerEvent):
    """A slot's accelerator failed; the slot is used no more."""

    kind = "slot lost"
    slot: int = 0
    why: str = ""

    @property
    def fault(self) -> str:
        return self.why


@dataclass(frozen=True, slots=True)
class SlotsMeasured(LedgerEvent):
    """How fast each slot is while all work, as a share of its speed alone. ``slots`` describes them."""

    kind = "slots"
    slots: str = ""
    speed: float = 1.0


@dataclass(frozen=True, slots=True)
class ClusterWaits(LedgerEvent):
    """No trial can start on the cluster for now: why."""

    kind = "cluster"
    why: str = ""

    @property
    def fault(self) -> str:
        return self.why


@dataclass(frozen=True, slots=True)
class HookEnded(LedgerEvent):
    """A hook ran for an experiment. ``judged_at``: when that was judged; ``said``: what the hook printed.

    ``fault``: what went wrong, in words; empty where nothing did.
    """

    number: int
    judged_at: float | None = None
    fault: str = ""
    said: str = ""


class HookBefore(HookEnded):
    """The hook ``before`` failed."""

    kind = "hook before"


class HookAfter(HookEnded):
    """The hook ``after`` ended."""

    kind = "hook after"


@dataclass(frozen=True, slots=True)
class NotificationFailed(LedgerEvent):
    """A notification did not get out by the channel ``by``."""

    kind = "not told"
    by: str = ""
    why: str = ""


# -- by kind -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UnknownEvent(LedgerEvent):
    """An event that a newer nightlab wrote. It has no effect and stays in the ledger."""

    name: str
    data: Mapping[str, Any]


EVENTS: dict[str, type[LedgerEvent]] = {
    cls.kind: cls
    for cls in (
        SessionStarted, RunStarted, RunStopped, ContractOverridden, OrderTaken, Proposed, ProposalRefused, TrialStarted,
        TrialFinished, Judged, Rechecked, ScaleFound, EvidenceShown, ConfirmationStarted, FindingVerified, Alarm,
        SharesMoved, PopulationStarted, PopulationEnded, MachineChanged, SlotLost, SlotsMeasured, ClusterWaits,
        HookBefore, HookAfter, NotificationFailed,
    )
}  # fmt: skip


def event_of(kind: str, data: Mapping[str, Any], seq: int, at: float) -> LedgerEvent:
    """An event from its row in the ledger. Raises NightlabError when it is damaged."""
    cls = EVENTS.get(kind)
    if cls is None or data.get("v", 1) > cls.schema:
        return UnknownEvent(kind, data, seq=seq, at=at)
    try:
        return cls.from_dict(data, seq=seq, at=at)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NightlabError(
            f"event {seq} of the ledger ({kind}) can't be read: {error}",
            "restore the ledger from a backup, or start a new session: nightlab run --tag NEW",
        ) from error
