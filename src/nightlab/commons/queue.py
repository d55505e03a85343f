"""Which of others' findings is measured next. Pure.

Method: by the product of what is claimed (clipped), how far its author is trusted, how much of it is still to be
gained here, and how new it is; and one of each author in a round. Without clipping, quarantine and rounds whoever
claims most is measured for ever: a prototype spent 65 of 73 verifications on a liar.

Names cost nothing. So all who have shown nothing here share one part of the turns, and among them lots are drawn, for
whatever else they could be ordered by a crowd of new names can have more of than anybody.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from nightlab.commons.capability import Compatibility
from nightlab.commons.record import Finding

Turn = Literal["first", "last", "never"]

ROUND = 4  # authors at most, so that none waits for a crowd
NEWCOMERS = 0.25  # of the turns for others' findings: what all who have shown nothing here can spend in vain
IDLE = 0.75  # the same, where nobody who has shown something has anything to offer
FIRST = 2  # turns that they have besides, for nobody has shown anything at first
LEAST = 0.05  # of novelty and gap: a finding that looks like an old one is the last to be tried, but is tried
PARTLY = 0.5  # of the priority of what fits only partly
WORD = re.compile(r"[A-Za-z_]\w+")


@dataclass(frozen=True, slots=True)
class FindingOffer:
    """A finding that may be measured here, and how soon."""

    id: str
    finding: Finding
    priority: float
    fit: Compatibility
    proven: bool = False
    """Whether its author has shown something here."""

    @property
    def author(self) -> str:
        return self.finding.author


def in_order(
    offers: Iterable[FindingOffer], tried: Sequence[str], draw: random.Random | None = None, newcomers: Turn = "first"
) -> list[FindingOffer]:
    """The offers that may have the next turn, the best first. ``tried``: the authors of those that had one.

    Of authors who have shown nothing, one offer each, where it is the ``newcomers``' turn; ``draw`` draws the lots, by
    priority. Without it there are none, and the order says what is likely.
    """
    offers = sorted(offers, key=lambda offer: (-offer.priority, offer.id))
    proven = [offer for offer in offers if offer.proven]
    had: set[str] = set()
    for author in tried:
        had = {author} if author in had or len(had) == ROUND else had | {author}
    fresh = [offer for offer in proven if offer.author not in had] if len(had) < ROUND else []
    known = fresh or proven
    if newcomers == "never":
        return known
    drawn = _drawn([offer for offer in offers if not offer.proven], draw)
    return drawn + known if newcomers == "first" else known + drawn


def turn_of_newcomers(unproven: int, turns: float) -> Turn:
    """When those may go who have shown nothing here, of whom ``unproven`` had one, of ``turns`` for others' findings.

    Whoever shows something is not among them any more: only what was spent in vain counts.
    """
    if unproven + 1 <= FIRST + NEWCOMERS * turns:
        return "first"
    return "last" if unproven + 1 <= FIRST + IDLE * turns else "never"


def _drawn(offers: Sequence[FindingOffer], draw: random.Random | None) -> list[FindingOffer]:
    """The best offer of each author, in an order that is drawn: the first is one by its share of all priorities.

    Method: sampling without replacement by exponential keys (Efraimidis and Spirakis 2006).
    """
    best: dict[str, FindingOffer] = {}
    for offer in offers:
        if offer.priority > 0:
            best.setdefault(offer.author, offer)
    keys = {name: draw.expovariate(1.0) if draw else 1.0 for name in best}
    return sorted(best.values(), key=lambda offer: keys[offer.author] / offer.priority)


def words(changes: Iterable[str], hypothesis: str) -> frozenset[str]:
    return frozenset(WORD.findall(" ".join([*changes, hypothesis]).lower()))


def novelty(finding: Finding, tried: Iterable[frozenset[str]]) -> float:
    """One less the largest share of words that it has in common with something that was tried here."""
    mine = words(finding.changes, finding.hypothesis)
    alike = (len(mine & other) / len(mine | other) for other in tried if mine | other)
    return max(1 - max(alike, default=0.0), LEAST)
