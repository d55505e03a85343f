"""Candidates: proposed while trials run, made ready, and admitted as experiments when there is room for a trial."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from nightlab.genome import same_program, syntax_fault
from nightlab.judge import Noise, smallest_effect
from nightlab.lab import STRATEGY
from nightlab.ledger import read_notes
from nightlab.lineage import OutOfScope, PatchConflict
from nightlab.propose import Briefing, Mixture, Proposal, Refused, changes, find_constants, make_proposers
from nightlab.propose.command import Workplace
from nightlab.records import Candidate, Experiment
from nightlab.session import Session
from nightlab.watch.view import View
from nightlab.words import one_line

REFUSALS = 25  # proposals refused in a row before a session has nothing left to try
MOMENT = 0.05  # seconds that a free slot waits for a thought
FAREWELL = 10.0  # seconds that a thought has to end
PAST_REFUSALS = 100  # that a briefing is made from
PAIRS = 4  # of the confirmation of which a briefing speaks


class Thought(threading.Thread):
    """One proposer's turn, in a thread of its own: it may think for minutes. It dies with the program."""

    def __init__(self, proposers: Mixture, briefing: Briefing) -> None:
        super().__init__(daemon=True)
        self.proposers, self.briefing = proposers, briefing
        self.proposal: Proposal | None = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.proposal = self.proposers.propose(self.briefing)
        except BaseException as error:  # raised where it can be told
            self.error = error


@dataclass(frozen=True, slots=True)
class Ready:
    """A candidate that waits for a slot, made on the champion of its time; none if it did not fit that one."""

    proposal: Proposal
    candidate: Candidate | None
    champion: str


class Candidates:
    """Where a session's experiments come from. One proposal is thought of ahead, and none is lost but by a kill."""

    def __init__(
        self, session: Session, view: View, seed: int = 0, noise: Callable[[], Noise] = lambda: Noise(0.0, 0.0)
    ) -> None:
        self.session, self.ledger, self.view = session, session.ledger, view
        self.history = self.ledger.experiments()
        used = {note["source"] for note in self.ledger.notes("refused")}
        used |= {experiment.candidate.source for experiment in self.history}
        place = Workplace(session.repo, session.lab, session.sandbox, session.folder / "proposers")
        self.proposers = make_proposers(session.lab, session.repo.lab, self.ledger.proposals_by(), used, seed, place)
        self.noise = noise
        self.nothing_left = ""
        self._thought: Thought | None = None
        self._ready: Ready | None = None
        self._dry = False  # the proposers had nothing, as things stood
        self._refused = 0  # in a row

    def next(self, *, idle: bool) -> int | None:
        """The number of a new experiment; None while its proposer still thinks, or when nothing is left.

        ``idle``: nothing runs whose result could give a proposer another idea.
        """
        while not self.nothing_left:
            self.think(wait=MOMENT)
            if self._ready is None:
                if self._dry and idle and self.proposers.wakes == math.inf:
                    self.nothing_left = "the proposers have nothing left to propose"
                if self._dry or self._thought:
                    return None
            elif (number := self._take(self._ready)) is not None:
                return number
        return None

    def think(self, wait: float = 0.0) -> None:
        """Have the next candidate made ready while trials run. Raises what a proposer raised."""
        measured = self.history and self.history[0].kept  # nothing can be proposed before there is a baseline
        if time.monotonic() >= self.proposers.wakes:
            self._dry = False  # somebody has rested
        if self._ready or self._dry or self.nothing_left or not measured:
            return
        if self._thought is None:
            self._thought = Thought(self.proposers, self._briefing())
        self._thought.join(wait)
        if self._thought.is_alive():
            return
        thought, self._thought = self._thought, None
        if thought.error:
            raise thought.error
        self._dry = thought.proposal is None
        for failed in self.proposers.failed():
            self._note_refusal(failed, "")
        if thought.proposal:
            self._make_ready(thought.proposal, thought.briefing.champion.candidate.commit, ahead=True)

    def news(self) -> None:
        """A trial has ended: proposers that had nothing may have something now."""
        self._dry = False

    def judged(self, experiment: Experiment) -> None:
        self.history[experiment.number] = experiment

    def _take(self, ready: Ready) -> int | None:
        """Admit what is ready; on another champion by now it is made anew, or dropped."""
        self._ready = None
        champion, candidate = self.session.champion().candidate.commit, ready.candidate
        if candidate is None or ready.champion != champion:
            proposal = ready.proposal
            if candidate and not proposal.patch:
                proposal = replace(proposal, patch=self.session.repo.diff(candidate.parent, candidate.commit))
            self._make_ready(proposal, champion)
            return None
        try:
            number = self.admit(candidate)
        except OutOfScope as refusal:  # its twin was admitted meanwhile
            self._refuse(ready.proposal, str(refusal))
            return None
        self._refused = 0
        self.proposers.tell(ready.proposal, None)
        return number

    def _make_ready(self, proposal: Proposal, champion: str, *, ahead: bool = False) -> None:
        """Make a proposal's candidate, or refuse it. ``ahead`` of its turn a conflict may yet be resolved."""
        try:
            candidate = self._realise(proposal, champion)
            self._require_new(candidate)
            self._ready = Ready(proposal, candidate, champion)
        except (OutOfScope, PatchConflict) as refusal:
            if ahead and isinstance(refusal, PatchConflict):
                self._ready = Ready(proposal, None, champion)  # what runs now may be what it stands on
                return
            overtaken = bool(proposal.files) and isinstance(refusal, PatchConflict)
            self._refuse(proposal, "the champion has moved on meanwhile" if overtaken else one_line(str(refusal)))

    def _refuse(self, proposal: Proposal, reason: str) -> None:
        """Record a proposal that can't become an experiment, and tell its proposer why."""
        hypothesis = one_line(proposal.hypothesis)
        self._note_refusal(Refused(proposal.proposer, reason, hypothesis, proposal.usage), proposal.source)
        self.proposers.tell(proposal, reason)

    def _note_refusal(self, refused: Refused, source: str) -> None:
        told, reason = {"proposer": refused.proposer, "source": source}, one_line(refused.reason)
        told |= {"hypothesis": refused.hypothesis, "reason": reason}
        self.ledger.note("refused", {**told, "usage": dict(refused.usage)})
        self.view.refused(refused.hypothesis or f"{refused.proposer} had no proposal", reason)
        self._refused += 1
        if self._refused >= REFUSALS:
            self.nothing_left = f"{REFUSALS} proposals in a row were refused"

    def _briefing(self) -> Briefing:
        champion, noise = self.session.champion(), self.noise()
        return Briefing(
            metric=self.session.metric,
            device=self.session.device,
            genome=self.session.genome(champion.candidate.commit),
            champion=champion,
            history=list(self.history),
            lab=self.session.lab,
            budget=self.session.budget.record(),
            program=self._strategy(),
            notes=read_notes(self.session.folder),
            refused=self._refusals(),
            sigma=noise.sigma,
            detectable=smallest_effect(noise, PAIRS),
        )

    def _strategy(self) -> str:
        """The human's strategy as it stands in the working copy: an edit counts from the next turn on."""
        try:
            return (self.session.repo.lab / STRATEGY).read_text(errors="replace")
        except OSError:
            return ""

    def _refusals(self) -> list[Refused]:
        notes = self.ledger.notes("refused")[-PAST_REFUSALS:]
        return [Refused(n["proposer"], n["reason"], n["hypothesis"], n.get("usage", {})) for n in notes]

    def _realise(self, proposal: Proposal, champion: str) -> Candidate:
        """The proposal as a commit on the champion; a queued patch that conflicts there, on the baseline.

        An idea that collides with what was kept may still beat it: then the lineage branches.
        """
        repo = self.session.repo
        if not proposal.patch:
            commit = repo.commit_files(champion, proposal.files, proposal.hypothesis)
            return self._proposed(commit, champion, proposal)
        for parent in dict.fromkeys((champion, champion if proposal.files else self.session.base)):
            try:
                commit = repo.commit_patch(parent, proposal.patch, proposal.hypothesis)
                return self._proposed(commit, parent, proposal)
            except PatchConflict as conflict:
                last = conflict
        raise last

    def _proposed(self, commit: str, parent: str, proposal: Proposal) -> Candidate:
        made = self.candidate(commit, parent, proposal.proposer, proposal.hypothesis, proposal.source)
        return replace(made, usage=dict(proposal.usage))

    def stop(self) -> None:
        """End the thought that is under way: the session stops."""
        self.proposers.stop()
        if self._thought:
            self._thought.join(FAREWELL)

    # -- what a candidate is ---------------------------------------------------------------------

    def baseline(self) -> Candidate:
        baseline = self.session.baseline_candidate()
        return replace(baseline, constants=_constants(self.session.genome(baseline.commit), self.session.device))

    def candidate(self, commit: str, parent: str, proposer: str, hypothesis: str, source: str = "") -> Candidate:
        """The record of a candidate, with what it really changes.

        Raises OutOfScope when it changes something other than the genome, nothing at all, or does not parse.
        """
        repo, session = self.session.repo, self.session
        hypothesis = one_line(hypothesis)
        touched = repo.check_scope(parent, commit, session.lab.genome)
        if not touched:
            raise OutOfScope("it changes nothing")
        genome = session.genome(commit)
        for path in touched:
            if fault := syntax_fault(path, genome.get(path, "")):
                raise OutOfScope(f"it does not parse: {fault}")
        before = session.genome(parent)
        if all(same_program(path, before.get(path, ""), genome.get(path, "")) for path in touched):
            raise OutOfScope("it changes nothing but layout, comments or seeds, and the seeds are not its own")
        after = _constants(genome, session.device)
        words = changes(_constants(before, session.device), after)
        return Candidate(
            commit=commit,
            parent=parent,
            tree=repo.tree(commit),
            proposer=proposer,
            hypothesis=hypothesis,
            lines=session.lines(commit),
            constants=after,
            changes=words,
            source=source,
        )

    def admit(self, candidate: Candidate, *, twins: bool = False) -> int:
        """Record a candidate that was never tried, unless ``twins`` may be, and keep its commit reachable.

        Raises OutOfScope for a genome that was tried.
        """
        if not twins:
            self._require_new(candidate)
        number = self.ledger.next_number()
        self.session.repo.keep_reachable(self.session.tag, f"{number:06d}", candidate.commit)
        self.ledger.propose(candidate)
        self.history.append(self.ledger.experiment(number))
        return number

    def _require_new(self, candidate: Candidate) -> None:
        if twin := self.ledger.find_tree(candidate.tree):
            raise OutOfScope(f"it is the same genome as experiment {twin.number}")


def _constants(genome: dict[str, str], device: str) -> dict[str, object]:
    """The constants of all genome files; names of a second file carry its path."""
    found: dict[str, object] = {}
    for path, text in genome.items():
        for name, constant in find_constants(text, device).items():
            found[name if name not in found else f"{path}:{name}"] = constant.value
    return found
