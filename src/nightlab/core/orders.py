"""The orders that a user gives to a session, as text, and what they come to."""

from __future__ import annotations

from dataclasses import dataclass, replace

from nightlab.core.text import one_line

PAUSE, RESUME, SKIP, PIN, UNPIN = "pause", "resume", "skip", "pin", "unpin"
NUMBERS = 9  # digits of an experiment's number, at most


def parse_order(order: str) -> tuple[str, int | None]:
    """An order's word and its number, if it takes one. Raises ValueError for what is none."""
    word, *more = order.split() or [""]
    if word in (PAUSE, RESUME, UNPIN) and not more:
        return word, None
    if word in (SKIP, PIN) and len(more) == 1 and more[0].isdecimal() and len(more[0]) <= NUMBERS:
        return word, int(more[0])
    raise ValueError(f"{one_line(order, 80)!r} is no order")


@dataclass(frozen=True, slots=True)
class ControlState:
    """What orders come to. ``paused``: nothing new starts; ``pinned``: the experiment that proposals start from."""

    paused: bool = False
    pinned: int | None = None

    def and_then(self, order: str) -> ControlState:
        """After another order; what is no order changes nothing."""
        try:
            word, number = parse_order(order)
        except ValueError:
            return self
        if word in (PAUSE, RESUME):
            return replace(self, paused=word == PAUSE)
        return replace(self, pinned=number) if word in (PIN, UNPIN) else self
