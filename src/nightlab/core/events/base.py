"""What every event has: how it is written as JSON, and read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any, ClassVar, Self


def from_json(read: Callable[[Any], Any]) -> dict[str, Any]:
    """Metadata of a field that ``read`` makes from JSON."""
    return {"read": read}


def as_json(value: Any) -> Any:
    """A record, with the records in it, as dictionaries; without fields that are left out at their default."""
    if not is_dataclass(value) or isinstance(value, type):
        return value
    own = ((one, getattr(value, one.name)) for one in fields(value))
    return {one.name: as_json(each) for one, each in own if not (one.metadata.get("omit") and each == one.default)}


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
        own = as_json(self)
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
