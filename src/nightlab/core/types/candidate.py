"""A proposed genome, and what its proposer and the others took and brought."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nightlab.core.types.basics import OMIT

BASELINE = "baseline"  # who proposed the genome that a session begins with


@dataclass(frozen=True, slots=True)
class Candidate:
    """A proposed genome: a commit on a parent, with its hypothesis and its proposer.

    ``constants`` are the genome's named constants as resolved from its text, and ``changes`` what really
    differs from the parent: both are computed, never taken from the hypothesis. ``source`` is the entry of
    the proposer's queue that it came from, if it has one. ``usage`` is what the proposer's turn took, as far as the
    proposer says: ``agent``, ``model``, ``input_tokens``, ``output_tokens``, ``cost_usd``, ``seconds``; ``waited`` are
    the seconds of it in which a slot had nothing to do. ``program`` is a hash of the program in canonical form,
    ``theme`` what the change is about: the parts of the genome that differ from the parent. ``information``: bytes
    that its program compresses to; 0 where that is not known.
    """

    commit: str
    parent: str
    tree: str
    proposer: str
    hypothesis: str
    lines: int = 0
    constants: dict[str, Any] = field(default_factory=dict)
    changes: tuple[str, ...] = ()
    source: str = ""
    usage: dict[str, Any] = field(default_factory=dict)
    program: str = ""
    theme: tuple[str, ...] = ()
    information: int = field(default=0, metadata=OMIT)


@dataclass(frozen=True, slots=True)
class ProposerUsage:
    """What proposers' turns took together, refused ones included: as far as they said, what is unknown is 0.

    ``money`` is in US dollars; of ``turns``, ``uncounted`` are those without tokens, ``unpriced`` those without a cost;
    ``waited`` are the seconds in which a slot had nothing to do meanwhile, ``requests`` those to models' endpoints.
    """

    tokens: int = 0
    money: float = 0.0
    turns: int = 0
    uncounted: int = 0
    unpriced: int = 0
    waited: float = 0.0
    requests: int = 0

    def plus(self, usage: Mapping[str, Any]) -> ProposerUsage:
        """With another turn; one without any usage was none."""
        if not usage:
            return self
        counts = [usage[name] for name in ("input_tokens", "output_tokens") if name in usage]
        return ProposerUsage(
            self.tokens + sum(counts),
            self.money + usage.get("cost_usd", 0.0),
            self.turns + 1,
            self.uncounted + (not counts),
            self.unpriced + ("cost_usd" not in usage),
            self.waited + (usage.get("waited") or 0.0),
            self.requests + usage.get("requests", 0),
        )

    def and_also(self, other: ProposerUsage) -> ProposerUsage:
        """Both together."""
        return ProposerUsage(
            self.tokens + other.tokens,
            self.money + other.money,
            self.turns + other.turns,
            self.uncounted + other.uncounted,
            self.unpriced + other.unpriced,
            self.waited + other.waited,
            self.requests + other.requests,
        )


@dataclass(frozen=True, slots=True)
class ProposerShare:
    """What one proposer had of a session: experiments, those of them that were kept, turns that became none."""

    tried: int = 0
    kept: int = 0
    failed: int = 0
    spent: ProposerUsage = field(default_factory=ProposerUsage)


@dataclass(frozen=True, slots=True)
class ProposerStats:
    """What a proposer had, and what it brought: times in seconds of a slot, ``gained`` over bars, without luck.

    ``failed``: turns that became no experiment. ``tokens`` and ``dollars`` are what it said.
    """

    name: str
    tried: int
    kept: int
    failed: int
    gained: float
    trials: float
    waited: float
    tokens: int
    dollars: float
