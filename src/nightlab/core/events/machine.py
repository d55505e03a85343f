"""The machine, and what went wrong."""

from __future__ import annotations

from dataclasses import dataclass, field

from nightlab.core.events.base import LedgerEvent, from_json


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
    since: int = field(default=0, metadata=from_json(int))
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
