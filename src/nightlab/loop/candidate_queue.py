"""Candidates: proposed while trials run, made ready, and admitted as experiments when there is room for a trial."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from rich.markup import escape

from nightlab.commons.proposer import CommonsProposer
from nightlab.core.events import ProposalRefused, SharesMoved
from nightlab.core.observer import Observer
from nightlab.core.text import counted, one_line
from nightlab.core.types import Candidate, Experiment
from nightlab.judge import Noise
from nightlab.loop.briefing import build_briefing
from nightlab.loop.candidate_builder import CandidateBuilder
from nightlab.loop.duplicates import outcome_summary
from nightlab.loop.proposal_task import ProposalTask
from nightlab.loop.proposer_turns import MOMENT, ProposerTurns
from nightlab.proposers import Briefing, Proposal, Proposer, RejectedProposal, make_proposers
from nightlab.proposers.mixture import Mixture
from nightlab.proposers.proposer import ProposerWorkspace
from nightlab.proposers.selection import PluggedSelection, Selection, make_search, node_value
from nightlab.proposers.shares import cost_of
from nightlab.sandbox.traffic import TrafficCaps
from nightlab.session.credit import credit_of, iter_credits
from nightlab.session.replicates import ABLATION, HUMAN, SUBMITTERS
from nightlab.session.session import Session
from nightlab.storage.git import OutOfScope, PatchConflict
from nightlab.storage.ledger import pending_submissions, remove_submission

REFUSALS = 25  # in a row, of each that thinks, before a session has nothing left: an outage fails all their turns
MISFITS = 4  # per slot, proposals that wait at most, those that fit nothing yet included
NO_CAPS = TrafficCaps()
RECALLED = 200  # judged experiments whose gains a session that resumes counts for their proposers


@dataclass(frozen=True, slots=True)
class QueuedCandidate:
    """A candidate that waits for a slot; none if the proposal did not fit, which may change with what runs.

    ``parent`` is the genome that the search asked for; without one it is the ``champion`` of its time, a commit.
    ``after``: how many experiments there were by then.
    """

    proposal: Proposal
    candidate: Candidate | None
    champion: str
    parent: Experiment | None
    after: int

    @property
    def theme(self) -> frozenset[str]:
        return frozenset(self.candidate.theme if self.candidate else ())


class CandidateQueue:
    """Where a session's experiments come from. As many are made ready as there are ``slots``; a kill loses those alone.

    A proposer knows what those before it proposed. As many think at the same time as the trials use up candidates; when
    a slot has nothing to do but wait for one that may take minutes, another has a turn meanwhile, one that takes none.
    """

    def __init__(
        self,
        session: Session,
        view: Observer,
        seed: int = 0,
        slots: int = 1,
        noise: Callable[[], Noise] = lambda: Noise(0.0, 0.0),
        pinned: Callable[[], int | None] = lambda: None,
        given: Mapping[str, tuple[Proposer, float]] | None = None,
        selection: Selection | None = None,
        tick: Callable[[], object] = lambda: None,
    ) -> None:
        self.session, self.ledger, self.view, self.slots, self.noise = session, session.ledger, view, slots, noise
        self.pinned = pinned
        had, used = self.ledger.proposals_by(), self.ledger.sources()
        place = ProposerWorkspace(session.repo, session.lab, session.sandbox, session.folder / "proposers")
        self.commons_proposer = CommonsProposer(session, had, used, noise) if session.lab.commons else None
        more = dict(given or {})
        if self.commons_proposer:
            more[CommonsProposer.name] = self.commons_proposer, self.commons_proposer.weight
        failed = self.ledger.refusals_by()
        proposers = make_proposers(session.lab, session.repo.lab, had, used, seed, place, more, failed)
        self.earnings = proposers.earnings
        self.search = selection or make_search(session.lab.search, session.metric, seed)
        for experiment in self.ledger.judged(last=self.search.memory):
            self.search.tell(experiment)
        self.making = CandidateBuilder(session, tick)
        self._remember()
        self._champion = self.ledger.champion()
        self.nothing_left = ""
        self.turns = ProposerTurns(proposers, slots, self.brief)
        self._ready: list[QueuedCandidate] = []
        self._refused = 0  # in a row

    @property
    def proposers(self) -> Mixture:
        return self.turns.proposers

    def next(self, *, idle: bool) -> int | None:
        """The number of a new experiment; None while its proposer still thinks, or when nothing is left.

        ``idle``: nothing runs whose result could give a proposer another idea.
        """
        while not self.nothing_left:
            self.propose_ahead(wait=0.0 if self._ready else MOMENT)
            if not self._ready:
                for task in self.turns.slot_waits(True):
                    self._on_turn(task)
            if not self._ready:
                if self.turns.exhausted and idle:
                    why = self.proposers.why_nothing()
                    self.nothing_left = f"the proposers have nothing left to propose{why and f' ({one_line(why)})'}"
                if self.turns.dry or self.turns.under_way:
                    return None
            elif (ready := self._choice()) is None:
                return None
            elif (number := self._take(ready)) is not None:
                return number
        return None

    def upcoming(self) -> Candidate | None:
        """The candidate that is admitted next, unless the champion moves before that, or another comes first."""
        ready = self._choice()
        if ready is None or (ready.parent is None and ready.champion != self.session.champion().candidate.commit):
            return None
        return ready.candidate

    def propose_ahead(self, wait: float = 0.0) -> None:
        """Have the next candidate made ready while trials run, the baseline's too. Raises what a proposer raised."""
        self._take_up_tries()
        for task in self.turns.ended():
            self._on_turn(task)
        fit = sum(ready.candidate is not None for ready in self._ready)
        enough = fit >= self.slots or len(self._ready) >= MISFITS * self.slots
        if not (enough or self.nothing_left) and (main := self.turns.main(wait)):
            waited = {"waited": main.waited} if main.waited else {}
            self._on_turn(main, {} if self._note_failed(waited) else waited)

    def _on_turn(self, task: ProposalTask, waited: Mapping[str, float] | None = None) -> None:
        """Make the turn's proposal ready; ``waited`` goes with what it took. Raises what its proposer raised."""
        if task.error:
            raise task.error
        if task.proposal:
            task.proposal = replace(task.proposal, usage={**task.proposal.usage, **(waited or {})})
            self.turns.spend(task.proposal.usage)
            # An entry of a queue was written for the champion: its author knew of no search, but of what you pinned.
            queued = task.proposal.source and self.pinned() is None
            parent = None if queued else task.briefing.parent
            if task.proposal.on:
                parent = self.ledger.by_commit(task.proposal.on)
            champion = task.briefing.champion.candidate.commit
            if ready := self._make_ready(task.proposal, champion, parent, hope=True):
                self._ready.append(ready)
                self.proposers.tell(task.proposal, None)

    def next_try(self) -> int | None:
        """The number of a new experiment that was handed in; None when no more wait."""
        self._take_up_tries()
        while self._ready:
            if (number := self._take(self._ready[0])) is not None:
                return number
        return None

    def _take_up_tries(self) -> None:
        """Make ready what a person handed in, before the proposers' candidates: the person waits for its verdict."""
        folder, known = self.session.folder, {ready.proposal.source for ready in self._ready}
        for entry in pending_submissions(folder):
            if self.ledger.by_source(entry.id) or self.ledger.refusal(entry.id):
                remove_submission(folder, entry.id)
            elif entry.id not in known:
                who = entry.proposer if entry.proposer in SUBMITTERS else HUMAN
                proposal = Proposal(who, entry.hypothesis, patch=entry.patch, base=entry.base, source=entry.id)
                champion = self.session.champion_to_be().candidate.commit
                if ready := self._make_ready(proposal, champion, None, hope=False):
                    self._ready.insert(sum(r.proposal.proposer in SUBMITTERS for r in self._ready), ready)

    def judged(self, experiment: Experiment) -> None:
        self.search.tell(experiment)
        if self.commons_proposer:
            self.commons_proposer.record_verdict(experiment)
        before, self._champion = self._champion, self.ledger.champion()
        if self.earnings:
            one = credit_of(self.ledger, self.session.metric, experiment, before)
            self.earnings.add(experiment.candidate.proposer, one.gain, one.cost)
        climbs = self.session.lab.search.strategy == "climb" and self.pinned() is None
        if climbs and before and self._champion:
            late = before if experiment.kept else experiment
            if late.number and self._champion.candidate.parent != late.candidate.commit and self._was_good(late):
                self._second_chance(late, self._champion.candidate.commit)

    def _remember(self) -> None:
        """Count again what proposers earned before the session was resumed."""
        if self.earnings is None:
            return
        for one in iter_credits(self.ledger, self.session.metric, RECALLED):
            self.earnings.turn(one.experiment.candidate.proposer)
            self.earnings.add(one.experiment.candidate.proposer, one.gain, one.cost)

    def _was_good(self, experiment: Experiment) -> bool:
        """Whether it beat a champion that it was made on, which is none any more."""
        value, parent = node_value(experiment), self.ledger.by_commit(experiment.candidate.parent)
        if value is None or parent is None or parent.bar is None or parent == self._champion:
            return False
        asked = experiment.candidate.proposer in (*SUBMITTERS, ABLATION)  # a person waits for its verdict alone
        return not asked and self.session.metric.better(value, parent.bar)

    def _second_chance(self, experiment: Experiment, on: str) -> None:
        """Make a change again on the champion that was faster: two that are good are mostly better together.

        With many slots most good changes lose to one that was made at the same time, on the same champion.
        """
        old = experiment.candidate
        proposal = Proposal(old.proposer, old.hypothesis, source=old.source)
        try:
            again = self.making.again(proposal, old, on)
            self.making.require_new(again)
        except (OutOfScope, PatchConflict):
            return  # it was heard once
        self._ready.insert(0, self._waiting(proposal, again, on, None))

    def _choice(self) -> QueuedCandidate | None:
        """Of those that wait, the first that is about nothing that runs, else the first; None when none may go yet."""
        running = [e for e in self.ledger.unjudged() if e.candidate.proposer != ABLATION]
        champion = self.session.champion().candidate.commit
        free = [
            ready
            for ready in self._ready
            if ready.candidate or ready.champion != champion or all(e.number >= ready.after for e in running)
        ]
        about = {name for e in running for name in e.candidate.theme}
        return next((ready for ready in free if not ready.theme & about), free[0] if free else None)

    def _take(self, ready: QueuedCandidate) -> int | None:
        """Admit what is ready; what was made on the champion is made anew on another, or dropped."""
        self._ready.remove(ready)
        champion, candidate = self.session.champion().candidate.commit, ready.candidate
        if candidate is None or (ready.parent is None and ready.champion != champion):
            hope = candidate is None and ready.champion != champion  # what runs on the new one may bring it yet
            if again := self._make_ready(ready.proposal, champion, ready.parent, hope=hope, made=candidate):
                self._ready.insert(0, again)
            return None
        try:
            number = self.making.admit(candidate)
        except OutOfScope as refusal:  # its twin was admitted meanwhile
            self._refuse(ready.proposal, str(refusal))
            return None
        self._refused = 0
        self.turns.slot_waits(False)
        return number

    def _make_ready(
        self,
        proposal: Proposal,
        champion: str,
        parent: Experiment | None,
        *,
        hope: bool,
        made: Candidate | None = None,
    ) -> QueuedCandidate | None:
        """Make a proposal's candidate, or refuse it; with ``hope`` a conflict may be resolved by what runs now.

        ``made``: what was made of it on another champion.
        """
        candidate = None
        try:
            candidate = self.making.realise(proposal, parent.candidate.commit if parent else champion, made)
            self.making.require_new(candidate)
            if not proposal.source and (old := self.making.tried.nearly(candidate)):
                self._refuse(proposal, f"experiment {old.number} is nearly this: {outcome_summary(old)}", fault=False)
                return None
        except (OutOfScope, PatchConflict) as refusal:
            conflict = isinstance(refusal, PatchConflict)
            if not (hope and conflict):
                if conflict and made and proposal.files:  # a turn takes minutes: measured as it was written
                    return self._waiting(proposal, made, champion, self.ledger.by_commit(made.parent))
                self._refuse(proposal, one_line(str(refusal)))
                return None
        return self._waiting(proposal, candidate, champion, parent)

    def _waiting(
        self, proposal: Proposal, candidate: Candidate | None, champion: str, parent: Experiment | None
    ) -> QueuedCandidate:
        return QueuedCandidate(proposal, candidate, champion, parent, self.ledger.next_number())

    def _refuse(self, proposal: Proposal, reason: str, *, fault: bool = True) -> None:
        """Record a proposal that can't become an experiment, and tell its proposer why; by default it is too late.

        Without ``fault`` it is not one of those that end a session when there are many in a row.
        """
        hypothesis = one_line(proposal.hypothesis)
        asked = (
            proposal.proposer in SUBMITTERS
        )  # whose mistakes say nothing of what is left to propose, nor do strangers'
        self._refused += fault and bool(reason) and not asked and proposal.proposer != CommonsProposer.name
        reason = reason or "the champion has moved on meanwhile"
        self._note_refusal(RejectedProposal(proposal.proposer, reason, hypothesis, proposal.usage), proposal.source)
        if not asked:
            self.proposers.tell(proposal, reason)

    def _note_failed(self, more: dict[str, float] | None = None) -> bool:
        """Record the turns that brought no proposal, if there are any; ``more`` goes with what the first took."""
        failures = self.proposers.failed()
        for n, failed in enumerate(failures):
            self._refused += 1
            self.turns.spend(failed.usage)
            self._note_refusal(failed if n else replace(failed, usage={**failed.usage, **(more or {})}), "")
        return bool(failures)

    def _note_refusal(self, refused: RejectedProposal, source: str) -> None:
        reason = one_line(refused.reason)
        self.ledger.append(ProposalRefused(refused.proposer, source, refused.hypothesis, reason, dict(refused.usage)))
        if self.earnings:
            self.earnings.add(refused.proposer, 0.0, cost_of(refused.usage))
        self.view.refused(refused.hypothesis or f"{refused.proposer} had no proposal", reason)
        if self._refused >= REFUSALS * max(self.proposers.thinkers, 1):
            self.nothing_left = f"{self._refused} proposals in a row were refused"

    def brief(self, left: TrafficCaps = NO_CAPS) -> Briefing:
        """What the next proposer is told, of what it may spend too: the caps that are ``left``."""
        pinned = self.pinned()
        parent = self.search.ask() if pinned is None else self.ledger.experiment(pinned)
        if isinstance(self.search, PluggedSelection):
            for fault in self.search.take_faults():
                self.view.say(escape(fault))
        self._move_shares()
        waiting, noise = [ready.candidate for ready in self._ready if ready.candidate], self.noise()
        found = self.commons_proposer.choose(waiting) if self.commons_proposer else ()
        return build_briefing(self.session, noise, parent, waiting, found, left, self.proposers.thinking)

    def _move_shares(self) -> None:
        """Let proposers that wait for a plateau take part in one, or no longer, and write that down."""
        champion = self.ledger.champion()
        done = self.ledger.next_number() - 1 - len(self.ledger.unjudged())
        since = max(done - champion.number, 0) if champion else 0
        if (names := self.proposers.move_shares(since)) is not None:
            self.ledger.append(SharesMoved(since, names))
            told = f"{', '.join(names)} may propose too" if names else "those that wait for a plateau rest again"
            self.view.say(escape(f"  {counted(since, 'experiment')} since the last keep: {told}"))

    def stop(self) -> None:
        """Halt, wait for the turn's end, and write down what was paid for and comes to nothing."""
        left = [ready.proposal for ready in self._ready]
        self._ready.clear()
        left += [task.proposal for task in self.turns.close() if task.proposal]
        self._note_failed()
        for proposal in left:
            if proposal.usage:  # an entry of a queue has its turn next time
                late = "the session ended before there was room for it"
                self._note_refusal(
                    RejectedProposal(proposal.proposer, late, one_line(proposal.hypothesis), proposal.usage), ""
                )
