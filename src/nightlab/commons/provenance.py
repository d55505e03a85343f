"""Genomes of others, made again here step by step from what they published: the way from a genome known here to theirs.

A finding is a patch on its parent, which somebody else's champion was: the gain that it claims is the last of many, and
on another genome it may not show. But its parent is some finding's genome too, and so on down to one that is known
here. Along that way the whole genome can be made, hash by hash, and one trial tells what all its steps are worth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nightlab.commons.exchange import Entry
from nightlab.commons.finding import target_of
from nightlab.commons.peer_store import PeerStore
from nightlab.commons.record import Finding, gain, genome_id
from nightlab.session.session import Session
from nightlab.storage.git import OutOfScope, PatchConflict

STEPS = 50  # of a way at most
GROUNDS = 20  # kept genomes, the latest, from which a way may start


@dataclass(frozen=True, slots=True)
class ProvenancePath:
    """From a genome that is known here to a finding's: at the end of the last step."""

    start: str
    steps: tuple[Entry, ...]

    @property
    def claimed(self) -> float:
        """The gain that all its steps together are said to bring."""
        first, last = _finding(self.steps[0]), _finding(self.steps[-1])
        return last.claimed if first is last else gain(last.task.metric, last.runs, first.against)

    @property
    def against(self) -> int:
        """Of how many trials what it starts from is said to be the mean."""
        return len(_finding(self.steps[0]).against)


class ProvenanceIndex:
    """The ways to others' genomes, for one session."""

    def __init__(self, session: Session, peers: PeerStore) -> None:
        self.session, self.peers = session, peers
        self._ids: dict[str, str] = {}
        self._made: dict[str, str] = {}
        self._broken: set[str] = set()
        self._adopted: set[str] = set()
        self.measured: dict[str, str] = {}
        """Genomes that are the baseline's or were kept here lately, and their commits."""
        self.within: dict[str, str] = {}
        """These, and others' genomes that were adopted here: what they gain, the champion has."""

    def look(self) -> None:
        """See what is known here by now."""
        ledger, adopted = self.session.ledger, list[str]()
        self.measured = {}
        for experiment in (*ledger.experiments(GROUNDS, "keep"), ledger.experiment(0)):
            commit, target = experiment.candidate.commit, target_of(experiment.candidate.source)
            self.measured[self.id(commit)] = commit
            if target in self.peers.entries:
                adopted.append(target)
        for target in adopted:
            if target not in self._adopted:
                self._adopted.add(target)
                if way := self.to(target, self.measured):
                    self._walk(way)
        genomes = [_finding(self.peers.entries[target]).genome for target in adopted]
        self.within = {genome: self._made[genome] for genome in genomes if genome in self._made} | self.measured

    def id(self, commit: str) -> str:
        """The name of the genome at a commit."""
        if commit not in self._ids:
            self._ids[commit] = genome_id(self.session.genome(commit))
        return self._ids[commit]

    def to(self, target: str, known: Mapping[str, str]) -> ProvenancePath | None:
        """The way to a finding's genome from the nearest ``known`` one; None if there is none."""
        steps = [self.peers.entries[target]]
        while (parent := _finding(steps[-1]).parent) not in known:
            maker = self.peers.maker(parent, steps[-1].author, self._broken)
            if maker is None or len(steps) == STEPS:
                return None
            steps.append(maker)
        return ProvenancePath(known[parent], tuple(reversed(steps)))

    def best(self, target: str) -> ProvenancePath | None:
        """The way to a finding's genome from what is within the champion, where it promises more than its last step."""
        entry = self.peers.entries[target]
        way = self.to(target, self.within) if self.peers.comparable(_finding(entry)) else None
        return way if way and (len(way.steps) == 1 or way.claimed >= self.peers.claimed(entry)) else None

    def claim(self, target: str) -> float:
        """What a finding claims over what is known here, with all the steps that led to it."""
        way, entry = self.best(target), self.peers.entries[target]
        return way.claimed if way and len(way.steps) > 1 else self.peers.claimed(entry)

    def patch(self, way: ProvenancePath) -> str:
        """All the steps of a way as one patch on its start; empty where it leads elsewhere than its records say."""
        end = self._walk(way)
        if len(way.steps) == 1:
            return self.peers.commons.patch(way.steps[0])
        return self.session.repo.diff(way.start, end) if end else ""

    def _walk(self, way: ProvenancePath) -> str:
        """The commit at the end of a way; empty where a step is not what its record says."""
        on = way.start
        for entry in way.steps:
            finding, repo = _finding(entry), self.session.repo
            if finding.genome not in self._made:
                try:
                    commit = repo.commit_patch(on, self.peers.commons.patch(entry), "a step of another lab's")
                    repo.check_scope(on, commit, self.session.lab.genome)
                except (PatchConflict, OutOfScope):
                    commit = ""
                if not commit or self.id(commit) != finding.genome:
                    self._broken.add(entry.id)
                    return ""
                self._made[finding.genome] = commit
            on = self._made[finding.genome]
        return on


def _finding(entry: Entry) -> Finding:
    assert isinstance(entry.signed.record, Finding)
    return entry.signed.record
