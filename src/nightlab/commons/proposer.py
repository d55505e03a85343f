"""The proposer that measures other labs' findings here, and records what the measurement says about each finding.

A finding becomes an ordinary candidate: its patch, with all steps that led to it, is applied to the champion, run in
the sandbox and judged by this session's judge. If it does not apply there, its own genome is rebuilt instead, provided
the path is known and it claims to beat the champion; otherwise the other proposers are told about it. A gain that does
not show on another genome is measured once more on the finding's own genome, if its author has proven claims.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nightlab.commons.combination import Combiner
from nightlab.commons.finding import COMMONS_PROPOSER, FindingSource, contestant_for, gene_mismatch, runs_of, target_of
from nightlab.commons.genes import import_wasmtime
from nightlab.commons.peer_store import PeerStore
from nightlab.commons.places import open_commons
from nightlab.commons.provenance import ProvenanceIndex, ProvenancePath
from nightlab.commons.queue import FindingOffer, newcomers_turn, order_offers, word_set
from nightlab.commons.record import MOST_STEPS, Finding, Rejected, Run, gain
from nightlab.commons.strangers import draw_ranks
from nightlab.commons.trust import compare, exceeds_zero, shortfall
from nightlab.core.events import ContractChanged, FindingVerified
from nightlab.core.source_bytes import changed_lines
from nightlab.core.text import one_line
from nightlab.core.types import Candidate, Experiment, average
from nightlab.core.types import Verdict as Judged
from nightlab.judge import Noise
from nightlab.proposers import Briefing, Proposal, UnverifiedFinding
from nightlab.proposers.proposer import Used
from nightlab.session.session import Session
from nightlab.storage.git import OutOfScope, PatchConflict

MOST_TOLD = 10  # findings passed on to the other proposers
AHEAD = 4  # most turns beyond the share that findings which probably hold may have; later ones make up for them
TRIES = 8  # patches applied per turn; the others wait for a later turn
MOSTLY = 0.5  # part of a finding's lines that must be new here for it to have its turn before others
RECENT = 200  # recent experiments that a finding is compared with for novelty
WRONG = ("tampered", "checks failed")  # reasons, besides a crash, that refute a claimed keep


class CommonsProposer:
    """Proposes findings of the commons, up to a share of the session's experiments.

    ``had``: experiments so far, by proposer. ``used``: queue entries that had their turn; this class adds to it.
    """

    name = COMMONS_PROPOSER

    def __init__(self, session: Session, had: Mapping[str, int], used: Used, noise: Callable[[], Noise]) -> None:
        assert session.lab.commons is not None
        if session.lab.gene:
            import_wasmtime()  # needed to read others' genes; fail now rather than in the middle of a session
        self.session, self.used, self.noise, self.share = session, used, noise, session.lab.commons.share
        self.peers = PeerStore(session, open_commons())
        self.weight = sum(part.share for part in session.lab.proposers) * self.share / (1 - self.share)
        changed = session.ledger.latest(ContractChanged)
        self._since = changed.number if changed else 0
        """The experiment from which the share is counted: a session that joined late has nothing to catch up on."""
        self._count = (session.ledger.proposals_by(self._since) if self._since else had).get(self.name, 0)
        self._tried = [judgement.author for judgement in self.peers.own_verdicts()]
        self.paths = ProvenanceIndex(session, self.peers)
        self.combiner = Combiner(session, self.peers, self.paths, used)
        self._fits: dict[tuple[str, str], str] = {}
        self._new: dict[str, float] = {}
        self._next: Proposal | None = None
        self._left = 0
        self._draw = random.Random()
        self._failed = False
        """Whether a combination was not kept, and no finding of a trusted author was tried by itself since."""
        self._record_missed_verdicts()
        past = session.ledger.events(FindingVerified)
        self._turns = [event.author for event in past if event.number >= self._since]
        for event in past:
            self._note_turn(event)
        for experiment in session.ledger.experiments(RECENT):
            if experiment.candidate.proposer == self.name:
                self._note_used(experiment.candidate.source)

    # -- proposing ---------------------------------------------------------------------------------

    def choose(self, waiting: Sequence[Candidate]) -> list[UnverifiedFinding]:
        """Choose the next proposal; returns the findings that can't be measured here, for the other proposers."""
        session, champion = self.session, self.session.ledger.champion()
        self._next = None
        if champion is None:
            return []  # nothing to compare with yet
        self.peers.update()
        fitting, unfit = self.peers.fitting()
        told = [_found(finding, why) for _, finding, why in unfit[:MOST_TOLD]]
        ours = 1 + self._count + sum(candidate.proposer == self.name for candidate in waiting)
        done = session.ledger.next_number() - self._since
        turns = max(1.0, self.share * (done + len(waiting) + 1))
        if ours > allowed(turns):
            return told
        unproven, known = self.peers.unproven(self._turns), bool(self.peers.heard())
        newcomers = "never" if ours > turns else newcomers_turn(unproven, turns, known=known)
        self.paths.refresh()
        past = [e.candidate for e in session.ledger.experiments(RECENT) if e.number] + list(waiting)
        tried = [word_set(candidate.changes, candidate.hypothesis) for candidate in past]
        offers = self.peers.offers(fitting, self.noise().sigma, tried, self.used, self.paths.claim)
        ranks = draw_ranks(self.peers.stranger_records(), self._draw)
        ordered = order_offers(offers, self._tried, self._draw, newcomers, ranks)
        self._next = self._recheck_of_doubtful(proven=True)
        unmeasured = [] if self._next else self._choose_first(ordered, champion)
        if newcomers != "never" and not self._next:
            self._next = self._recheck_of_doubtful(proven=False)
        if not self._next or self._is_from_proven(self._next):
            self._next = self._together(champion) or self._next
        return [*unmeasured, *told][:MOST_TOLD]

    def _choose_first(self, offers: Sequence[FindingOffer], champion: Experiment) -> list[UnverifiedFinding]:
        """Make the first offer that applies the next proposal; returns those before it, which don't."""
        aside, unmeasured = list[tuple[float, Proposal]](), list[UnverifiedFinding]()
        self._left = TRIES
        for offer in offers:
            if self._next or self._left <= 0:
                break
            if why := self._choose(offer, champion):
                unmeasured.append(_found(offer.finding, why))
            elif self._next and not self._next.on and (new := self._new[offer.id]) < MOSTLY:
                aside.append((new * offer.priority, self._next))  # most of it is here already
                self._next = None
        if aside and not self._next:
            self._next = max(aside, key=lambda each: each[0])[1]
        return unmeasured

    @property
    def ahead(self) -> int:
        """The turns that it may be ahead of its share now: only with a finding that probably holds."""
        return AHEAD if self._next else 0

    def propose(self, briefing: Briefing) -> Proposal | None:
        proposal, self._next = self._next, None
        return proposal

    def tell(self, proposal: Proposal, refusal: str | None) -> None:
        made = FindingSource.of(proposal.source)
        self._note_used(proposal.source)
        if refusal is None:
            self._count += 1
            for had in (self._tried, self._turns):
                had.append(self.peers.author(made.target))

    def _note_used(self, source: str) -> None:
        """A source had its turn; a finding that was tried by itself is not offered again."""
        made = FindingSource.of(source)
        for each in (source, made.target, made.itself) if made.alone else (source,):
            self.used.add(each)

    def _note_turn(self, event: FindingVerified) -> None:
        if not event.alone:
            self._failed = not event.adopted
        elif self.peers.trust_in(event.author).proven or event.verdict == "refuted":
            self._failed = False

    def _is_from_proven(self, proposal: Proposal) -> bool:
        """Whether it is a trusted author's finding, and not to be measured once more on its own genome."""
        return not proposal.on and self.peers.trust_in(self.peers.author(target_of(proposal.source))).proven

    def _together(self, champion: Experiment) -> Proposal | None:
        """What labs that are known found, as far as it probably gains, in one trial; None where there is nothing of it,
        and after a combination that was not kept, where there is a finding to be tried by itself."""
        if not self.peers.heard() or (self._failed and self._next):
            return None
        found = self.combiner.combine(champion.candidate.commit, self.noise().sigma)
        if found is None:
            return None
        patch, made = found
        words = "; ".join(self._finding(each).hypothesis for each in (made.target, *made.beside))
        return Proposal(self.name, one_line(words), patch=patch, source=str(made))

    def _finding(self, target: str) -> Finding:
        finding = self.peers.entries[target].signed.record
        assert isinstance(finding, Finding)
        return finding

    def _choose(self, offer: FindingOffer, champion: Experiment) -> str:
        """Make an offer the next proposal; or return why it can't be."""
        path, on = self.paths.best_path(offer.id), ""
        patch = self._patch(offer.id, path)
        if why := self._mismatch(offer, champion.candidate.commit, patch):
            path = (
                self.paths.path_to(offer.id, self.paths.measured)
                if self._claims_more(offer.finding, champion)
                else None
            )
            patch, on = (self.paths.patch(path), path.start) if path else ("", "")
            if not patch or self._mismatch(offer, on, patch):
                return why
        self._next = self._proposal(offer.id, patch, path, on)
        return ""

    def _patch(self, target: str, path: ProvenancePath | None) -> str:
        """A finding's patch, including the steps of its best path from genomes known here."""
        return (self.paths.patch(path) if path else "") or self.peers.commons.patch(self.peers.entries[target])

    def _claims_more(self, finding: Finding, champion: Experiment) -> bool:
        """Whether a finding's genome claims to beat the champion."""
        if champion.bar is None or not self.peers.comparable(finding):
            return False
        return finding.task.metric.gain(champion.bar, average([run.value for run in finding.runs])) > 0

    def _proposal(self, target: str, patch: str, path: ProvenancePath | None, on: str = "") -> Proposal:
        along = tuple(step.id for step in path.steps[:-1][1 - MOST_STEPS :]) if path else ()
        source = str(FindingSource(target, along, on=on))
        return Proposal(self.name, one_line(self._finding(target).hypothesis), patch=patch, source=source, on=on)

    def _mismatch(self, offer: FindingOffer, on: str, patch: str) -> str:
        """Why a finding can't be tried on a commit; empty if it can. A finding that fits no commit is used up."""
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
            why = gene_mismatch(self.session, offer.finding, on, commit)
            self._new[offer.id] = self._new_part(patch, on, commit)
        except PatchConflict as conflict:
            return one_line(str(conflict))
        except (OutOfScope, Rejected) as error:
            rejected = error if isinstance(error, Rejected) else Rejected("outside the genome", str(error))
            self.peers.commons.note_rejections([(entry.author, entry.commit, rejected)])
            self.used.add(offer.id)
            return one_line(str(error))
        if not why and self.session.ledger.find_tree(repo.tree(commit)):
            why = "its genome was tried here already"
        if why:
            self.used.add(offer.id)
        return why

    def _new_part(self, patch: str, on: str, commit: str) -> float:
        """The part of a patch's changed lines that ``commit`` has and ``on`` had not."""
        whole = changed_lines(patch)
        return min(1.0, changed_lines(self.session.repo.patch(on, commit)) / whole) if whole else 1.0

    def _recheck_of_doubtful(self, proven: bool) -> Proposal | None:
        """A finding to measure on its own genome, because its gain did not show on another.

        Second trials are for authors with proven claims; other authors' wait for an otherwise idle turn.
        """
        for target, on in self.peers.doubtful.items():
            entry = self.peers.entries.get(target)
            if f"{target}@{on}" in self.used or not entry or self.peers.is_revoked(target):
                continue
            if self.peers.trust_in(entry.author).proven != proven:
                continue
            path = self.paths.path_to(target, {self.paths.id(on): on})
            if path and (patch := self.paths.patch(path)):
                return self._proposal(target, patch, path, on)
        return None

    # -- after the verdict -------------------------------------------------------------------------

    def record_verdict(self, experiment: Experiment) -> None:
        """Record what the verdict on an adopted candidate says about the finding that it came from."""
        verdict, ledger = experiment.verdict, self.session.ledger
        if experiment.candidate.proposer != self.name or verdict is None or verdict.reason == "skipped":
            return
        made = FindingSource.of(experiment.candidate.source)
        entry = self.peers.entries.get(made.target)
        parent = ledger.by_commit(experiment.candidate.parent)
        if entry is None or parent is None or not isinstance(entry.signed.record, Finding):
            return
        finding, sigma = entry.signed.record, self.noise().sigma
        ground = self.paths.id(parent.candidate.commit)
        self.paths.refresh(before=experiment.number)
        here, new = {ground: parent.candidate.commit}, 1.0
        if made.on:
            path = self.paths.path_to(entry.id, here)
        else:
            path = self.paths.best_path(entry.id)
            new = self._new_part(self._patch(entry.id, path), parent.candidate.commit, experiment.candidate.commit)
        claimed = new * (path.claimed if path else finding.claimed)
        start = path.start == parent.candidate.commit if path else finding.parent == ground
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
            along=made.along,
            beside=made.beside,
            without=made.without,
        )
        if event.alone:
            more = _compared(finding, path, claimed, runs, against, sigma, verdict, elsewhere)
            event = replace(event, claimed=claimed, **more)
        else:
            event = replace(event, **_together(finding, made, runs, against, verdict))
        own = self.paths.path_to(entry.id, self.paths.measured) if event.verdict == "refuted" and not start else None
        if own and self._draw.random() < self.peers.trust_in(entry.author).check:
            event = replace(event, doubt=own.start)
        ledger.append(event)
        self.peers.update(replace(event, at=time.time()))
        self._note_turn(event)

    def _record_missed_verdicts(self) -> None:
        """Say of experiments what a kill kept from being said."""
        said = {event.number for event in self.session.ledger.events(FindingVerified)}
        for experiment in self.session.ledger.experiments(RECENT):
            if experiment.number not in said:
                self.record_verdict(experiment)


def allowed(turns: float) -> float:
    """The turns that findings which probably hold may have had by when the share is ``turns``: up to twice as many, and
    ``AHEAD`` more at most, so that not all are used up before there is much to measure."""
    return turns + min(turns, AHEAD)


def _compared(
    finding: Finding,
    path: ProvenancePath | None,
    claimed: float,
    runs: Sequence[Mapping[str, float]],
    against: Sequence[Mapping[str, float]],
    sigma: float,
    verdict: Judged,
    elsewhere: bool,
) -> dict[str, Any]:
    """A measurement's verdict on a claim, as text, and as numbers where both sides have runs."""
    if verdict.reason == "tampered":
        return {"verdict": "refuted", "detail": one_line(f"tampered: {verdict.detail}")}
    if not runs or not against:
        wrong = verdict.status == "crash" or verdict.reason in WRONG
        found = "refuted" if wrong and not elsewhere else "inconclusive"
        return {"verdict": found, "detail": one_line(f"{verdict.reason}: {verdict.detail}")}
    mine = _gain(finding, runs, against)
    trials = [len(runs), len(against), len(finding.runs), path.against if path else len(finding.against)]
    return {
        "verdict": compare(claimed, mine, sigma, trials),
        "detail": f"claimed {claimed:.6g}, measured {mine:.6g}",
        "gain": mine,
        "short": shortfall(claimed, mine, sigma, trials),
        "shown": exceeds_zero(mine, sigma, trials),
    }


def _together(
    finding: Finding,
    made: FindingSource,
    runs: Sequence[Mapping[str, float]],
    against: Sequence[Mapping[str, float]],
    verdict: Judged,
) -> dict[str, Any]:
    """Several findings' measurement in one trial: it says nothing of each of them, nor of their authors."""
    words = f"{1 + len(made.beside)} findings together" + f", without {len(made.without)}" * bool(made.without)
    if not runs or not against:
        return {"detail": one_line(f"{words}: {verdict.reason}: {verdict.detail}")}
    mine = _gain(finding, runs, against)
    return {"gain": mine, "detail": f"{words}: measured {mine:.6g}"}


def _gain(finding: Finding, *sides: Sequence[Mapping[str, float]]) -> float:
    measured = ([Run(seed=int(run["seed"]), value=run["value"]) for run in side] for side in sides)
    return gain(finding.task.metric, *measured)


def _found(finding: Finding, why: str) -> UnverifiedFinding:
    return UnverifiedFinding(finding.status, finding.claimed, finding.hypothesis, finding.changes, why)
