"""What one session knows of its peers: their findings, how far each author is trusted, what is worth measuring."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import suppress
from datetime import datetime

from nightlab.commons.capability import Compatibility, both, matches, negotiate
from nightlab.commons.exchange import Commons, Entry
from nightlab.commons.finding import have, platform_of, task_of
from nightlab.commons.places import author
from nightlab.commons.queue import PARTLY, FindingOffer, novelty
from nightlab.commons.record import Finding, Retraction, Threat, Verification
from nightlab.commons.trust import EPOCH, PeerVerdict, ThreatWarning, Trust, priority, threats, trust
from nightlab.core.events import FindingVerified
from nightlab.core.types import NightlabError
from nightlab.proposers.proposer import Used
from nightlab.session.session import Session
from nightlab.storage.ledger import find_ledger, tags

PER_AUTHOR = 50  # findings of one author, the latest, that are looked at
PER_STRANGER = 5  # and of one who has shown nothing here
STRANGERS = 20  # authors who have shown nothing here that are looked at in one turn, drawn anew each time


class PeerStore:
    """What a session knows, from the user's copy of the commons and the ledgers of the lab's sessions."""

    def __init__(self, session: Session, commons: Commons) -> None:
        self.session, self.commons = session, commons
        self.task, self.platform = task_of(session), platform_of(session)
        self.entries: dict[str, Entry] = {}
        self.trust: dict[str, Trust] = {}
        self.threats: set[str] = set()
        self.doubts = _doubts(session.ledger.events(FindingVerified))
        """Findings that did not hold on another genome than their own, and the commit of that one."""
        self._chains, self._me = commons.entries(), author()
        self._read: dict[str, int] = {}
        self._records: dict[str, dict[type, list[Entry]]] = {}
        self._makers: dict[str, list[Entry]] = {}
        self.measured = [event for tag in tags(session.repo.lab) for event in self._measured(tag)]
        self._fits: dict[str, Compatibility] = {}
        self._claims: dict[str, float] = {}
        self.learn()

    def learn(self, *measured: FindingVerified) -> None:
        """Take what was just measured, and what came to the commons meanwhile, into account."""
        self.measured += measured
        with suppress(NightlabError):  # a copy that is damaged meanwhile: `nightlab sync` tells, the night goes on
            self._chains = self.commons.entries()
        self._take_in()
        now = time.time()
        self.trust = trust([*self.own(), *self._others(now)], now)
        self.threats = threats(self._warnings(now), self.trust, now)
        self.doubts |= _doubts(measured)

    def author(self, target: str) -> str:
        return self.entries[target].author if target in self.entries else ""

    def trusted(self, author: str) -> Trust:
        return self.trust.get(author, Trust())

    def own(self) -> list[PeerVerdict]:
        """What was found here."""
        return [
            PeerVerdict(
                one.target,
                one.author,
                one.verdict,  # type: ignore[arg-type]
                one.at,
                one.elsewhere,
                "",
                one.short or 0.0,
                one.shown or 0.0,
            )
            for one in self.measured
        ]

    def comparable(self, finding: Finding) -> bool:
        """Whether the numbers of a finding compare with those of here."""
        theirs, here = finding.platform, self.platform
        return finding.task.id == self.task.id and (theirs.device, theirs.accelerator) == (
            here.device,
            here.accelerator,
        )

    def fit(self, entry: Entry, finding: Finding) -> Compatibility:
        """Whether a finding can be measured here, by its task and what it requires."""
        if entry.id not in self._fits:
            needed = negotiate(finding.requires, have(self.session, list(finding.requires.libraries)))
            self._fits[entry.id] = both(matches(finding, self.task), needed)
        return self._fits[entry.id]

    def claimed(self, entry: Entry) -> float:
        """The gain that a finding claims over its parent, worked out once."""
        if entry.id not in self._claims:
            assert isinstance(entry.signed.record, Finding)
            self._claims[entry.id] = entry.signed.record.claimed
        return self._claims[entry.id]

    def maker(self, genome: str, author: str, but: Container[str]) -> Entry | None:
        """The finding that made a genome: the author's own, else of whoever is trusted most; ``but``: not these."""
        found = [entry for entry in self._made(genome) if entry.id not in but]
        return max(found, key=lambda e: (e.author == author, self.trusted(e.author).value), default=None)

    def offers(
        self, sigma: float, tried: Sequence[frozenset[str]], used: Used, claim: Callable[[str], float]
    ) -> tuple[list[FindingOffer], list[tuple[str, Finding, str]]]:
        """The findings that may be measured, and those of which one can only be told, with the reason.

        ``claim``: the gain that a finding claims over what is known here.
        """
        offers, told = [], []
        most = max([sigma, *(one.gain or 0.0 for one in self.measured if one.verdict == "confirmed")])
        for name in [*sorted({one.author for one in self.measured}), *self._strangers()]:
            known, own = self.trusted(name), []
            if known.quarantined:
                continue
            for entry in self._published(name, Finding)[-PER_AUTHOR if known.proven else -PER_STRANGER :]:
                finding = entry.signed.record
                assert isinstance(finding, Finding)
                if finding.task.metric != self.task.metric or entry.id in self.threats or self._taken_back(entry):
                    continue
                fit = self.fit(entry, finding)
                if finding.status != "keep" or self.claimed(entry) <= 0:
                    told.append((entry.id, finding, f"{finding.status} there, {finding.reason}"))
                elif fit.level == "not":
                    told.append((entry.id, finding, "; ".join(fit.reasons)))
                elif entry.id not in used:
                    own.append((claim(entry.id), entry.id, finding, fit))
            if not known.proven:  # of a stranger the largest claim: it shows the most
                own = sorted(own, key=lambda each: each[:2])[-1:]
            for claimed, target, finding, fit in own:
                value = priority(claimed, most if known.proven else sigma, known.value, novelty(finding, tried))
                value *= PARTLY if fit.level == "partly" else 1.0
                offers.append(FindingOffer(target, finding, value, fit, known.proven))
        told.sort(key=lambda each: each[1].status != "keep")
        return offers, told

    def unproven(self, authors: Iterable[str]) -> int:
        """How many of these turns went to authors who have shown nothing here so far."""
        return sum(not self.trusted(author).proven for author in authors)

    # -- what the commons holds ----------------------------------------------------------------------

    def _take_in(self) -> None:
        """File the records that are new, by their authors and kinds."""
        for name, chain in self._chains.items():
            for entry in chain[self._read.get(name, 0) :]:
                record = entry.signed.record
                self.entries[entry.id] = entry
                self._records.setdefault(name, {}).setdefault(type(record), []).append(entry)
                if isinstance(record, Finding) and record.status == "keep":
                    self._makers.setdefault(record.genome, []).append(entry)
            self._read[name] = len(chain)

    def _published(self, author: str, kind: type) -> Sequence[Entry]:
        return self._records.get(author, {}).get(kind, ())

    def _made(self, genome: str) -> Sequence[Entry]:
        return self._makers.get(genome, ())

    def _taken_back(self, entry: Entry) -> bool:
        return any(
            isinstance(e.signed.record, Retraction) and e.signed.record.target == entry.id
            for e in self._published(entry.author, Retraction)
        )

    def _strangers(self) -> list[str]:
        """Some of those of whom nothing was measured here, others each time."""
        known = {one.author for one in self.measured}
        names = [name for name in self._records if name not in known]
        return random.sample(names, min(STRANGERS, len(names)))

    def _others(self, now: float) -> list[PeerVerdict]:
        """What others say they found, of this task: those of whom something was measured here, for no word of
        anybody else counts. Not what is dated ahead, so as never to fade."""
        found = []
        for name in {one.author for one in self.measured} - {self._me}:
            for record in (entry.signed.record for entry in self._published(name, Verification)):
                assert isinstance(record, Verification)
                if record.task == self.task.id and record.target in self.entries and seconds(record.at) < now + EPOCH:
                    about = self.author(record.target)
                    found.append(PeerVerdict(record.target, about, record.verdict, seconds(record.at), by=name))
        return found

    def _warnings(self, now: float) -> list[ThreatWarning]:
        """What was seen here, and what those warn of who are trusted."""
        found = [ThreatWarning(one.target, "", one.at, own=True) for one in self.measured if one.reason == "tampered"]
        for name in (name for name, known in self.trust.items() if known.proven and name != self._me):
            for record in (entry.signed.record for entry in self._published(name, Threat)):
                assert isinstance(record, Threat)
                if seconds(record.at) < now + EPOCH:
                    found.append(ThreatWarning(record.target, name, seconds(record.at)))
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


def _doubts(measured: Iterable[FindingVerified]) -> dict[str, str]:
    """Findings to measure once more, each with the commit to do it on."""
    return {event.target: event.doubt for event in measured if event.doubt is not None}


def seconds(instant: str) -> float:
    """A record's time as seconds since the epoch; of one that no calendar has, 0."""
    try:
        return datetime.fromisoformat(instant).timestamp()
    except ValueError:
        return 0.0
