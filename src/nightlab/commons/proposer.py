"""What others found, measured here: the proposer that takes it from the commons, and what is said of it afterwards.

A finding becomes an ordinary candidate: with all the steps that led to it, on the champion, run in the sealed box,
judged by this session's own judge. One that doesn't apply there is made as it was found, if the way there is known and
it claims to be better than the champion; else the proposers are told of it. A gain that does not show on another
genome than its own is measured once more on its own, where its author has shown something before.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nightlab.commons.finding import TRANSPLANT, contestant_for, gene_misfit, runs_of, target_of
from nightlab.commons.genes import engine
from nightlab.commons.peer_store import PeerStore
from nightlab.commons.places import open_commons
from nightlab.commons.provenance import ProvenanceIndex, ProvenancePath
from nightlab.commons.queue import FindingOffer, in_order, turn_of_newcomers, words
from nightlab.commons.record import Finding, Rejected, Run, gain
from nightlab.commons.trust import compare, shortfall
from nightlab.core.events import FindingVerified
from nightlab.core.text import one_line
from nightlab.core.types import Candidate, Experiment, average
from nightlab.core.types import Verdict as Judged
from nightlab.judge import Noise
from nightlab.proposers import Briefing, Proposal, UnverifiedFinding
from nightlab.proposers.proposer import Used
from nightlab.session.session import Session
from nightlab.storage.git import OutOfScope, PatchConflict

TOLD = 10  # findings of which the proposers are told
TRIES = 8  # patches that are tried on a genome in one turn; the rest has its turn later
LOOKED = 200  # experiments with which a finding is compared to tell whether it is new
WRONG = ("tampered", "checks failed")  # reasons, besides a crash, for which a claimed keep was none


class CommonsProposer:
    """Proposes findings of the commons, at most a share of the session's experiments.

    ``had``: experiments that each proposer had; ``used``: entries of queues that had their turn, added to here.
    """

    name = TRANSPLANT

    def __init__(self, session: Session, had: Mapping[str, int], used: Used, noise: Callable[[], Noise]) -> None:
        assert session.lab.commons is not None
        if session.lab.gene:
            engine()  # what others' genes ask for is read with it: better missed now than in the night
        self.session, self.used, self.noise, self.share = session, used, noise, session.lab.commons.share
        self.peers = PeerStore(session, open_commons())
        self.weight = sum(part.share for part in session.lab.proposers) * self.share / (1 - self.share)
        self._count = had.get(self.name, 0)
        self._tried = [judgement.author for judgement in self.peers.own()]
        self.ways = ProvenanceIndex(session, self.peers)
        self._turns = [event.author for event in session.ledger.events(FindingVerified)]
        self._fits: dict[tuple[str, str], str] = {}
        self._next: Proposal | None = None
        self._left = 0
        self._draw = random.Random()
        self._settle()

    # -- proposing ---------------------------------------------------------------------------------

    def look(self, waiting: Sequence[Candidate]) -> list[UnverifiedFinding]:
        """Choose what to propose next; returns the findings that can't be measured here, for the others to know."""
        session, champion, told = self.session, self.session.ledger.champion(), list[UnverifiedFinding]()
        if champion is None:
            return []  # nothing can be compared with yet
        self.peers.learn()
        ours = self._count + sum(candidate.proposer == self.name for candidate in waiting)
        turns = max(1.0, self.share * (session.ledger.next_number() + len(waiting) + 1))
        room, newcomers = ours + 1 <= turns, turn_of_newcomers(self.peers.unproven(self._turns), turns)
        self.ways.look()
        self._next = self._doubted(proven=True) if room else None
        past = [e.candidate for e in session.ledger.experiments(LOOKED) if e.number] + list(waiting)
        tried = [words(candidate.changes, candidate.hypothesis) for candidate in past]
        self._left = TRIES
        offers, unfit = self.peers.offers(self.noise().sigma, tried, self.used, self.ways.claim)
        for offer in in_order(offers, self._tried, self._draw, newcomers):
            if not room or self._next or self._left <= 0:
                break
            if why := self._choose(offer, champion):
                told.append(_found(offer.finding, why))
        if room and newcomers != "never" and not self._next:
            self._next = self._doubted(proven=False)
        return [*told, *(_found(finding, why) for _, finding, why in unfit)][:TOLD]

    def propose(self, briefing: Briefing) -> Proposal | None:
        proposal, self._next = self._next, None
        return proposal

    def tell(self, proposal: Proposal, refusal: str | None) -> None:
        for source in (proposal.source, target_of(proposal.source)):
            self.used.add(source)
        if refusal is None:
            self._count += 1
            for had in (self._tried, self._turns):
                had.append(self.peers.author(target_of(proposal.source)))

    def _finding(self, target: str) -> Finding:
        finding = self.peers.entries[target].signed.record
        assert isinstance(finding, Finding)
        return finding

    def _choose(self, offer: FindingOffer, champion: Experiment) -> str:
        """Make an offer the next proposal, or say why it can't be one."""
        patch, on = self._patch(offer.id), ""
        if why := self._misfit(offer, champion.candidate.commit, patch):
            way = self.ways.to(offer.id, self.ways.measured) if self._claims_more(offer.finding, champion) else None
            patch, on = (self.ways.patch(way), way.start) if way else ("", "")
            if not patch or self._misfit(offer, on, patch):
                return why
        self._next = self._proposal(offer.id, patch, on)
        return ""

    def _patch(self, target: str) -> str:
        """A finding's change, with all the steps that led to it from what is known here."""
        way = self.ways.best(target)
        return (self.ways.patch(way) if way else "") or self.peers.commons.patch(self.peers.entries[target])

    def _claims_more(self, finding: Finding, champion: Experiment) -> bool:
        """Whether a finding's genome is said to be better than the champion."""
        if champion.bar is None or not self.peers.comparable(finding):
            return False
        return finding.task.metric.gain(champion.bar, average([run.value for run in finding.runs])) > 0

    def _proposal(self, target: str, patch: str, on: str = "") -> Proposal:
        source = f"{target}@{on}" if on else target
        return Proposal(self.name, one_line(self._finding(target).hypothesis), patch=patch, source=source, on=on)

    def _misfit(self, offer: FindingOffer, on: str, patch: str) -> str:
        """Why a finding can't be tried on a commit; empty if it can be. One that no commit mends is used up."""
        key = offer.id, on
        if key not in self._fits:
            self._left -= 1
            self._fits[key] = self._try_on(offer, on, patch)
        return self._fits[key]

    def _try_on(self, offer: FindingOffer, on: str, patch: str) -> str:
        repo, entry = self.session.repo, self.peers.entries[offer.id]
        try:
            if "\nGIT binary patch" in patch:
                raise OutOfScope("it is a binary patch")
            commit = repo.commit_patch(on, patch, one_line(offer.finding.hypothesis))
            repo.check_scope(on, commit, self.session.lab.genome)
            why = gene_misfit(self.session, offer.finding, on, commit)
        except PatchConflict as conflict:
            return one_line(str(conflict))
        except (OutOfScope, Rejected) as error:
            rejected = error if isinstance(error, Rejected) else Rejected("outside the genome", str(error))
            self.peers.commons.note_rejections([(entry.author, entry.commit, rejected)])
            self.used.add(offer.id)
            return one_line(str(error))
        if not why and self.session.ledger.find_tree(repo.tree(commit)):
            why = "its genome was tried here"
        if why:
            self.used.add(offer.id)
        return why

    def _doubted(self, proven: bool) -> Proposal | None:
        """A finding that is to be measured on its own ground, because it did not hold on another.

        A second trial of a claim that failed is for who has shown something; a stranger's waits for an idle turn.
        """
        for target, on in self.peers.doubts.items():
            entry = self.peers.entries.get(target)
            if f"{target}@{on}" in self.used or not entry or self.peers.trusted(entry.author).proven != proven:
                continue
            way = self.ways.to(target, {self.ways.id(on): on})
            if way and (patch := self.ways.patch(way)):
                return self._proposal(target, patch, on)
        return None

    # -- afterwards --------------------------------------------------------------------------------

    def judged(self, experiment: Experiment) -> None:
        """Write down what the verdict on a transplanted candidate says of the finding that it came from."""
        verdict, ledger = experiment.verdict, self.session.ledger
        if experiment.candidate.proposer != self.name or verdict is None or verdict.reason == "skipped":
            return
        entry = self.peers.entries.get(target_of(experiment.candidate.source))
        parent = ledger.by_commit(experiment.candidate.parent)
        if entry is None or parent is None or not isinstance(entry.signed.record, Finding):
            return
        finding, sigma = entry.signed.record, self.noise().sigma
        ground = self.ways.id(parent.candidate.commit)
        self.ways.look()
        here = {ground: parent.candidate.commit}
        way = self.ways.to(entry.id, here) if "@" in experiment.candidate.source else self.ways.best(entry.id)
        start = way.start == parent.candidate.commit if way else finding.parent == ground
        elsewhere = not (start and self.peers.comparable(finding))
        runs, against = (runs_of(contestant_for(self.session, one)) for one in (experiment, parent))
        event = FindingVerified(
            number=experiment.number,
            target=entry.id,
            author=entry.author,
            task=self.peers.task.id,
            platform=self.peers.platform.model_dump(),
            elsewhere=elsewhere,
            reason=verdict.reason,
            parent=ground,
            adopted=experiment.kept,
            runs=runs,
            against=against,
            sigma=sigma,
            **_compared(finding, way, runs, against, sigma, verdict, elsewhere),
        )
        own = self.ways.to(entry.id, self.ways.measured) if event.verdict == "refuted" and not start else None
        if own and self._draw.random() < self.peers.trusted(entry.author).check:
            event = replace(event, doubt=own.start)
        ledger.append(event)
        self.peers.learn(replace(event, at=time.time()))

    def _settle(self) -> None:
        """Say of experiments what a kill kept from being said."""
        said = {event.number for event in self.session.ledger.events(FindingVerified)}
        for experiment in self.session.ledger.experiments(LOOKED):
            if experiment.number not in said:
                self.judged(experiment)


def _compared(
    finding: Finding,
    way: ProvenancePath | None,
    runs: Sequence[Mapping[str, float]],
    against: Sequence[Mapping[str, float]],
    sigma: float,
    verdict: Judged,
    elsewhere: bool,
) -> dict[str, Any]:
    """What a lab's own measurement says of a claim: the verdict, in words, and in numbers where there are any."""
    if verdict.reason == "tampered":
        return {"verdict": "refuted", "detail": one_line(f"tampered: {verdict.detail}")}
    if not runs or not against:
        wrong = verdict.status == "crash" or verdict.reason in WRONG
        found = "refuted" if wrong and not elsewhere else "inconclusive"
        return {"verdict": found, "detail": one_line(f"{verdict.reason}: {verdict.detail}")}
    ours = [[Run(seed=int(run["seed"]), value=run["value"]) for run in side] for side in (runs, against)]
    mine, claimed = gain(finding.task.metric, *ours), way.claimed if way else finding.claimed
    trials = [*map(len, ours), len(finding.runs), way.against if way else len(finding.against)]
    return {
        "verdict": compare(claimed, mine, sigma, trials),
        "detail": f"claimed {claimed:.6g}, measured {mine:.6g}",
        "gain": mine,
        "short": shortfall(claimed, mine, sigma, trials),
        "shown": shortfall(mine, 0.0, sigma, trials),
    }


def _found(finding: Finding, why: str) -> UnverifiedFinding:
    return UnverifiedFinding(finding.status, finding.claimed, finding.hypothesis, finding.changes, why)
