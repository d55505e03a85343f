"""What one session knows of its peers: their findings, how far each author is trusted, what is worth measuring."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from nightlab.commons.capability import Fit, both, matches, negotiate
from nightlab.commons.exchange import Commons, Entry
from nightlab.commons.places import author
from nightlab.commons.queue import PARTLY, Offer, gap, novelty
from nightlab.commons.record import Finding, Retraction, Threat, Verification
from nightlab.commons.trust import EPOCH, Judgement, Trust, Warning, priority, threats, trust
from nightlab.findings import have, platform_of, task_of
from nightlab.ledger import find_ledger, tags
from nightlab.propose.proposer import Used
from nightlab.records import Experiment, NightlabError
from nightlab.session import Session

PER_AUTHOR = 50  # findings of one author, the latest, that are looked at
STRANGERS = 100  # authors of whom nothing was measured here that are looked at in one turn, drawn anew each time


class Peers:
    """What a session knows, from the user's copy of the commons and the ledgers of the lab's sessions."""

    def __init__(self, session: Session, commons: Commons) -> None:
        self.session, self.commons = session, commons
        self.task, self.platform = task_of(session), platform_of(session)
        self.entries: dict[str, Entry] = {}
        self.trust: dict[str, Trust] = {}
        self.threats: set[str] = set()
        self.doubts = {note["target"]: note["doubt"] for note in session.ledger.notes("verified") if "doubt" in note}
        """Findings that did not hold on another genome than their own, and the commit of that one."""
        self._chains, self._me = commons.entries(), author()
        self.measured = [note for tag in tags(session.repo.lab) for note in self._measured(tag)]
        self._fits: dict[str, Fit] = {}
        self.learn()

    def learn(self, *measured: dict[str, Any]) -> None:
        """Take what was just measured, and what came to the commons meanwhile, into account."""
        self.measured += measured
        with suppress(NightlabError):  # a copy that is damaged meanwhile: `nightlab sync` tells, the night goes on
            self._chains = self.commons.entries()
        if sum(map(len, self._chains.values())) != len(self.entries):
            self.entries = {entry.id: entry for chain in self._chains.values() for entry in chain}
        now = time.time()
        self.trust = trust([*self.own(), *self._others()], now)
        self.threats = threats(self._warnings(), self.trust, now)
        self.doubts |= {note["target"]: note["doubt"] for note in measured if "doubt" in note}

    def author(self, target: str) -> str:
        return self.entries[target].author if target in self.entries else ""

    def own(self) -> list[Judgement]:
        """What was found here."""
        return [
            Judgement(note["target"], note["author"], note["verdict"], note["at"], note["elsewhere"])
            for note in self.measured
        ]

    def comparable(self, finding: Finding) -> bool:
        """Whether the numbers of a finding compare with those of here."""
        theirs, here = finding.platform, self.platform
        return finding.task.id == self.task.id and (theirs.device, theirs.accelerator) == (
            here.device,
            here.accelerator,
        )

    def fit(self, entry: Entry, finding: Finding) -> Fit:
        """Whether a finding can be measured here, by its task and what it requires."""
        if entry.id not in self._fits:
            needed = negotiate(finding.requires, have(self.session, list(finding.requires.libraries)))
            self._fits[entry.id] = both(matches(finding, self.task), needed)
        return self._fits[entry.id]

    def offers(
        self, sigma: float, champion: Experiment, tried: Sequence[frozenset[str]], used: Used
    ) -> tuple[list[Offer], list[tuple[str, Finding, str]]]:
        """The findings that may be measured, and those of which one can only be told, with the reason."""
        offers, told = [], []
        taken_back = {
            (e.author, r.target) for e in self.entries.values() if isinstance(r := e.signed.record, Retraction)
        }
        bar = champion.bar if champion.bar is not None else 0.0
        for entry, finding in self._findings():
            known = self.trust.get(entry.author, Trust())
            if known.quarantined or entry.id in self.threats or (entry.author, entry.id) in taken_back:
                continue
            if finding.task.metric != self.task.metric:
                continue
            fit = self.fit(entry, finding)
            if finding.status != "keep" or finding.claimed <= 0:
                told.append((entry.id, finding, f"{finding.status} there, {finding.reason}"))
            elif fit.level == "not":
                told.append((entry.id, finding, "; ".join(fit.reasons)))
            elif entry.id not in used:
                left, new = gap(self.task.metric, finding, bar, self.comparable(finding)), novelty(finding, tried)
                value = priority(finding.claimed, sigma, known.value, left, new)
                offers.append(Offer(entry.id, finding, value * (PARTLY if fit.level == "partly" else 1.0), fit))
        told.sort(key=lambda each: each[1].status != "keep")
        return offers, told

    def _findings(self) -> list[tuple[Entry, Finding]]:
        """The findings that are looked at: the latest of all who are known here, and of some who are not."""
        known, unknown = self._chains.keys() & self.trust.keys(), list(self._chains.keys() - self.trust.keys())
        found = []
        for name in [*sorted(known), *random.sample(unknown, min(STRANGERS, len(unknown)))]:
            chain = ((entry, entry.signed.record) for entry in self._chains[name])
            own = [(entry, record) for entry, record in chain if isinstance(record, Finding)]
            found += own[-PER_AUTHOR:]
        return found

    def _others(self) -> list[Judgement]:
        """What others say they found, of this task; what this user says is known from the ledgers."""
        found = []
        for record in self._by_others():
            if isinstance(record, Verification) and record.task == self.task.id and record.target in self.entries:
                author = self.author(record.target)
                found.append(Judgement(record.target, author, record.verdict, seconds(record.at), by=record.author))
        return found

    def _warnings(self) -> list[Warning]:
        threats = (record for record in self._by_others() if isinstance(record, Threat))
        said = [Warning(threat.target, threat.author, seconds(threat.at)) for threat in threats]
        seen = [Warning(n["target"], "", n["at"], own=True) for n in self.measured if n["reason"] == "tampered"]
        return said + seen

    def _by_others(self) -> Iterator[Finding | Verification | Retraction | Threat]:
        """What others say; not what is dated ahead, so as never to fade."""
        records = (entry.signed.record for entry in self.entries.values() if entry.author != self._me)
        return (record for record in records if seconds(record.at) < time.time() + EPOCH)

    def _measured(self, tag: str) -> list[dict[str, Any]]:
        """What a session of this lab found of others' findings of this task; nothing, if its ledger can't be read."""
        try:
            ledger = self.session.ledger if tag == self.session.tag else find_ledger(self.session.repo.lab, tag)
        except NightlabError:
            return []
        try:
            return [note for note in ledger.notes("verified") if note["task"] == self.task.id]
        finally:
            if ledger is not self.session.ledger:
                ledger.close()


def seconds(instant: str) -> float:
    """A record's time as seconds since the epoch; of one that no calendar has, 0."""
    try:
        return datetime.fromisoformat(instant).timestamp()
    except ValueError:
        return 0.0
