"""Making candidates: a proposal as a commit, the record of what it changes, and its place in the ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from nightlab.core.program.facts import SessionContext
from nightlab.core.regions import frozen_change
from nightlab.core.text import one_line
from nightlab.core.types import Candidate
from nightlab.loop.duplicates import DuplicateIndex, outcome_summary
from nightlab.loop.program_reader import ProgramReader
from nightlab.proposers import Proposal
from nightlab.session.metric_claim import taken_for
from nightlab.session.replicates import SUBMITTERS
from nightlab.session.session import Session
from nightlab.storage.git import OutOfScope, PatchConflict


class CandidateBuilder:
    """Makes the candidates of one session, and admits those that were never tried.

    ``tick`` is called while the program of one is read; what it raises ends that.
    """

    def __init__(self, session: Session, tick: Callable[[], object] = lambda: None) -> None:
        self.session, self.ledger, self.tried = session, session.ledger, DuplicateIndex(session)
        self.reader = ProgramReader(self._context, tick)

    def realise(self, proposal: Proposal, parent: str, old: Candidate | None = None) -> Candidate:
        """The proposal as a commit on ``parent``; a queued patch that conflicts there, on the baseline.

        An idea that collides with what was kept may still beat it: then the lineage branches. ``old``: what was made of
        the proposal before; its change is made again. Raises PatchConflict where that can't be, and OutOfScope.
        """
        repo = self.session.repo
        if proposal.base and not old:
            made = repo.commit_patch(proposal.base, proposal.patch, proposal.hypothesis)
            old = self._of(made, proposal.base, proposal)
        if not (proposal.patch or old):
            commit = repo.commit_files(parent, proposal.files, proposal.hypothesis)
            return self._of(commit, parent, proposal)
        only = bool(proposal.files or proposal.on) or proposal.proposer in SUBMITTERS
        for on in dict.fromkeys((parent, parent if only else self.session.base)):
            try:
                if old:
                    return self.again(proposal, old, on)
                commit = repo.commit_patch(on, proposal.patch, proposal.hypothesis)
                return self._carried(commit, on, proposal)
            except PatchConflict as conflict:
                last = conflict
        raise last

    def _context(self) -> SessionContext:
        session, limits = self.session, self.session.lab.information
        baseline = session.genome(session.base)
        return SessionContext(
            session.device, self.tried.outside, baseline, limits.growth_bytes, limits.literals == "any"
        )

    def again(self, proposal: Proposal, old: Candidate, on: str) -> Candidate:
        """The change of a candidate made again on another genome: three-way, or constants by their names.

        Constants stand in one block, where two changes of different ones conflict as texts. Raises PatchConflict, and
        OutOfScope.
        """
        repo = self.session.repo
        try:
            commit = repo.commit_patch(on, repo.patch(old.parent, old.commit), proposal.hypothesis)
        except PatchConflict:
            if (files := self._moved(old, on)) is None:
                raise
            commit = repo.commit_files(on, files, proposal.hypothesis)
        return self._carried(commit, on, proposal)

    def _carried(self, commit: str, on: str, proposal: Proposal) -> Candidate:
        """What became of a change on another genome. Raises OutOfScope when that one holds it already."""
        repo = self.session.repo
        if repo.tree(commit) == repo.tree(on):
            champion = on == self.session.champion_to_be().candidate.commit
            raise OutOfScope(f"{'the champion' if champion else 'its parent'} holds this change already")
        return self._of(commit, on, proposal)

    def _moved(self, old: Candidate, on: str) -> dict[str, str] | None:
        """The files of the genome at ``on`` with a candidate's changes of constants; None if it changes more."""
        before, after, now = (self.session.genome(commit) for commit in (old.parent, old.commit, on))
        files = {}
        for path in self.session.repo.changed(old.parent, old.commit):
            was, wanted, there = before.get(path, ""), after.get(path, ""), now.get(path, "")
            made = self.reader.same_moves(path, was, wanted, there, self.session.device)
            if made is None:
                return None
            files[path] = made
        return files

    def _of(self, commit: str, parent: str, proposal: Proposal) -> Candidate:
        made = self.candidate(commit, parent, proposal.proposer, proposal.hypothesis, proposal.source)
        return replace(made, usage=dict(proposal.usage))

    def baseline(self) -> Candidate:
        baseline = self.session.baseline_candidate()
        found = self.reader.facts(self.session.genome(baseline.commit))
        return replace(
            baseline,
            constants=dict(found.constants or {}),
            program=found.program,
            lines=found.lines,
            information=found.information,
        )

    def candidate(self, commit: str, parent: str, proposer: str, hypothesis: str, source: str = "") -> Candidate:
        """The record of a candidate, with what it really changes.

        Raises OutOfScope when it changes something other than the genome, nothing at all, or does not parse.
        """
        repo, session = self.session.repo, self.session
        hypothesis = one_line(hypothesis)
        touched = repo.check_scope(parent, commit, session.lab.genome)
        if not touched:
            raise OutOfScope("it changes nothing")
        there = repo.files(session.base)
        for path in touched:
            if taken := taken_for(path, session.lab, there, partial(repo.read, session.base)):
                raise OutOfScope(f"{path} would be {taken}: rename it")
        genome, before = session.genome(commit), session.genome(parent)
        found = self.reader.facts(genome, before, touched)
        fault = found.refusal or next(filter(None, (self._frozen(path, before, genome) for path in touched)), "")
        if fault:
            raise OutOfScope(fault)
        return Candidate(
            commit=commit,
            parent=parent,
            tree=repo.tree(commit),
            proposer=proposer,
            hypothesis=hypothesis,
            lines=found.lines,
            information=found.information,
            constants=dict(found.constants or {}),
            changes=tuple(found.changes),
            source=source,
            program=found.program,
            theme=tuple(found.theme),
        )

    def _frozen(self, path: str, before: Mapping[str, str], after: Mapping[str, str]) -> str:
        """Why a file may not change as it did: outside the markers that its contract names; empty if it may."""
        return frozen_change(path, before.get(path, ""), after.get(path, ""), self.session.lab.between)

    def admit(self, candidate: Candidate, *, twins: bool = False) -> int:
        """Record a candidate that was never tried, unless ``twins`` may be, and keep its commit reachable.

        Raises OutOfScope for a genome that was tried.
        """
        if not twins:
            self.require_new(candidate)
        number = self.ledger.next_number()
        self.session.repo.keep_reachable(self.session.tag, f"{number:06d}", candidate.commit)
        self.ledger.propose(candidate)
        return number

    def require_new(self, candidate: Candidate) -> None:
        if twin := self.tried.same(candidate):
            same = "genome" if twin.candidate.tree == candidate.tree else "program, in other words,"
            raise OutOfScope(f"it is the same {same} as experiment {twin.number}: {outcome_summary(twin)}")
