"""What others found, measured here: the proposer that takes it from the commons, and what is said of it afterwards.

A finding becomes an ordinary candidate: made on the champion, run in the sealed box, judged by this session's own
judge. One that doesn't apply there is made on the genome that it was found on, if that is known here and the finding
claims to be better than the champion; else the proposers are told of it. A gain that does not show on another genome
than its own is measured once more on its own, before its author is said to be wrong.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence

from nightlab.commons.genes import engine
from nightlab.commons.places import open_commons
from nightlab.commons.queue import Offer, in_order, words
from nightlab.commons.record import Finding, Rejected, Run, gain, genome_id
from nightlab.commons.trust import Trust, Verdict, compare
from nightlab.findings import TRANSPLANT, gene_misfit, runs_of, standing, target_of
from nightlab.judge import Noise
from nightlab.lineage import OutOfScope, PatchConflict
from nightlab.peers import Peers
from nightlab.propose import Briefing, Found, Proposal
from nightlab.propose.proposer import Used
from nightlab.records import Candidate, Experiment, average
from nightlab.records import Verdict as Judged
from nightlab.session import Session
from nightlab.words import one_line

TOLD = 10  # findings of which the proposers are told
TRIES = 8  # patches that are tried on a genome in one turn; the rest has its turn later
GROUNDS = 20  # kept genomes, the latest, on which a finding may have been made
LOOKED = 200  # experiments with which a finding is compared to tell whether it is new
WRONG = ("tampered", "checks failed")  # reasons, besides a crash, for which a claimed keep was none


class Transplant:
    """Proposes findings of the commons, at most a share of the session's experiments.

    ``had``: experiments that each proposer had; ``used``: entries of queues that had their turn, added to here.
    """

    name = TRANSPLANT

    def __init__(self, session: Session, had: Mapping[str, int], used: Used, noise: Callable[[], Noise]) -> None:
        assert session.lab.commons is not None
        if session.lab.gene:
            engine()  # what others' genes ask for is read with it: better missed now than in the night
        self.session, self.used, self.noise, self.share = session, used, noise, session.lab.commons.share
        self.peers = Peers(session, open_commons())
        self.weight = sum(part.share for part in session.lab.proposers) * self.share / (1 - self.share)
        self._count = had.get(self.name, 0)
        self._tried = [judgement.author for judgement in self.peers.own()]
        self._fits: dict[tuple[str, str], str] = {}
        self._grounds: dict[str, str] = {}
        self._next: Proposal | None = None
        self._left = 0
        self._draw = random.Random()
        self._settle()

    # -- proposing ---------------------------------------------------------------------------------

    def look(self, waiting: Sequence[Candidate]) -> list[Found]:
        """Choose what to propose next; returns the findings that can't be measured here, for the others to know."""
        session, champion, told = self.session, self.session.ledger.champion(), list[Found]()
        if champion is None:
            return []  # nothing can be compared with yet
        self.peers.learn()
        ours = self._count + sum(candidate.proposer == self.name for candidate in waiting)
        room = ours + 1 <= max(1.0, self.share * (session.ledger.next_number() + len(waiting) + 1))
        self._next = self._doubted() if room else None
        past = [e.candidate for e in session.ledger.experiments(LOOKED) if e.number] + list(waiting)
        tried = [words(candidate.changes, candidate.hypothesis) for candidate in past]
        self._left = TRIES
        offers, unfit = self.peers.offers(self.noise().sigma, champion, tried, self.used)
        for offer in in_order(offers, self._tried):
            if not room or self._next or self._left <= 0:
                break
            if why := self._choose(offer, champion):
                told.append(_found(offer.finding, why))
        return [*told, *(_found(finding, why) for _, finding, why in unfit)][:TOLD]

    def propose(self, briefing: Briefing) -> Proposal | None:
        proposal, self._next = self._next, None
        return proposal

    def tell(self, proposal: Proposal, refusal: str | None) -> None:
        for source in (proposal.source, target_of(proposal.source)):
            self.used.add(source)
        if refusal is None:
            self._count += 1
            self._tried.append(self.peers.author(target_of(proposal.source)))

    def _choose(self, offer: Offer, champion: Experiment) -> str:
        """Make an offer the next proposal, or say why it can't be one."""
        ground = None
        if why := self._misfit(offer, champion.candidate.commit):
            ground = self._ground(offer.finding.parent) if self._claims_more(offer.finding, champion) else None
            if ground is None or self._misfit(offer, ground):
                return why
        self._next = self._proposal(offer.id, offer.finding, ground or "")
        return ""

    def _claims_more(self, finding: Finding, champion: Experiment) -> bool:
        """Whether what a finding makes of its parent is said to be better than the champion."""
        if champion.bar is None or not self.peers.comparable(finding):
            return False
        return finding.task.metric.gain(champion.bar, average([run.value for run in finding.runs])) > 0

    def _proposal(self, target: str, finding: Finding, on: str = "") -> Proposal:
        patch = self.peers.commons.patch(self.peers.entries[target])
        source = f"{target}@{on}" if on else target
        return Proposal(self.name, one_line(finding.hypothesis), patch=patch, source=source, on=on)

    def _misfit(self, offer: Offer, on: str) -> str:
        """Why a finding can't be tried on a commit; empty if it can be. One that no commit mends is used up."""
        key = offer.id, on
        if key not in self._fits:
            self._left -= 1
            self._fits[key] = self._try_on(offer, on)
        return self._fits[key]

    def _try_on(self, offer: Offer, on: str) -> str:
        repo, entry = self.session.repo, self.peers.entries[offer.id]
        patch = self.peers.commons.patch(entry)
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
        why = why or "its genome was tried here" * bool(self.session.ledger.find_tree(repo.tree(commit)))
        if why:
            self.used.add(offer.id)
        return why

    def _doubted(self) -> Proposal | None:
        """A finding that is to be measured on its own ground, because it did not hold on another."""
        for target, on in self.peers.doubts.items():
            entry = self.peers.entries.get(target)
            if f"{target}@{on}" not in self.used and entry and isinstance(entry.signed.record, Finding):
                return self._proposal(target, entry.signed.record, on)
        return None

    def _ground(self, genome: str) -> str | None:
        """The commit of a genome, where it is the baseline's or was kept here lately."""
        if genome not in self._grounds:
            for experiment in [self.session.ledger.experiment(0), *self.session.ledger.experiments(GROUNDS, "keep")]:
                commit = experiment.candidate.commit
                if commit not in self._grounds.values():
                    self._grounds[genome_id(self.session.genome(commit))] = commit
        return self._grounds.get(genome)

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
        ground = genome_id(self.session.genome(parent.candidate.commit))
        elsewhere = finding.parent != ground or not self.peers.comparable(finding)
        runs, against = (runs_of(standing(self.session, one)) for one in (experiment, parent))
        found, said = _compared(finding, runs, against, sigma, verdict, elsewhere)
        note = {
            "number": experiment.number,
            "task": self.peers.task.id,
            "platform": self.peers.platform.model_dump(),
            "target": entry.id,
            "author": entry.author,
            "verdict": found,
            "elsewhere": elsewhere,
            "reason": verdict.reason,
            "detail": said,
            "parent": ground,
            "adopted": experiment.kept,
            "runs": runs,
            "against": against,
            "sigma": sigma,
        }
        own = self._ground(finding.parent) if found == "refuted" and finding.parent != ground else None
        check = self.peers.trust.get(entry.author, Trust()).check
        if own and self._draw.random() < check:
            note["doubt"] = own
        ledger.note("verified", note)
        self.peers.learn({**note, "at": time.time()})

    def _settle(self) -> None:
        """Say of experiments what a kill kept from being said."""
        said = {note["number"] for note in self.session.ledger.notes("verified")}
        for experiment in self.session.ledger.experiments(LOOKED):
            if experiment.number not in said:
                self.judged(experiment)


def _compared(
    finding: Finding,
    runs: Sequence[Mapping[str, float]],
    against: Sequence[Mapping[str, float]],
    sigma: float,
    verdict: Judged,
    elsewhere: bool,
) -> tuple[Verdict, str]:
    """What a lab's own measurement says of a claim, and in words."""
    if verdict.reason == "tampered":
        return "refuted", one_line(f"tampered: {verdict.detail}")
    if not runs or not against:
        wrong = verdict.status == "crash" or verdict.reason in WRONG
        said = one_line(f"{verdict.reason}: {verdict.detail}")
        return ("refuted" if wrong and not elsewhere else "inconclusive"), said
    ours = [[Run(seed=int(run["seed"]), value=run["value"]) for run in side] for side in (runs, against)]
    mine, claimed = gain(finding.task.metric, *ours), finding.claimed
    numbers = [len(side) for side in (*ours, finding.runs, finding.against)]
    return compare(claimed, mine, sigma, numbers), f"claimed {claimed:.6g}, measured {mine:.6g}"


def _found(finding: Finding, why: str) -> Found:
    return Found(finding.status, finding.claimed, finding.hypothesis, finding.changes, why)
