"""The session, its runs, and its proposers' turns that became no experiment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nightlab.core.events.base import LedgerEvent, from_json
from nightlab.core.types import OMIT


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
    allowed: tuple[str, ...] = field(default=(), metadata=from_json(tuple))
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
    allowed: tuple[str, ...] = field(default=(), metadata=from_json(tuple))
    slots: int = field(default=1, metadata=from_json(int))
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
class ContractChanged(LedgerEvent):
    """``lab.toml`` was changed in parts that no measurement depends on; it holds from here on.

    ``parts``: those parts, as ``lab.toml`` says them now. ``number``: the next experiment's.
    """

    kind = "contract"
    parts: dict[str, Any] = field(default_factory=dict)
    number: int = 0


@dataclass(frozen=True, slots=True)
class OrderTaken(LedgerEvent):
    """An order of the user was taken up. ``place``: where it ends in the file of orders, in bytes.

    ``refused``: why it can't be followed; empty where it is.
    """

    kind = "order"
    order: str
    place: int = 0
    refused: str = ""


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
class SharesMoved(LedgerEvent):
    """After ``since`` experiments without a keep, these of the proposers that wait for a plateau take part."""

    kind = "shares"
    since: int = 0
    proposers: tuple[str, ...] = field(default=(), metadata=from_json(tuple))
