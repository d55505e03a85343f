"""Which of others' findings is measured next. Pure.

Method: by the product of what is claimed (clipped), how far its author is trusted, how much of it is still to be
gained here, and how new it is; and one of each author in a round. Without clipping, quarantine and rounds whoever
claims most is measured for ever: a prototype spent 65 of 73 verifications on a liar.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nightlab.commons.capability import Fit
from nightlab.commons.record import Finding, Metric
from nightlab.records import average

ROUND = 4  # authors at most, so that a crowd of new names can't keep the proven waiting
LEAST = 0.05  # of novelty and gap: a finding that looks like an old one is the last to be tried, but is tried
PARTLY = 0.5  # of the priority of what fits only partly
WORD = re.compile(r"[A-Za-z_]\w+")


@dataclass(frozen=True, slots=True)
class Offer:
    """A finding that may be measured here, and how soon."""

    id: str
    finding: Finding
    priority: float
    fit: Fit

    @property
    def author(self) -> str:
        return self.finding.author


def in_order(offers: Iterable[Offer], tried: Sequence[str]) -> list[Offer]:
    """The offers that may have the next turn, the best first. ``tried``: the authors of those that had one."""
    had: set[str] = set()
    for author in tried:
        had = {author} if author in had or len(had) == ROUND else had | {author}
    offers = sorted(offers, key=lambda offer: (-offer.priority, offer.id))
    fresh = [offer for offer in offers if offer.author not in had] if len(had) < ROUND else []
    return fresh or offers


def gap(metric: Metric, finding: Finding, bar: float, comparable: bool) -> float:
    """How much of what a finding claims is still to be gained by who has ``bar``; all where numbers don't compare."""
    claimed = finding.claimed
    if not comparable or not finding.runs or claimed <= 0:
        return 1.0
    best = average([run.value for run in finding.runs])
    return min(max(metric.gain(bar, best) / claimed, LEAST), 1.0)


def words(changes: Iterable[str], hypothesis: str) -> frozenset[str]:
    return frozenset(WORD.findall(" ".join([*changes, hypothesis]).lower()))


def novelty(finding: Finding, tried: Iterable[frozenset[str]]) -> float:
    """One less the largest share of words that it has in common with something that was tried here."""
    mine = words(finding.changes, finding.hypothesis)
    alike = (len(mine & other) / len(mine | other) for other in tried if mine | other)
    return max(1 - max(alike, default=0.0), LEAST)
