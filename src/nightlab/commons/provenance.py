"""Rebuilds other labs' genomes step by step from published findings: the path from a genome known here to theirs.

A finding is a patch on its parent, usually another lab's champion. Its claimed gain is the last of many, and may not
show on another genome. But the parent is some finding's genome too, and so on back to a genome known here. Along that
path the whole genome can be rebuilt, verified hash by hash, and one trial measures all steps together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from nightlab.commons.entry import Entry
from nightlab.commons.finding import FindingSource
from nightlab.commons.peer_store import PeerStore
from nightlab.commons.record import Finding, gain, genome_id
from nightlab.session.session import Session
from nightlab.storage.git import OutOfScope, PatchConflict

STEPS = 50  # longest path
GROUNDS = 20  # most recently kept genomes from which a path may start


@dataclass(frozen=True, slots=True)
class ProvenancePath:
    """The steps from a genome known here (the commit ``start``) to a finding's genome."""

    start: str
    steps: tuple[Entry, ...]

    @property
    def claimed(self) -> float:
        """The claimed gain of all steps together."""
        first, last = _finding(self.steps[0]), _finding(self.steps[-1])
        return last.claimed if first is last else gain(last.task.metric, last.runs, first.against)

    @property
    def against(self) -> int:
        """The number of trials in the claimed mean of the starting genome."""
        return len(_finding(self.steps[0]).against)


class ProvenanceIndex:
    """The paths to other labs' genomes, for one session."""

    def __init__(self, session: Session, peers: PeerStore) -> None:
        self.session, self.peers = session, peers
        self._ids: dict[str, str] = {}
        self._findings_for: dict[str, str] = {}
        self._broken: set[str] = set()
        self._adopted: dict[str, tuple[str, ...]] = {}
        self._roots: dict[str, tuple[Entry, int] | None] = {}
        self.measured: dict[str, str] = {}
        """The baseline and recently kept genomes, with their commits."""
        self.in_champion: dict[str, str] = {}
        """The same, and all steps of the adopted genomes of others: their gains are part of the champion."""

    def refresh(self, before: float = math.inf) -> None:
        """Refresh the genomes that are known here, as they were before an experiment."""
        ledger, adopted = self.session.ledger, list[str]()
        self.measured = {}
        kept = [one for one in ledger.experiments(GROUNDS, "keep") if one.number < before]
        for experiment in (*kept, ledger.experiment(0)):
            commit, source = experiment.candidate.commit, FindingSource.of(experiment.candidate.source)
            self.measured[self.id(commit)] = commit
            if source.alone and source.target in self.peers.entries:
                adopted.append(source.target)
        for target in adopted:
            if target not in self._adopted:
                path = self.path_to(target, self.measured)
                steps = path.steps if path and self._walk(path) else ()
                self._adopted[target] = tuple(_finding(step).genome for step in steps)
        genomes = [genome for target in adopted for genome in self._adopted[target]]
        self.in_champion = {genome: self._findings_for[genome] for genome in genomes} | self.measured
        self._roots = {}

    def id(self, commit: str) -> str:
        """The id of the genome at a commit."""
        if commit not in self._ids:
            self._ids[commit] = genome_id(self.session.genome(commit))
        return self._ids[commit]

    def path_to(self, target: str, known: Mapping[str, str]) -> ProvenancePath | None:
        """The path to a finding's genome from the nearest ``known`` one; None if there is none."""
        steps = [self.peers.entries[target]]
        while (parent := _finding(steps[-1]).parent) not in known:
            maker = self.peers.finding_for(parent, steps[-1].author, self._broken)
            if maker is None or len(steps) == STEPS:
                return None
            steps.append(maker)
        return ProvenancePath(known[parent], tuple(reversed(steps)))

    def best_path(self, target: str) -> ProvenancePath | None:
        """The path from the champion's known genomes, if it promises at least as much as its last step; else None."""
        entry = self.peers.entries[target]
        path = self.path_to(target, self.in_champion) if self.peers.comparable(_finding(entry)) else None
        return path if path and (len(path.steps) == 1 or path.claimed >= self.peers.claimed(entry)) else None

    def claim(self, target: str) -> float:
        """The gain that a finding claims over what is known here, including all steps that led to it."""
        entry = self.peers.entries[target]
        finding, own = _finding(entry), self.peers.claimed(entry)
        root = self._root(entry) if self.peers.comparable(finding) else None
        if root is None or root[1] > STEPS:
            return own
        return max(own, gain(finding.task.metric, finding.runs, _finding(root[0]).against))

    def _root(self, entry: Entry) -> tuple[Entry, int] | None:
        """The first of the steps from the champion's known genomes to a finding's, and their number; None where no such
        path is known. Each step is looked at once, however many findings stand on it."""
        way = list[Entry]()
        while entry.id not in self._roots:
            way.append(entry)
            self._roots[entry.id] = None  # a circle of claims ends here
            parent = _finding(entry).parent
            if parent in self.in_champion:
                self._roots[entry.id] = entry, 1
                break
            maker = self.peers.finding_for(parent, entry.author, self._broken)
            if maker is None:
                break
            entry = maker
        for step in reversed(way):
            before = self._roots[entry.id]
            if before and step is not entry:
                self._roots[step.id] = before[0], before[1] + 1
            entry = step
        return self._roots[entry.id]

    def patch(self, path: ProvenancePath) -> str:
        """All steps of a path as one patch on its start; empty if a step does not give the genome that it claims."""
        end = self._walk(path)
        if len(path.steps) == 1:
            return self.peers.commons.patch(path.steps[0])
        return self.session.repo.patch(path.start, end) if end else ""

    def _walk(self, path: ProvenancePath) -> str:
        """The commit at the end of a path; empty if a step does not give the genome that it claims."""
        on = path.start
        for entry in path.steps:
            finding, repo = _finding(entry), self.session.repo
            if finding.genome not in self._findings_for:
                try:
                    commit = repo.commit_patch(on, self.peers.commons.patch(entry), "a step of another lab")
                    repo.check_scope(on, commit, self.session.lab.genome)
                except (PatchConflict, OutOfScope):
                    commit = ""
                if not commit or self.id(commit) != finding.genome:
                    self._broken.add(entry.id)
                    return ""
                self._findings_for[finding.genome] = commit
            on = self._findings_for[finding.genome]
        return on


def _finding(entry: Entry) -> Finding:
    assert isinstance(entry.signed.record, Finding)
    return entry.signed.record
