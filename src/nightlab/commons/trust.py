"""One observer's trust in each author, based only on measurements of their findings. Pure.

Method: a Beta distribution over "a claim of this author holds here", with exponential decay (Jøsang and Ismail 2002);
for established authors, spot checks as in BOINC's adaptive replication. Claims alone earn nothing. Other labs' verdicts
count only if their own claims held here, and together at most half as much as the observer's own measurements. So
a crowd of new identities has no influence on an observer who has measured none of their findings.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

Verdict = Literal["confirmed", "refuted", "inconclusive"]

EPOCH = 86_400.0  # seconds
DECAY = 0.98  # of the evidence, per epoch
REFUTED = 2.0  # weight of a refuted claim, relative to a confirmed one
ELSEWHERE = 0.5  # factor on that weight where a gain did not show on another champion, which may be no fault
HELD = 0.5  # confirmed evidence from which on an author is proven
QUARANTINE = 0.25  # trust below which none of an author's findings are measured
KNOWN = 1.5  # confirmed findings that an author starts with whom the human knows: one refuted claim outweighs them
DOUBT = 1.0  # shortfall, in standard errors, above which a claim costs trust
AGREE = 3.0  # shortfall above which a claim is refuted
MACHINES = 0.1  # standard deviation between machines of a gain that holds on all of them, relative to the gain
FALSE = 6.0  # shortfall that chance does not explain: it counts twice if no gain shows at all
PROVEN, SELDOM = 10, 0.1  # streak of confirmations from which spot checks suffice; their lowest rate
OTHERS = 0.5  # most weight of all other labs' verdicts, relative to own evidence
VOUCHED = 1.0  # most weight of other labs' verdicts on an author without own evidence
HALF_LIFE = 30 * EPOCH  # of a threat warning
SECONDS = 2  # number of trusted authors who must agree on a threat


@dataclass(frozen=True, slots=True)
class PeerVerdict:
    """One lab's verdict on a finding of ``author``. ``elsewhere``: not measured on the genome it was made on."""

    target: str
    author: str
    verdict: Verdict
    at: float
    elsewhere: bool = False
    by: str = ""
    """The lab that measured; empty for the observer."""
    short: float = 0.0
    shown: float = 0.0
    """Standard errors by which the measured gain falls short of the claimed one, and exceeds zero."""


@dataclass(frozen=True, slots=True)
class Trust:
    """Trust in one author: the two counts of a Beta distribution, and the current streak of confirmed claims."""

    good: float = 1.0
    bad: float = 1.0
    streak: int = 0
    held: float = 0.0
    """The part of ``good`` from own measurements."""

    @property
    def value(self) -> float:
        return self.good / (self.good + self.bad)

    @property
    def proven(self) -> bool:
        """Whether own measurements confirmed more claims than not; other labs' verdicts can't make an author proven."""
        return self.held >= HELD and self.value > 0.5

    @property
    def quarantined(self) -> bool:
        return self.value < QUARANTINE

    @property
    def check(self) -> float:
        """The probability that a doubtful claim gets a second trial: 1 until the author is established."""
        return 1.0 if self.streak < PROVEN else max(1 / self.streak, SELDOM)


def compare(claimed: float, mine: float, sigma: float, runs: Sequence[int]) -> Verdict:
    """Whether the measured gain ``mine`` confirms the claimed one.

    ``sigma``: the observer's seed-to-seed noise, used for both sides, because the author's is only a claim. ``runs``:
    the number of trials in each of the four means. A gain too small to show is ``inconclusive``, and so is one that
    only another machine explains.
    """
    if shortfall(claimed, mine, sigma, runs) > AGREE:
        return "refuted"
    error = _error(sigma, runs)
    near = AGREE * error if error else MACHINES * claimed
    return "confirmed" if mine > error and claimed - mine <= near else "inconclusive"


def shortfall(claimed: float, mine: float, sigma: float, runs: Sequence[int]) -> float:
    """By how many standard errors a gain falls short of the claim, clipped to ±FALSE.

    A large gain is seldom the same on two machines, though trials could tell: the error counts that too (``MACHINES``),
    as a meta-analysis with random effects does (DerSimonian and Laird 1986).
    """
    error = _error(sigma, runs)
    short = _standardised(claimed - mine, math.hypot(error, MACHINES * claimed))
    return short if error else min(short, AGREE + 1)  # machines round differently


def exceeds_zero(gain: float, sigma: float, runs: Sequence[int]) -> float:
    """By how many standard errors a measured gain exceeds zero, clipped to ±FALSE. ``runs``: as in ``compare``."""
    return _standardised(gain, _error(sigma, runs))


def _standardised(difference: float, error: float) -> float:
    return max(-FALSE, min(difference / error, FALSE)) if error else (AGREE + 1) * (difference > 0)


def _error(sigma: float, runs: Sequence[int]) -> float:
    return sigma * math.sqrt(sum(1 / n for n in runs if n))


def trust(judgements: Iterable[PeerVerdict], now: float, vouched: Iterable[str] = ()) -> dict[str, Trust]:
    """The observer's trust in each author at time ``now``: by own verdicts and, with bounded weight, by others'.

    ``vouched``: authors whom the human named; they start as if some of their findings had held here.

    Only labs whose own claims held here are heard, so that lying would cost them the trust they earned.
    """
    own, others = _latest(judgements)
    direct = {author: _direct(each, now) for author, each in own.items()}
    for author in set(vouched):
        was = direct.get(author, Trust())
        direct[author] = replace(was, good=was.good + KNOWN, held=was.held + KNOWN)
    _stake(direct, own, others, now)
    heard = {author: known.value for author, known in direct.items() if known.proven}
    found = {}
    for author in [*direct, *(others.keys() - direct.keys())]:
        known, more = direct.get(author, Trust()), [0.0, 0.0]
        for judgement in others.get(author, ()):
            if judgement.by in heard:
                for side, weight in enumerate(weigh(judgement, now)):
                    more[side] += weight * heard[judgement.by]
        most = OTHERS * (known.good + known.bad - 2) if author in direct else VOUCHED
        scale = min(1.0, most / sum(more)) if sum(more) else 0.0
        if author in direct or scale:
            good, bad = (mine + scale * theirs for mine, theirs in zip((known.good, known.bad), more, strict=True))
            found[author] = replace(known, good=good, bad=bad)
    return found


def priority(claimed: float, most: float, trusted: float, novelty: float) -> float:
    """The priority of measuring a finding: a larger claim goes first, but counts less than ``most`` however large it
    is, so that no claim outweighs distrust."""
    claimed = max(claimed, 0.0)
    return most * claimed / (most + claimed) * trusted * novelty if claimed else 0.0


@dataclass(frozen=True, slots=True)
class ThreatWarning:
    """A warning that a finding is malicious, by an author; ``own``: observed here."""

    target: str
    author: str
    at: float
    own: bool = False


def threats(warnings: Iterable[ThreatWarning], trusted: dict[str, Trust], now: float) -> set[str]:
    """The findings that must not be run: threats observed here, or warned of by two proven authors.

    Warnings decay, because false warnings are an attack too.
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
    """The latest verdict of each lab on each finding, by author: own ones and others'; no lab's on its own findings."""
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
    """Trust from own measurements, with decay, and the streak of confirmations."""
    weights, streak = [weigh(each, now) for each in judgements], 0
    for each in judgements:
        streak = streak + 1 if each.verdict == "confirmed" else streak if each.verdict == "inconclusive" else 0
    good, bad = (sum(side) for side in zip(*weights, strict=True))
    return Trust(1 + good, 1 + bad, streak, held=good)


def _stake(
    direct: dict[str, Trust],
    own: dict[str, list[PeerVerdict]],
    others: dict[str, list[PeerVerdict]],
    now: float,
) -> None:
    """Count in what proven labs said of findings that were measured here too: agreement for them, up to what their own
    findings earned, because repeating what is known is free; contradiction against them."""
    here = {each.target: each for side in own.values() for each in side}
    agreed, differed = defaultdict[str, float](float), defaultdict[str, float](float)
    for each in (each for side in others.values() for each in side):
        mine = here.get(each.target)
        if mine is None or each.by not in direct or "inconclusive" in (mine.verdict, each.verdict):
            continue
        fade = DECAY ** (max(now - each.at, 0.0) / EPOCH)
        if mine.verdict == each.verdict:
            agreed[each.by] += fade
        else:
            differed[each.by] += fade * REFUTED * (ELSEWHERE if mine.elsewhere or each.elsewhere else 1.0)
    for name in {*agreed, *differed}:
        known = direct[name]
        more = min(agreed[name], known.held)
        direct[name] = replace(known, good=known.good + more, bad=known.bad + differed[name])


def weigh(judgement: PeerVerdict, now: float) -> tuple[float, float]:
    """The weight of a verdict for and against its author. The larger the shortfall, the larger the cost.

    Otherwise claims just too small to be refuted would cost their author nothing, and others a trial each.
    """
    fade = DECAY ** (max(now - judgement.at, 0.0) / EPOCH)
    if judgement.verdict == "confirmed":
        return fade, 0.0
    shown = fade * min(max(judgement.shown, 0.0), 1.0) if judgement.verdict == "inconclusive" else 0.0
    missed = 1.0 if judgement.verdict == "refuted" else (judgement.short - DOUBT) / (AGREE - DOUBT)
    if judgement.short >= FALSE and judgement.shown < DOUBT:
        missed = 2.0
    return shown, fade * REFUTED * max(missed, 0.0) * (ELSEWHERE if judgement.elsewhere else 1.0)
