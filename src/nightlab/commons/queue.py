"""The order in which other labs' findings are measured. Pure.

Priority is the product of the claimed gain (clipped), the trust in its author, and its novelty; authors take turns in
rounds. Without clipping, quarantine and rounds, the author with the largest claims would get every turn: a prototype
spent 65 of 73 verifications on a liar.

New identities are free. So all authors without a confirmed claim here share one part of the turns, and lots are drawn
among them, first by how claims of that size held here, then by seniority: a crowd of new names gains nothing.
"""

from __future__ import annotations

import random
import re
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from nightlab.commons.capability import Compatibility
from nightlab.commons.record import Finding

Turn = Literal["first", "last", "never"]

ROUND = 4  # most authors in a round, so that none waits for a crowd
NEWCOMERS = 0.25  # largest share of the turns for findings that unproven authors can waste
IDLE = 0.75  # the same, when no proven author has an offer
FIRST = 2  # extra turns for unproven authors where none is known, because at first no author is proven
MISSES = 40  # authors drawn in vain, because they are known
LEAST = 0.05  # smallest novelty: a finding that looks like an old one is tried last, but it is tried
PARTLY = 0.5  # factor on the priority of a finding that fits only partly
WORD = re.compile(r"[A-Za-z_]\w+")


@dataclass(frozen=True, slots=True)
class FindingOffer:
    """A finding that may be measured here, with its priority."""

    id: str
    finding: Finding
    priority: float
    fit: Compatibility
    proven: bool = False
    """Whether it probably holds: a claim of its author was confirmed here, or proven labs measured it."""
    size: int = 0
    """The size of its claim, in sigmas (``strangers``)."""

    @property
    def author(self) -> str:
        return self.finding.author


def order_offers(
    offers: Iterable[FindingOffer],
    tried: Sequence[str],
    draw: random.Random | None = None,
    newcomers: Turn = "first",
    ranks: Sequence[float] = (),
) -> list[FindingOffer]:
    """The offers that may have the next turn, best first. ``tried``: authors of the earlier turns, in order.

    ``newcomers``: when unproven authors may go, with one offer each. Of these, claims of the size with the largest of
    ``ranks`` go first, and lots are drawn by priority with ``draw``. Without it the order is by priority alone, which
    shows what is likely.
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
    drawn = _drawn([offer for offer in offers if not offer.proven], draw, ranks)
    return drawn + known if newcomers == "first" else known + drawn


def draw_strangers(
    arrived: Sequence[str], first: int, known: Container[str], most: int, draw: random.Random
) -> list[str]:
    """Up to ``most`` authors not in ``known``: the same number of the ``first`` who were there, of as many again
    who came after them, of twice as many after these, and so on.

    New names cost nothing. In one draw of all names, the maker of the most has most of the lots; here a crowd that came
    later gets one more part each time that it doubles the number of authors.
    """
    parts = list(pairwise([0, *_doubling(max(first, 1), len(arrived))]))
    found, each = list[str](), max(most // max(len(parts), 1), 1)
    for low, high in draw.sample(parts, len(parts)):
        picked = draw.sample(range(low, high), min(each + MISSES, high - low))
        found += [arrived[n] for n in picked if arrived[n] not in known][:each]
    return found[:most]


def _doubling(edge: int, end: int) -> Iterator[int]:
    """``edge``, twice that, and so on, up to ``end``."""
    while edge < end:
        yield edge
        edge *= 2
    if end:
        yield end


def newcomers_turn(unproven: int, turns: float, *, known: bool) -> Turn:
    """Whether unproven authors may go first, last or not at all, after ``unproven`` wasted of ``turns`` turns.

    An author who becomes proven is not counted any more, so only wasted turns count. ``known``: whether the human named
    labs whose word counts.
    """
    room = unproven + 1 - (0 if known else FIRST)
    if room <= NEWCOMERS * turns:
        return "first"
    return "last" if room <= IDLE * turns else "never"


def _drawn(offers: Sequence[FindingOffer], draw: random.Random | None, ranks: Sequence[float]) -> list[FindingOffer]:
    """The best offer of each author, by the rank of its claim's size, then drawn in proportion to priority.

    Method: sampling without replacement by exponential keys (Efraimidis and Spirakis 2006).
    """
    best: dict[str, FindingOffer] = {}
    for offer in offers:
        if offer.priority > 0:
            best.setdefault(offer.author, offer)
    keys = {name: draw.expovariate(1.0) if draw else 1.0 for name in best}

    def place(offer: FindingOffer) -> tuple[float, float]:
        return -ranks[offer.size] if ranks else 0.0, keys[offer.author] / offer.priority

    return sorted(best.values(), key=place)


def word_set(changes: Iterable[str], hypothesis: str) -> frozenset[str]:
    return frozenset(WORD.findall(" ".join([*changes, hypothesis]).lower()))


def novelty(finding: Finding, tried: Iterable[frozenset[str]]) -> float:
    """One minus the largest word overlap (Jaccard index) with something tried here; at least ``LEAST``."""
    mine = word_set(finding.changes, finding.hypothesis)
    alike = (both / (len(mine) + len(other) - both) for other in tried if (both := len(mine & other)))
    return max(1 - max(alike, default=0.0), LEAST)
