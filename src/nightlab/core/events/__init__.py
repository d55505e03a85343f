"""The events of a session's ledger: one frozen record for each kind, and how each is written as JSON.

The JSON keys are persisted, so they are never renamed. A key that an older nightlab did not write takes the field's
default, a key that a newer one added is ignored, and an event of an unknown kind or of a newer version is read as an
``UnknownEvent``, which has no effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nightlab.core.events.base import LedgerEvent
from nightlab.core.events.experiments import (
    NOT_ASKED,
    ConfirmationStarted,
    EvidenceShown,
    FindingVerified,
    Judged,
    Proposed,
    Rechecked,
    ScaleFound,
    TrialFinished,
    TrialStarted,
)
from nightlab.core.events.machine import (
    Alarm,
    ClusterWaits,
    HookAfter,
    HookBefore,
    HookEnded,
    MachineChanged,
    NotificationFailed,
    SlotLost,
    SlotsMeasured,
)
from nightlab.core.events.populations import PopulationEnded, PopulationStarted
from nightlab.core.events.records import candidate_of, evidence_of, trial_of, verdict_of
from nightlab.core.events.session import (
    ContractChanged,
    ContractOverridden,
    OrderTaken,
    ProposalRefused,
    RunStarted,
    RunStopped,
    SessionStarted,
    SharesMoved,
)
from nightlab.core.types import NightlabError

__all__ = [
    "EVENTS",
    "NOT_ASKED",
    "Alarm",
    "ClusterWaits",
    "ConfirmationStarted",
    "ContractChanged",
    "ContractOverridden",
    "EvidenceShown",
    "FindingVerified",
    "HookAfter",
    "HookBefore",
    "HookEnded",
    "Judged",
    "LedgerEvent",
    "MachineChanged",
    "NotificationFailed",
    "OrderTaken",
    "PopulationEnded",
    "PopulationStarted",
    "ProposalRefused",
    "Proposed",
    "Rechecked",
    "RunStarted",
    "RunStopped",
    "ScaleFound",
    "SessionStarted",
    "SharesMoved",
    "SlotLost",
    "SlotsMeasured",
    "TrialFinished",
    "TrialStarted",
    "UnknownEvent",
    "candidate_of",
    "event_of",
    "evidence_of",
    "trial_of",
    "verdict_of",
]


@dataclass(frozen=True, slots=True)
class UnknownEvent(LedgerEvent):
    """An event that a newer nightlab wrote. It has no effect and stays in the ledger."""

    name: str
    data: Mapping[str, Any]


EVENTS: dict[str, type[LedgerEvent]] = {
    cls.kind: cls
    for cls in (
        SessionStarted, RunStarted, RunStopped, ContractOverridden, ContractChanged, OrderTaken, Proposed,
        ProposalRefused, TrialStarted,
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
