"""One candidate from the steps that this lab and those that it knows have measured: what probably gains is added to the
champion, what probably does not is taken back.

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
        self._last: tuple[object, tuple[str, FindingSource] | None] = ((), None)

    def combine(self, champion: str, sigma: float) -> tuple[str, FindingSource] | None:
        """The patch of a combination on the commit ``champion``, and what it is made of.

        ``sigma``: the seed-to-seed noise. None where nothing is to be added, where too little is expected, and where it
        was tried already.
        """
        if self.session.lab.gene:
            return None  # a module is one gene: its parts are no steps
        state = champion, sigma, len(self.peers.measured), len(self.peers.entries)
        if self._last[0] != state:
            self._last = state, self._combined(champion, sigma)
        found = self._last[1]
        return None if found is None or str(found[1]) in self.used else found

    def _combined(self, champion: str, sigma: float) -> tuple[str, FindingSource] | None:
        known, here = self.effects.estimate(sigma), self.effects.of(self.paths.id(champion))
        repo, suspect = self.session.repo, self._suspect()
        commits, added, without = [champion], list[str](), list[str]()
        expected, left = 0.0, TRIES
        for step, effect in sorted(known.items(), key=lambda each: (-abs(each[1]), each[0])):
            add = effect > 0
            chosen = added if add else without
            if (step in here) == add or len(chosen) == MOST or not left:
                continue
            entry = self.effects.maker(step)
            if entry is None or entry.id in suspect or not self._allowed(entry, add):
                continue
            left -= 1
            if after := self._applied(champion, commits[-1], entry, reverse=not add):
                commits.append(after)
                expected += abs(effect)
                chosen.append(entry.id)
        if len(commits) == 1:
            return None
        patch, tried = repo.patch(champion, commits[-1]), self.session.ledger.find_tree(repo.tree(commits[-1]))
        repo.release_pending(*commits[1:])  # the patch is made a commit again when it is proposed
        if tried or len(commits) == 2 or not added or expected < LEAST * sigma:
            return None
        first, *others = sorted(added)
        return patch, FindingSource(first, beside=tuple(others), without=tuple(sorted(without)))

    def _suspect(self) -> set[str]:
        """The findings of combinations that gave no number: they must run by themselves before they are in another."""
        found = set[str]()
        for event in self.peers.measured:
            if event.alone and event.runs:
                found.discard(event.target)
            elif not event.runs:
                found.update((event.target, *event.beside, *event.without))
        return found

    def _allowed(self, entry: Entry, add: bool) -> bool:
        """Whether a finding may be added, or taken back: of what is in the champion, all may."""
        finding = entry.signed.record
        assert isinstance(finding, Finding)
        if not add:
            return True
        barred = self.peers.is_barred(entry) or self.peers.trust_in(entry.author).quarantined
        return not (barred or self.peers.is_own(entry) or self.peers.obstacle(entry, finding))

    def _applied(self, champion: str, commit: str, entry: Entry, reverse: bool) -> str:
        """The commit with a finding's patch applied, or taken back; empty where that is not possible or no change."""
        repo, patch = self.session.repo, self.peers.commons.patch(entry)
        if "\nGIT binary patch" in patch:
            return ""
        try:
            after = repo.commit_patch(commit, patch, "steps of other labs", reverse=reverse)
        except (PatchConflict, OutOfScope):
            return ""
        try:
            repo.check_scope(champion, after, self.session.lab.genome)
            changed = repo.tree(after) != repo.tree(commit)
        except OutOfScope:
            changed = False
        if not changed:
            repo.release_pending(after)
        return after if changed else ""
