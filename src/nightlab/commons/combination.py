"""One candidate from the steps of labs that are known: what probably gains is added to the champion, what probably
does not is taken back.

The estimates only choose what to try: the candidate is measured and judged like any other, and its result says nothing
of a single finding or its author.
"""

from __future__ import annotations

from nightlab.commons.entry import Entry
from nightlab.commons.finding import FindingSource
from nightlab.commons.peer_store import PeerStore
from nightlab.commons.provenance import ProvenanceIndex
from nightlab.commons.record import Finding
from nightlab.commons.steps import StepEffects
from nightlab.proposers.proposer import Used
from nightlab.session.session import Session
from nightlab.storage.git import OutOfScope, PatchConflict

MOST = 8  # steps that are added, and as many that are taken back
TRIES = 16  # patches that are applied for it
LEAST = 0.5  # sigmas that are expected of it


class Combiner:
    """Makes combinations for one session. ``used``: the sources that had their turn."""

    def __init__(self, session: Session, peers: PeerStore, paths: ProvenanceIndex, used: Used) -> None:
        self.session, self.peers, self.paths, self.used = session, peers, paths, used
        self.effects = StepEffects(session, peers, paths)
        self._commits: dict[tuple[str, str, bool], str] = {}

    def combine(self, champion: str, sigma: float) -> tuple[str, FindingSource] | None:
        """The commit of a combination on the commit ``champion``, and what it is made of.

        ``sigma``: the seed-to-seed noise. None where nothing is to be added, where too little is expected, and where it
        was tried already.
        """
        if self.session.lab.gene:
            return None  # a module is one gene: its parts are no steps
        known = self.effects.estimate(sigma)
        here, suspect = self.effects.of(self.paths.id(champion)), self._suspect()
        commit, added, without = champion, list[str](), list[str]()
        expected, left = 0.0, TRIES
        for genome, effect in sorted(known.items(), key=lambda each: (-abs(each[1].mean), each[0])):
            add = effect.mean > 0
            chosen = added if add else without
            if (genome in here) == add or len(chosen) == MOST or not left:
                continue
            entry = self.peers.finding_for(genome, "", suspect)
            if entry is None or not self._allowed(entry, add):
                continue
            left -= 1
            if after := self._applied(champion, commit, entry, reverse=not add):
                commit, expected = after, expected + abs(effect.mean)
                chosen.append(entry.id)
        if len(added) + len(without) < 2 or not added or expected < LEAST * sigma:
            return None
        made = FindingSource(added[0], beside=tuple(added[1:]), without=tuple(without))
        tried = str(made) in self.used or self.session.ledger.find_tree(self.session.repo.tree(commit))
        return None if tried else (commit, made)

    def _suspect(self) -> set[str]:
        """The findings of combinations that gave no number: they must run by themselves before they are in another."""
        found = set[str]()
        for event in self.peers.measured:
            if event.alone and event.runs:
                found.discard(event.target)
            elif not event.runs:
                found.update((event.target, *event.beside))
        return found

    def _allowed(self, entry: Entry, add: bool) -> bool:
        """Whether a finding may be added, or taken back: of labs that are heard, and for the latter of this one's."""
        finding = entry.signed.record
        assert isinstance(finding, Finding)
        own = self.peers.is_own(entry)
        if self.peers.is_barred(entry) or not (own or entry.author in self.peers.heard()):
            return False
        return not (own or self.peers.obstacle(entry, finding)) if add else True

    def _applied(self, champion: str, commit: str, entry: Entry, reverse: bool) -> str:
        """The commit with a finding's patch applied, or taken back; empty where that is not possible or no change."""
        key = commit, entry.id, reverse
        if key not in self._commits:
            self._commits[key] = self._apply(champion, commit, entry, reverse)
        return self._commits[key]

    def _apply(self, champion: str, commit: str, entry: Entry, reverse: bool) -> str:
        repo, patch = self.session.repo, self.peers.commons.patch(entry)
        if "\nGIT binary patch" in patch:
            return ""
        try:
            after = repo.commit_patch(commit, patch, "steps of other labs", reverse=reverse)
            repo.check_scope(champion, after, self.session.lab.genome)
        except (PatchConflict, OutOfScope):
            return ""
        return after if repo.tree(after) != repo.tree(commit) else ""
