"""What a session knows about its peers: their findings, the trust in each author, and which findings to measure."""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

from nightlab.commons.capability import Compatibility, check_requirements, compare_tasks, worse_of
from nightlab.commons.entry import Entry
from nightlab.commons.exchange import Commons
from nightlab.commons.finding import platform_of, task_of, trial_resources
from nightlab.commons.instants import parse_instant
from nightlab.commons.places import own_author
from nightlab.commons.queue import PARTLY, FindingOffer, draw_strangers, novelty
from nightlab.commons.record import Finding, Retraction, Revocation, Threat, Transfer, Verification, gain
from nightlab.commons.second_hand import probability, said_of, visible
from nightlab.commons.strangers import records, size_of
from nightlab.commons.trust import EPOCH, PeerVerdict, ThreatWarning, Trust, exceeds_zero, priority, threats, trust
from nightlab.core.events import FindingVerified
from nightlab.core.types import NightlabError
from nightlab.proposers.proposer import Used
from nightlab.session.session import Session
from nightlab.storage.ledger import find_ledger, tags

PER_AUTHOR = 50  # most recent findings considered per proven author
PER_STRANGER = 5  # and per unproven author
STRANGERS = 20  # unproven authors considered per turn, drawn at random each time

PublishedFinding = tuple[Entry, Finding]
Claim = tuple[float, Entry, Finding]  # the gain that it claims over what is known here
Unfit = tuple[str, Finding, str]  # a finding's id, the finding, and why it can't be measured


class PeerStore:
    """A session's view of the user's copy of the commons and of the ledgers of the lab's sessions."""

    def __init__(self, session: Session, commons: Commons) -> None:
        self.session, self.commons = session, commons
        self.task, self.platform = task_of(session), platform_of(session)
        self.entries: dict[str, Entry] = {}
        self.trust: dict[str, Trust] = {}
        self.threats: set[str] = set()
        self.doubtful = _doubts(session.ledger.events(FindingVerified))
        """Findings that did not hold on another genome than their own, and the commit of that one."""
        self._chains, self._me = commons.entries(), own_author()
        self.revoked: dict[str, int] = {}
        """Authors whose key was revoked, and the ``seq`` from which their records have no weight."""
        self._retracted: dict[tuple[str, str], int] = {}
        self._transfers: dict[str, list[tuple[str, Transfer]]] = {}
        self._read: dict[str, int] = {}
        self._records: dict[str, dict[str, list[Entry]]] = {}
        self._makers: dict[str, list[Entry]] = {}
        self.measured = [event for tag in tags(session.repo.lab) for event in self._measured(tag)]
        self._draw = random.Random()
        self._said: dict[str, list[PeerVerdict]] = {}
        self._fits: dict[str, Compatibility] = {}
        self._claims: dict[str, float] = {}
        self._verdicts: dict[str, PeerVerdict | None] = {}
        self.update()

    def update(self, *measured: FindingVerified) -> None:
        """Take what was just measured, and what came to the commons meanwhile, into account."""
        self.measured += measured
        with suppress(NightlabError):  # a damaged copy is reported by `nightlab sync`; the session goes on
            self._chains = self.commons.entries()
        self._index_new()
        self._weigh(time.time(), measured)

    def _weigh(self, now: float, measured: Iterable[FindingVerified]) -> None:
        said = self._other_verdicts(now)
        self.trust = trust([*self.own_verdicts(), *said], now, self._known())
        self._said = said_of(said)
        self.threats = threats(self._warnings(now), self.trust, now)
        self.doubtful |= _doubts(measured)

    def _known(self) -> set[str]:
        """The labs that the human named."""
        return set(self.session.lab.commons.known if self.session.lab.commons else ()) - {self._me}

    def heard(self) -> list[str]:
        """The labs that the human named, without those whose claims failed here."""
        return [name for name in sorted(self._known()) if self.trust_in(name).proven]

    def _alone(self) -> Iterator[FindingVerified]:
        return (one for one in self.measured if one.alone)

    def is_own(self, entry: Entry) -> bool:
        return entry.author == self._me

    def author(self, target: str) -> str:
        return self.entries[target].author if target in self.entries else ""

    def trust_in(self, author: str) -> Trust:
        return self.trust.get(author, Trust())

    def holds(self, entry: Entry) -> float:
        """The probability that a finding holds here: by the trust in its author, and by what proven labs measured."""
        return probability(self.trust_in(entry.author).value, self._said.get(entry.id, ()), self.trust)

    def own_verdicts(self) -> list[PeerVerdict]:
        """The verdicts of this lab on findings by themselves, without those on what a revoked key signed."""
        return [_own_verdict(one) for one in self._alone() if not self.is_revoked(one.target)]

    def stranger_records(self) -> dict[int, Trust]:
        """How the first claim of each author held here, by its size: the last verdict on it counts."""
        first: dict[str, FindingVerified] = {}
        for event in sorted(self._alone(), key=lambda each: each.at):
            if event.target == first.setdefault(event.author, event).target:
                first[event.author] = event
        sized = [(size_of(self._claim_of(one), one.sigma), _own_verdict(one)) for one in first.values()]
        return records(sized, time.time())

    def _claim_of(self, event: FindingVerified) -> float:
        """What a measured finding claimed; what its last step claims, where an older ledger does not say."""
        if event.claimed is not None:
            return event.claimed
        return self.claimed(self.entries[event.target]) if event.target in self.entries else 0.0

    def comparable(self, finding: Finding) -> bool:
        """Whether a finding's numbers compare with those measured here: same task, device and accelerator."""
        theirs, here = finding.platform, self.platform
        return finding.task.id == self.task.id and (theirs.device, theirs.accelerator) == (
            here.device,
            here.accelerator,
        )

    def fit(self, entry: Entry, finding: Finding) -> Compatibility:
        """Whether a finding can be measured here, by its task and its requirements. Cached."""
        if entry.id not in self._fits:
            needed = check_requirements(
                finding.requires, trial_resources(self.session, list(finding.requires.libraries))
            )
            self._fits[entry.id] = worse_of(self._task_fit(entry, finding), needed)
        return self._fits[entry.id]

    def _task_fit(self, entry: Entry, finding: Finding) -> Compatibility:
        shown = self._transfers.get(entry.id, ())
        said = [each for by, each in shown if by == entry.author or self.trust_in(by).proven]
        return compare_tasks(finding, self.task, said)

    def claimed(self, entry: Entry) -> float:
        """The gain that a finding claims over its parent. Cached."""
        if entry.id not in self._claims:
            assert isinstance(entry.signed.record, Finding)
            self._claims[entry.id] = entry.signed.record.claimed
        return self._claims[entry.id]

    def finding_for(self, genome: str, author: str, but: Container[str]) -> Entry | None:
        """A finding that made ``genome``, not in ``but``: by ``author`` if possible, else by the most trusted one."""
        found = [entry for entry in self.findings_for(genome) if entry.id not in but]
        return max(found, key=lambda e: (e.author == author, self.trust_in(e.author).value), default=None)

    def fitting(self) -> tuple[list[tuple[Trust, list[PublishedFinding]]], list[Unfit]]:
        """Each author's findings that can be measured here, and those that can't be, with the reason."""
        found, unfit = list[tuple[Trust, list[PublishedFinding]]](), list[Unfit]()
        for name in [*self._heard_of(), *self._unproven_authors()]:
            if (author := self.trust_in(name)).quarantined:
                continue
            found.append((author, []))
            for entry, finding in self.considered(name, PER_AUTHOR if author.proven else PER_STRANGER):
                if why := self.obstacle(entry, finding):
                    unfit.append((entry.id, finding, why))
                else:
                    found[-1][1].append((entry, finding))
        unfit.sort(key=lambda each: each[1].status != "keep")
        return found, unfit

    def offers(
        self,
        fitting: Iterable[tuple[Trust, Sequence[PublishedFinding]]],
        sigma: float,
        tried: Sequence[frozenset[str]],
        used: Used,
        claim: Callable[[str], float],
    ) -> list[FindingOffer]:
        """The findings that may be measured.

        ``sigma``: seed-to-seed noise. ``tried``: word sets of past candidates. ``claim``: the gain that a finding
        claims over what is known here.
        """
        confirmed = [one.gain or 0.0 for one in self.measured if one.verdict == "confirmed"]
        most = max([sigma, *confirmed])
        offers = list[FindingOffer]()
        for author, findings in fitting:
            claims = [(claim(entry.id), entry, finding) for entry, finding in findings if entry.id not in used]
            if not author.proven:  # of an unproven author what others vouch for, else the largest claim
                vouched = [each for each in claims if self.holds(each[1]) > 0.5]
                claims = vouched or sorted(claims, key=lambda each: (each[0], each[1].id))[-1:]
            offers += [self._offer(each, most, sigma, novelty(each[2], tried)) for each in claims]
        return offers

    def _offer(self, claim: Claim, most: float, sigma: float, novel: float) -> FindingOffer:
        """A finding with its priority: a stranger's claim counts up to one sigma."""
        claimed, entry, finding = claim
        fit, odds = self.fit(entry, finding), self.holds(entry)
        if trusted := odds > 0.5:
            trials = [len(finding.runs), len(finding.against)]
            value = priority(claimed, most, odds, novel) * visible(exceeds_zero(claimed, sigma, trials))
        else:
            value = priority(min(claimed, sigma), sigma, odds, novel)
        value *= PARTLY if fit.level == "partly" else 1.0
        return FindingOffer(entry.id, finding, value, fit, trusted, size_of(claimed, sigma))

    def considered(self, author: str, most: int) -> Iterator[PublishedFinding]:
        """An author's latest findings about this metric that are neither threats nor retracted."""
        for entry in self._published(author, "finding")[-most:]:
            finding = entry.signed.record
            assert isinstance(finding, Finding)
            same = finding.task.id == self.task.id or finding.task.metric == self.task.metric
            if same and not self.is_barred(entry):
                yield entry, finding

    def is_barred(self, entry: Entry) -> bool:
        """Whether a finding must not be run: it is a threat, or it was retracted, or its key was revoked before it."""
        return entry.id in self.threats or self.is_revoked(entry.id) or self._is_retracted(entry)

    def obstacle(self, entry: Entry, finding: Finding) -> str:
        """Why a finding is not worth measuring or can't be; empty if it can."""
        if finding.status != "keep" or self.claimed(entry) <= 0:
            return f"{finding.status} there, {finding.reason}"
        fit = self.fit(entry, finding)
        return "; ".join(fit.reasons) if fit.level == "not" else ""

    def declined(self) -> Counter[str]:
        """How many of each author's latest findings are not run here, by reason."""
        recent = (self._records[name].get("finding", [])[-PER_AUTHOR:] for name in self._records if name != self._me)
        return Counter(why for entry in chain.from_iterable(recent) if (why := self._why_declined(entry)))

    def _why_declined(self, entry: Entry) -> str:
        finding = entry.signed.record
        assert isinstance(finding, Finding)
        task = self._task_fit(entry, finding)
        reasons = (
            ("its author revoked the key", self.is_revoked(entry.id)),
            ("its author retracted it", self._is_retracted(entry)),
            ("it is dangerous: see the warnings", entry.id in self.threats),
            (f"it is of another task: {'; '.join(task.reasons)}", task.level == "not"),
            ("its author is in quarantine", self.trust_in(entry.author).quarantined),
            ("it was no gain there", finding.status != "keep" or self.claimed(entry) <= 0),
        )
        return next((why for why, holds in reasons if holds), "") or self.obstacle(entry, finding)

    def spared(self) -> int:
        """How many findings are left alone because labs that are trusted here refuted them."""
        done = {one.target for one in self._alone()}
        return sum(
            target not in done and any(each.verdict == "refuted" and self.trust_in(each.by).proven for each in said)
            for target, said in self._said.items()
        )

    def unproven(self, authors: Iterable[str]) -> int:
        """How many of these turns went to authors who are still unproven."""
        return sum(not self.trust_in(author).proven for author in authors)

    # -- records of the commons ----------------------------------------------------------------------

    def _index_new(self) -> None:
        """Index new records by author and kind."""
        for name, published in self._chains.items():
            for entry in published[self._read.get(name, 0) :]:
                self.entries[entry.id] = entry
                self._records.setdefault(name, {}).setdefault(entry.kind, []).append(entry)
                if entry.made:
                    self._makers.setdefault(entry.made, []).append(entry)
                if entry.kind in ("transfer", "revocation", "retraction"):
                    self._index_rare(entry)
            self._read[name] = len(published)

    def _index_rare(self, entry: Entry) -> None:
        record = entry.signed.record
        if isinstance(record, Transfer):
            self._transfers.setdefault(record.target, []).append((entry.author, record))
            self._fits.pop(record.target, None)
        if isinstance(record, Retraction):
            self._retracted.setdefault((entry.author, record.target), entry.seq)
        if isinstance(record, Revocation):
            self.revoked[record.key] = min(record.since, self.revoked.get(record.key, record.since))

    def _published(self, author: str, kind: str) -> Sequence[Entry]:
        """An author's records of a kind, up to the revocation of the key."""
        found = self._records.get(author, {}).get(kind, ())
        return [entry for entry in found if not self.is_revoked(entry.id)] if author in self.revoked else found

    def is_revoked(self, target: str) -> bool:
        """Whether a record was signed by a key that is revoked from there on."""
        entry = self.entries.get(target)
        return entry is not None and entry.seq >= self.revoked.get(entry.author, math.inf)

    def findings_for(self, genome: str) -> Sequence[Entry]:
        """The findings that say they made ``genome``, without those that a revoked key signed."""
        return [entry for entry in self._makers.get(genome, ()) if not self.is_revoked(entry.id)]

    def _is_retracted(self, entry: Entry) -> bool:
        """Whether its author asked not to try it: by a record from before a revocation of the key."""
        return self._retracted.get((entry.author, entry.id), math.inf) < self.revoked.get(entry.author, math.inf)

    def _heard_of(self) -> list[str]:
        """The authors who were named, and those of whom something was measured here, or by proven labs."""
        there = {self.author(target) for target in self._said}
        return sorted((self._trustees() | there) - {self._me, ""})

    def _trustees(self) -> set[str]:
        """Those whose word may count: of whom something was measured here, and whom the human named."""
        return {*(one.author for one in self._alone()), *self._known()} - {self._me}

    def _unproven_authors(self) -> list[str]:
        """Some of those of whom nothing was measured here, others each time."""
        return draw_strangers(*self.commons.arrived(), {self._me, *self._heard_of()}, STRANGERS, self._draw)

    def _other_verdicts(self, now: float) -> list[PeerVerdict]:
        """Verifications of this task, at any budget, by authors who were named or measured here; others' have no
        weight. Records dated in the future are ignored, because they would never decay."""
        said = (
            self._verdict_in(entry)
            for name in sorted(self._trustees())
            for entry in self._published(name, "verification")
        )
        return [each for each in said if each and each.at < now + EPOCH]

    def _verdict_in(self, entry: Entry) -> PeerVerdict | None:
        """What a verification says of a finding by itself; None of another task, or where that is not known yet.
        Cached."""
        if entry.id not in self._verdicts:
            record = entry.signed.record
            assert isinstance(record, Verification)
            if record.target not in self.entries:
                return None
            counts = record.alone and self._same_but_budget(record)
            self._verdicts[entry.id] = self._statement(record, entry.author) if counts else None
        return self._verdicts[entry.id]

    def verifications(self, author: str) -> Iterator[Verification]:
        """An author's verifications of findings that are known here."""
        for record in (entry.signed.record for entry in self._published(author, "verification")):
            assert isinstance(record, Verification)
            if record.target in self.entries:
                yield record

    def _same_but_budget(self, record: Verification) -> bool:
        """Whether a verification is of this task, or of its finding's, which differs in the budget only."""
        finding = self.entries[record.target].signed.record
        if record.task == self.task.id or not isinstance(finding, Finding):
            return record.task == self.task.id
        return record.task == finding.task.id and finding.task.differs_from(self.task) <= {"budget"}

    def _statement(self, record: Verification, by: str) -> PeerVerdict:
        mine = gain(self.task.metric, record.runs, record.against)
        shown = exceeds_zero(mine, record.sigma, [len(record.runs), len(record.against)]) if record.runs else 0.0
        about, at = self.author(record.target), parse_instant(record.at)
        other = record.task != self.task.id
        return PeerVerdict(record.target, about, record.verdict, at, elsewhere=other, by=by, shown=shown)

    def _warnings(self, now: float) -> list[ThreatWarning]:
        """What was seen here, and what those warn of who are trusted."""
        found = [ThreatWarning(one.target, "", one.at, own=True) for one in self._alone() if one.reason == "tampered"]
        for name in (name for name, known in self.trust.items() if known.proven and name != self._me):
            for record in (entry.signed.record for entry in self._published(name, "threat")):
                assert isinstance(record, Threat)
                if parse_instant(record.at) < now + EPOCH:
                    found.append(ThreatWarning(record.target, name, parse_instant(record.at)))
        return found

    def _measured(self, tag: str) -> list[FindingVerified]:
        """What a session of this lab found of others' findings of this task; nothing, if its ledger can't be read."""
        try:
            ledger = self.session.ledger if tag == self.session.tag else find_ledger(self.session.repo.lab, tag)
        except NightlabError:
            return []
        try:
            return [event for event in ledger.events(FindingVerified) if event.task == self.task.id]
        finally:
            if ledger is not self.session.ledger:
                ledger.close()


def _own_verdict(event: FindingVerified) -> PeerVerdict:
    verdict: Any = event.verdict
    sides = event.short or 0.0, event.shown or 0.0
    return PeerVerdict(event.target, event.author, verdict, event.at, event.elsewhere, "", *sides)


def _doubts(measured: Iterable[FindingVerified]) -> dict[str, str]:
    """Findings to measure once more, each with the commit to do it on."""
    return {event.target: event.doubt for event in measured if event.doubt is not None}
