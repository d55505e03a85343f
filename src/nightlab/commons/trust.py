"""How far an author is trusted by one observer: from what came of measuring their findings, and nothing else. Pure.

Method: a Beta distribution over "a claim of theirs holds here", with decay, so that the past fades (Jøsang and Ismail
2002); for the proven, spot checks as BOINC's adaptive replication has them. Claims alone earn nothing, and of what
others say only that of authors counts whose own claims held here, and no more than half of what was measured here:
however many names a stranger has, they are worth no trust to anybody who measured nothing of theirs.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

Verdict = Literal["confirmed", "refuted", "inconclusive"]

EPOCH = 86_400.0  # seconds
DECAY = 0.98  # of what was learned, per epoch
REFUTED = 2.0  # how much more a false claim weighs than a true one
ELSEWHERE = 0.5  # of that weight, where a gain did not show on another champion than its own: it may be neither's fault
HELD = 0.5  # of a claim, that must have shown here before an author is one of the proven
QUARANTINE = 0.25  # trust below which nothing of an author's is measured
DOUBT = 1.0  # standard errors by which a claim is missed from which on it costs trust
AGREE = 3.0  # from here on it is false
FALSE = 6.0  # and from here on no luck explains it: where nothing shows, it counts twice
PROVEN, SELDOM = 10, 0.1  # confirmed in a row from which spot checks are enough; how seldom at most
OTHERS = 0.5  # of one's own evidence: what all others' verdicts together weigh at most
VOUCHED = 1.0  # what they weigh at most of an author of whom nothing was measured here
HALF_LIFE = 30 * EPOCH  # of a threat
SECONDS = 2  # trusted authors who must agree on one


@dataclass(frozen=True, slots=True)
class PeerVerdict:
    """What a lab found when it measured a finding of ``author``'s. ``elsewhere``: not on the genome it was made on."""

    target: str
    author: str
    verdict: Verdict
    at: float
    elsewhere: bool = False
    by: str = ""
    """Who measured; empty for the observer."""
    short: float = 0.0
    shown: float = 0.0
    """By how many standard errors what was measured is less than what was claimed, and more than nothing."""


@dataclass(frozen=True, slots=True)
class Trust:
    """In one author: the two counts of a Beta distribution, and how many claims were confirmed in a row."""

    good: float = 1.0
    bad: float = 1.0
    row: int = 0
    held: float = 0.0
    """How much of ``good`` is from what was measured here."""

    @property
    def value(self) -> float:
        return self.good / (self.good + self.bad)

    @property
    def proven(self) -> bool:
        """More of their claims held here than did not. No word of others makes an author proven."""
        return self.held >= HELD and self.value > 0.5

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
    if shortfall(claimed, mine, sigma, runs) > AGREE:
        return "refuted"
    return "confirmed" if mine > _error(sigma, runs) else "inconclusive"


def shortfall(claimed: float, mine: float, sigma: float, runs: Sequence[int]) -> float:
    """By how many standard errors a gain is less than claimed; up to so many that no luck explains it.

    Where there is no luck, what is missed is false, by however little: two machines round differently.
    """
    error = _error(sigma, runs)
    return max(-FALSE, min((claimed - mine) / error, FALSE)) if error else (AGREE + 1) * (claimed > mine)


def _error(sigma: float, runs: Sequence[int]) -> float:
    return sigma * math.sqrt(sum(1 / n for n in runs if n))


def trust(judgements: Iterable[PeerVerdict], now: float) -> dict[str, Trust]:
    """How far an observer trusts each author, at a time, by their own judgements and, bounded, by those of others.

    Others are heard only whose own claims held here: a lie that they tell costs them what they earned.
    """
    own, others = _latest(judgements)
    direct = {author: _direct(each, now) for author, each in own.items()}
    heard = {author: known.value for author, known in direct.items() if known.proven}
    found = {}
    for author in [*direct, *(others.keys() - direct.keys())]:
        known, more = direct.get(author, Trust()), [0.0, 0.0]
        for judgement in others.get(author, ()):
            if judgement.by in heard:
                for side, weight in enumerate(_weights(judgement, now)):
                    more[side] += weight * heard[judgement.by]
        most = OTHERS * (known.good + known.bad - 2) if author in direct else VOUCHED
        scale = min(1.0, most / sum(more)) if sum(more) else 0.0
        if author in direct or scale:
            good, bad = (mine + scale * theirs for mine, theirs in zip((known.good, known.bad), more, strict=True))
            found[author] = replace(known, good=good, bad=bad)
    return found


def priority(claimed: float, most: float, trusted: float, novelty: float) -> float:
    """How soon a finding is measured. A claim counts for ``most`` at most, so that no claim outweighs distrust."""
    return min(max(claimed, 0.0), most) * trusted * novelty


@dataclass(frozen=True, slots=True)
class ThreatWarning:
    """That a finding did what no honest one does, by an author, or ``own`` if it was seen here."""

    target: str
    author: str
    at: float
    own: bool = False


def threats(warnings: Iterable[ThreatWarning], trusted: dict[str, Trust], now: float) -> set[str]:
    """The findings that are not to be run: seen here to be threats, or said to be by two authors who are trusted.

    To be trusted takes claims that were confirmed here. Warnings fade: a false one is an attack too.
    """
    weights: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for warning in warnings:
        known = trusted.get(warning.author, Trust())
        if warning.own or known.proven:
            fade = 0.5 ** (max(now - warning.at, 0.0) / HALF_LIFE)
            weights[warning.target]["" if warning.own else warning.author] = SECONDS * fade if warning.own else fade
    return {
        target for target, by in weights.items() if ("" in by or len(by) >= SECONDS) and sum(by.values()) >= SECONDS / 2
    }


def _latest(judgements: Iterable[PeerVerdict]) -> tuple[dict[str, list[PeerVerdict]], dict[str, list[PeerVerdict]]]:
    """The last word of each lab on each finding, by its author: the observer's, and others'; nobody's on their own."""
    last: dict[tuple[str, str], PeerVerdict] = {}
    for judgement in sorted(judgements, key=lambda each: each.at):
        if judgement.by != judgement.author:
            last.pop((judgement.by, judgement.target), None)
            last[judgement.by, judgement.target] = judgement
    own, others = defaultdict[str, list[PeerVerdict]](list), defaultdict[str, list[PeerVerdict]](list)
    for (by, _), judgement in last.items():
        (others if by else own)[judgement.author].append(judgement)
    return own, others


def _direct(judgements: Sequence[PeerVerdict], now: float) -> Trust:
    """What was learned here, faded, and how many were confirmed in a row."""
    weights, row = [_weights(each, now) for each in judgements], 0
    for each in judgements:
        row = row + 1 if each.verdict == "confirmed" else row if each.verdict == "inconclusive" else 0
    good, bad = (sum(side) for side in zip(*weights, strict=True))
    return Trust(1 + good, 1 + bad, row, held=good)


def _weights(judgement: PeerVerdict, now: float) -> tuple[float, float]:
    """What a judgement says for its author and against. A claim that is missed costs the more the further it is missed.

    Else claims just too small to be refuted would cost their author nothing, and others a trial each, for ever.
    """
    fade = DECAY ** (max(now - judgement.at, 0.0) / EPOCH)
    if judgement.verdict == "confirmed":
        return fade, 0.0
    shown = fade * min(max(judgement.shown, 0.0), 1.0) if judgement.verdict == "inconclusive" else 0.0
    missed = 1.0 if judgement.verdict == "refuted" else (judgement.short - DOUBT) / (AGREE - DOUBT)
    if judgement.short >= FALSE and judgement.shown < DOUBT:
        missed = 2.0
    return shown, fade * REFUTED * max(missed, 0.0) * (ELSEWHERE if judgement.elsewhere else 1.0)
