"""The steps that genomes are made of, here and in other labs, and what each of them gains.

A step is one idea's change, named by the genome that it first made. A genome that took over others' findings has their
steps; it is made of its parent's steps and its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from nightlab.commons.effects import LATEST, GenomeValue, estimate
from nightlab.commons.finding import COMMONS_PROPOSER, FindingSource, contestant_for
from nightlab.commons.peer_store import PER_AUTHOR, PeerStore
from nightlab.commons.provenance import STEPS, ProvenanceIndex
from nightlab.commons.record import Finding, Run, Verification
from nightlab.core.events import FindingVerified
from nightlab.core.types import Experiment, average
from nightlab.session.session import Session

RECENT = 200  # latest experiments, and kept ones, that are read
MOST_RECORDS = 2500  # latest findings of all labs together, and as many verifications
TRIALS = 4  # that count of one genome in another lab: more are only a claim

Named = tuple[str, GenomeValue]  # what a genome was measured at, with the genome's name


class StepEffects:
    """A session's estimate of what each step gains, by its own measurements and those of labs that it trusts."""

    def __init__(self, session: Session, peers: PeerStore, paths: ProvenanceIndex) -> None:
        self.session, self.peers, self.paths = session, peers, paths
        self._kept: dict[str, Experiment] = {}
        self._ideas: dict[int, float | None] = {}
        self._steps: dict[str, frozenset[str]] = {}
        self._added: dict[str, frozenset[str]] = {}
        self._base = 0.0

    def estimate(self, sigma: float) -> dict[str, float]:
        """The effect of each step that was measured here or in a trusted lab, by any author.

        ``sigma``: the seed-to-seed noise here. Other authors' numbers count too, with the trust in them.
        """
        self._steps, self._added, ledger = {}, {}, self.session.ledger
        self._kept = {
            self.paths.id(one.candidate.commit): one
            for one in (*ledger.experiments(RECENT, "keep"), ledger.experiment(0))
        }
        for experiment in ledger.experiments(RECENT):
            if experiment.number not in self._ideas and experiment.verdict:
                self._ideas[experiment.number] = self._gain_of_idea(experiment)
        self._base = average(list(contestant_for(self.session, ledger.experiment(0)).values().values()))
        here, told = list(self._measured_here()), list(self._told_by(self.peers.heard()))
        measured = frozenset[str]().union(*(value.steps for _, value in (*here, *told)))
        values: dict[tuple[str, str], GenomeValue] = {}
        for name, value in (*self._told_by_others(measured), *here, *told):
            known = values.get((value.by, name))
            if known is None or value.trials > known.trials:  # of one genome the mean of the most trials
                values[value.by, name] = value
        ideas = [gain for gain in self._ideas.values() if gain is not None]
        found = estimate(list(values.values()), ideas, sigma)
        return {step: effect for step, effect in found.items() if step in measured}

    def of(self, genome: str, depth: int = STEPS) -> frozenset[str]:
        """The steps that a genome is made of, as far as its parents are known here."""
        if not depth:
            return frozenset()
        if genome not in self._steps:
            self._steps[genome] = frozenset()  # claims that lead in a circle end here
            self._steps[genome] = self._made_of(genome, depth - 1)
        return self._steps[genome]

    def added_by(self, findings: Iterable[str], depth: int = STEPS) -> frozenset[str]:
        """The steps that findings added to their parents: of what came from others, theirs."""
        found = frozenset[str]()
        for name in findings:
            if name not in self._added:
                self._added[name] = frozenset()  # as in ``of``
                entry = self.peers.entries.get(name)
                finding = entry.signed.record if entry else None
                if isinstance(finding, Finding):
                    others = finding.inspired_by if depth else ()
                    self._added[name] = self.added_by(others, depth - 1) if others else frozenset({finding.genome})
            found |= self._added[name]
        return found

    # -- what genomes are made of ------------------------------------------------------------------

    def _gain_of_idea(self, experiment: Experiment) -> float | None:
        """The measured gain of an own idea over its parent; None of what is no own idea, or has no number."""
        parent, measured = self.session.ledger.by_commit(experiment.candidate.parent), experiment.measurement
        if not experiment.number or experiment.candidate.proposer == COMMONS_PROPOSER or not parent:
            return None
        if parent.bar is None or not measured or not measured.measured or measured.metric is None:
            return None
        return self.session.metric.gain(parent.bar, measured.metric)

    def _made_of(self, genome: str, depth: int) -> frozenset[str]:
        if own := self._kept.get(genome):
            if not own.number:
                return frozenset()
            parent = self.paths.id(own.candidate.parent)
            if own.candidate.proposer == COMMONS_PROPOSER:
                made = FindingSource.of(own.candidate.source)
                return self._changed(parent, made.added, made.without, depth)
            return self.of(parent, depth) | {genome}
        entry = self.peers.finding_for(genome, "", ())
        finding = entry.signed.record if entry else None
        if entry is None or not isinstance(finding, Finding):
            return frozenset({genome})  # all that it is made of, as one step
        return self._changed(finding.parent, [entry.id], finding.without, depth)

    def _changed(self, parent: str, added: Iterable[str], without: Iterable[str], depth: int = STEPS) -> frozenset[str]:
        return (self.of(parent, depth) | self.added_by(added)) - self.added_by(without)

    def _measured(self, said: FindingVerified | Verification) -> frozenset[str]:
        """The steps of the genome that a measurement was of, here or in another lab."""
        return self._changed(said.parent, (said.target, *said.along, *said.beside), said.without)

    # -- what genomes were measured at -------------------------------------------------------------

    def _value(self, steps: frozenset[str], runs: Sequence[float], by: str = "") -> GenomeValue:
        """A lab's mean over ``runs``, as the gain over the baseline here."""
        word = self.peers.trust_in(by).value if by else 1.0
        return GenomeValue(steps, self.session.metric.gain(self._base, average(runs)), len(runs), by, word)

    def _measured_here(self) -> Iterator[Named]:
        for genome, own in self._kept.items():
            if runs := list(contestant_for(self.session, own).values().values()):
                yield genome, self._value(self.of(genome), runs)
        for event in self.peers.measured:
            if event.runs and not event.adopted:  # what was adopted is kept
                runs = [run["value"] for run in event.runs]
                yield f"experiment {event.number} {event.target}", self._value(self._measured(event), runs)
                if event.against:
                    yield event.parent, self._value(self.of(event.parent), [run["value"] for run in event.against])

    def _told_by(self, heard: Sequence[str]) -> Iterator[Named]:
        """What trusted labs measured of this task."""
        peers, most = self.peers, max(min(PER_AUTHOR, MOST_RECORDS // max(len(heard), 1)), 1)
        for name in heard:
            for _, finding in peers.considered(name, most):
                yield from self._claimed(finding)
            for record in list(peers.verifications(name))[-most:]:
                if record.task == peers.task.id:
                    yield from self._said(name, f"record {record.seq}", self._measured(record), record.runs)
                    yield from self._said(name, record.parent, self.of(record.parent), record.against)

    def _told_by_others(self, measured: frozenset[str]) -> Iterator[Named]:
        """What all other authors say of their steps in the genomes that this lab, or a trusted one, measured."""
        peers, heard = self.peers, set(self.peers.heard())
        there = (entry for step in measured if (entry := peers.finding_for(step, "", ())))
        theirs = [one for one in there if not (one.author in heard or peers.is_own(one) or peers.is_barred(one))]
        for entry in sorted(theirs, key=lambda one: one.id)[:LATEST]:
            assert isinstance(entry.signed.record, Finding)
            yield from self._claimed(entry.signed.record)

    def _claimed(self, finding: Finding) -> Iterator[Named]:
        if finding.status == "keep" and self.peers.comparable(finding):
            yield from self._said(finding.author, finding.genome, self.of(finding.genome), finding.runs)
            yield from self._said(finding.author, finding.parent, self.of(finding.parent), finding.against)

    def _said(self, by: str, genome: str, steps: frozenset[str], runs: Sequence[Run]) -> Iterator[Named]:
        if runs:
            yield genome, self._value(steps, [run.value for run in runs[:TRIALS]], by)
