"""How far an author is trusted by one observer: from what came of measuring their findings, and nothing else. Pure.

Method: a Beta distribution over "a claim of theirs holds here", with decay, so that the past fades (Jøsang and Ismail
2002); for the proven, spot checks as BOINC's adaptive replication has them. Claims alone earn nothing, and what others
say of an author never weighs more than half of what was measured here: however many names a stranger has, they are
worth no trust to anybody who measured nothing of theirs.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["confirmed", "refuted", "inconclusive"]

EPOCH = 86_400.0  # seconds
DECAY = 0.98  # of what was learned, per epoch
REFUTED = 2.0  # how much more a false claim weighs than a true one
FAILED_ELSEWHERE = 0.5  # a gain that did not show on another champion than its own: it may be neither's fault
QUARANTINE = 0.25  # trust below which nothing of an author's is measured
AGREE = 3.0  # standard errors within which two labs measured the same gain
PROVEN, SELDOM = 10, 0.1  # confirmed in a row from which spot checks are enough; how seldom at most
OTHERS = 0.5  # of one's own evidence: what all others' verdicts together weigh at most
HALF_LIFE = 30 * EPOCH  # of a threat
SECONDS = 2  # trusted authors who must agree on one


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a lab found when it measured a finding of ``author``'s. ``elsewhere``: not on the genome it was made on."""

    target: str
    author: str
    verdict: Verdict
    at: float
    elsewhere: bool = False
    by: str = ""
    """Who measured; empty for the observer."""


@dataclass(frozen=True, slots=True)
class Trust:
    """In one author: the two counts of a Beta distribution, and how many claims were confirmed in a row."""

    good: float = 1.0
    bad: float = 1.0
    row: int = 0

    @property
    def value(self) -> float:
        return self.good / (self.good + self.bad)

    @property
    def quarantined(self) -> bool:
        return self.value < QUARANTINE

    @property
    def check(self) -> float:
        """How probably a doubt about a claim is followed up by a trial: always, until the author is proven."""
        return 1.0 if self.row < PROVEN else max(1 / self.row, SELDOM)


def compare(claimed: float, mine: float, sigma: float, runs: Sequence[int]) -> Verdict:
    """Whether a gain that was claimed is what was measured here.

    ``sigma``: how far luck moves one trial here, which is taken for theirs too, for theirs is a claim. ``runs``: of how
    many trials each of the four means is. A claim so small that nothing shows is neither true nor false.
    """
    error = sigma * math.sqrt(sum(1 / n for n in runs if n))
    if claimed - mine > AGREE * error:
        return "refuted"
    return "confirmed" if mine > error else "inconclusive"


def trust(judgements: Iterable[Judgement], now: float) -> dict[str, Trust]:
    """How far an observer trusts each author, at a time, by their own judgements and, bounded, by those of others."""
    own, others = _latest(judgements)
    direct = {author: _direct(each, now) for author, each in own.items()}
    found = {}
    for author, (good, bad, row) in direct.items():
        more = [0.0, 0.0]
        for judgement in others.get(author, ()):
            for_them, against_them, _ = direct.get(judgement.by, (0.0, 0.0, 0))
            verifier = Trust(1 + for_them, 1 + against_them)
            if not verifier.quarantined:
                for side, weight in enumerate(_weights(judgement, now)):
                    more[side] += weight * verifier.value
        scale = min(1.0, OTHERS * (good + bad) / sum(more)) if sum(more) else 0.0
        found[author] = Trust(1 + good + scale * more[0], 1 + bad + scale * more[1], row)
    return found


def priority(claimed: float, sigma: float, trusted: float, gap: float, novelty: float) -> float:
    """How soon a finding is measured. What is claimed counts up to four sigma, so that no claim outweighs distrust."""
    clipped = min(max(claimed, 0.0), 4 * sigma) if sigma > 0 else float(claimed > 0)
    return clipped * trusted * gap * novelty


@dataclass(frozen=True, slots=True)
class Warning:
    """That a finding did what no honest one does, by an author, or ``own`` if it was seen here."""

    target: str
    author: str
    at: float
    own: bool = False


def threats(warnings: Iterable[Warning], trusted: dict[str, Trust], now: float) -> set[str]:
    """The findings that are not to be run: seen here to be threats, or said to be by two authors who are trusted.

    To be trusted takes claims that were confirmed here. Warnings fade: a false one is an attack too.
    """
    weights: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for warning in warnings:
        known = trusted.get(warning.author, Trust())
        if warning.own or known.value > 0.5:
            fade = 0.5 ** (max(now - warning.at, 0.0) / HALF_LIFE)
            weights[warning.target]["" if warning.own else warning.author] = SECONDS * fade if warning.own else fade
    return {
        target for target, by in weights.items() if ("" in by or len(by) >= SECONDS) and sum(by.values()) >= SECONDS / 2
    }


def _latest(judgements: Iterable[Judgement]) -> tuple[dict[str, list[Judgement]], dict[str, list[Judgement]]]:
    """The last word of each lab on each finding, by its author: the observer's, and others'; nobody's on their own."""
    last: dict[tuple[str, str], Judgement] = {}
    for judgement in sorted(judgements, key=lambda each: each.at):
        if judgement.by != judgement.author:
            last.pop((judgement.by, judgement.target), None)
            last[judgement.by, judgement.target] = judgement
    own, others = defaultdict[str, list[Judgement]](list), defaultdict[str, list[Judgement]](list)
    for (by, _), judgement in last.items():
        (others if by else own)[judgement.author].append(judgement)
    return own, others


def _direct(judgements: Sequence[Judgement], now: float) -> tuple[float, float, int]:
    """What was learned beyond the prior, faded, and how many were confirmed in a row."""
    weights, row = [_weights(each, now) for each in judgements], 0
    for each in judgements:
        row = row + 1 if each.verdict == "confirmed" else row if each.verdict == "inconclusive" else 0
    return sum(good for good, _ in weights), sum(bad for _, bad in weights), row


def _weights(judgement: Judgement, now: float) -> tuple[float, float]:
    fade = DECAY ** (max(now - judgement.at, 0.0) / EPOCH)
    if judgement.verdict == "confirmed":
        return fade, 0.0
    if judgement.verdict == "refuted":
        return 0.0, fade * (FAILED_ELSEWHERE if judgement.elsewhere else REFUTED)
    return 0.0, 0.0
