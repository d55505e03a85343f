"""The steps that genomes are made of, here and in other labs, and what each of them gains.

A step is one idea's change, named by the genome that it first made; a stranger's by its finding's id, because any
record can say that it made a genome. A genome that took over others' findings has their steps; it is made of its
parent's steps and its own.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import chain

from nightlab.commons.effects import GenomeValue, estimate
from nightlab.commons.entry import Entry
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


class StepEffects:
    """A session's estimate of what each step gains, by its own measurements and those of labs that it trusts."""

    def __init__(self, session: Session, peers: PeerStore, paths: ProvenanceIndex) -> None:
        self.session, self.peers, self.paths = session, peers, paths
        self._kept: dict[str, Experiment] = {}
        self._ideas: dict[int, float | None] = {}
        self._steps: dict[str, frozenset[str]] = {}
        self._added: dict[str, frozenset[str]] = {}
        self._trusted: set[str] = set()
        self._run: set[str] = set()
        """The findings that ran here or in trusted labs, and were not refuted."""

    def estimate(self, sigma: float) -> dict[str, float]:
        """The effect of each step, by all that was measured so far. ``sigma``: the seed-to-seed noise here."""
        self._steps, self._added, ledger = {}, {}, self.session.ledger
        heard = self.peers.heard()
        each = max(min(PER_AUTHOR, MOST_RECORDS // max(len(heard), 1)), 1)
        told = {name: sorted(self._told(name, each), key=lambda record: record.seq) for name in heard}
        self._trusted = set(heard)
        tried = [_tried(event) for event in self.peers.measured]
        tried += [_tried(one) for one in chain(*told.values()) if isinstance(one, Verification)]
        self._run = set(chain(*tried))
        self._kept = {
            self.paths.id(one.candidate.commit): one
            for one in (*ledger.experiments(RECENT, "keep"), ledger.experiment(0))
        }
        for experiment in ledger.experiments(RECENT):
            if experiment.number not in self._ideas and experiment.verdict:
                self._ideas[experiment.number] = self._gain_of_idea(experiment)
        values: dict[tuple[str, Hashable], GenomeValue] = {}
        for genome, value in self._values(told):
            known = values.get((value.by, genome))
            if known is None or value.trials > known.trials:  # of one genome the mean of the most trials
                values[value.by, genome] = value
        ideas = [gain for gain in self._ideas.values() if gain is not None]
        return estimate(list(values.values()), ideas, sigma)

    def maker(self, step: str) -> Entry | None:
        """The finding that adds a step: by this lab or a trusted one, or a stranger's that ran there; else None."""
        if step in self._run and step in self.peers.entries:
            return self.peers.entries[step]
        found = [one for one in self.peers.findings_for(step) if self._is_trusted(one)]
        return max(
            found, key=lambda one: (not self.peers.is_barred(one), self.peers.trust_in(one.author).value), default=None
        )

    def _is_trusted(self, entry: Entry) -> bool:
        return entry.author in self._trusted or self.peers.is_own(entry)

    def of(self, genome: str, depth: int = STEPS) -> frozenset[str]:
        """The steps that a genome is made of, as far as its parents are known here."""
        if not depth:
            return frozenset()
        if genome not in self._steps:
            self._steps[genome] = frozenset()  # claims that lead in a circle end here
            self._steps[genome] = self._made_of(genome, depth - 1)
        return self._steps[genome]

    def added_by(self, findings: Iterable[str], depth: int = STEPS) -> frozenset[str]:
        """The steps that findings added to their parents: of what trusted labs say came from others, theirs."""
        found = frozenset[str]()
        for name in findings:
            if name not in self._added:
                self._added[name] = frozenset()  # as in ``of``
                entry = self.peers.entries.get(name)
                finding = entry.signed.record if entry else None
                if entry and isinstance(finding, Finding):
                    trusted = self._is_trusted(entry)
                    others = finding.inspired_by if depth and trusted else ()
                    own = frozenset({finding.genome if trusted else name})
                    self._added[name] = self.added_by(others, depth - 1) if others else own
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
        ran = (one for one in self.peers.findings_for(genome) if one.id in self._run)
        entry = self.maker(genome) or next(ran, None)
        finding = entry.signed.record if entry else None
        if entry is None or not isinstance(finding, Finding):
            return frozenset({genome})  # all that it is made of, as one step
        return self._changed(finding.parent, [entry.id], finding.without if self._is_trusted(entry) else (), depth)

    def _changed(self, parent: str, added: Iterable[str], without: Iterable[str], depth: int = STEPS) -> frozenset[str]:
        return (self.of(parent, depth) | self.added_by(added)) - self.added_by(without)

    def _measured(self, said: FindingVerified | Verification) -> frozenset[str]:
        """The steps of the genome that a measurement was of, here or in another lab."""
        return self._changed(said.parent, (said.target, *said.along, *said.beside), said.without)

    # -- what genomes were measured at -------------------------------------------------------------

    def _values(self, told: Mapping[str, Sequence[Finding | Verification]]) -> Iterator[tuple[Hashable, GenomeValue]]:
        """Every measurement, here and in trusted labs, each with a name of its genome."""
        ledger = self.session.ledger
        first = ledger.experiment(0)
        base = average(list(contestant_for(self.session, first).values().values()))

        def value(steps: frozenset[str], runs: Sequence[float], by: str = "", word: float = 1.0) -> GenomeValue:
            return GenomeValue(steps, self.session.metric.gain(base, average(runs)), len(runs), by, word)

        kept = {own.number: (genome, own) for genome, own in self._kept.items()}  # what was adopted is among these
        missed = {event.number: event for event in self.peers.measured if event.runs and not event.adopted}
        for number in sorted({*kept, *missed}):
            if number in kept:
                genome, own = kept[number]
                if runs := list(contestant_for(self.session, own).values().values()):
                    yield genome, value(self.of(genome), runs)
                continue
            event = missed[number]
            runs = [run["value"] for run in event.runs]
            yield f"experiment {number} {event.target}", value(self._measured(event), runs)
            if event.against:
                yield event.parent, value(self.of(event.parent), [run["value"] for run in event.against])
        for name, records in told.items():
            word = self.peers.trust_in(name).value
            for which, steps, trials in (one for record in records for one in self._numbers(record)):
                if trials:
                    yield which, value(steps, [run.value for run in trials[:TRIALS]], name, word)

    def _told(self, name: str, most: int) -> Iterator[Finding | Verification]:
        """What another lab published of this task's trials: its kept findings, and verifications."""
        peers = self.peers
        for _, finding in peers.considered(name, most):
            if finding.status == "keep" and peers.comparable(finding):
                yield finding
        yield from (record for record in list(peers.verifications(name))[-most:] if record.task == peers.task.id)

    def _numbers(self, record: Finding | Verification) -> Iterator[tuple[Hashable, frozenset[str], Sequence[Run]]]:
        """Names of the two genomes that a record compares, their steps, and the trials.

        What was tried of others' is named by its steps: a lab that says the same again is not heard twice.
        """
        if isinstance(record, Finding):
            yield record.genome, self.of(record.genome), record.runs
        else:
            steps = self._measured(record)
            yield steps, steps, record.runs
        yield record.parent, self.of(record.parent), record.against


def _tried(said: FindingVerified | Verification) -> Sequence[str]:
    """The findings that ran in the trial that a measurement tells of, without those on the way to one of them."""
    return () if said.verdict == "refuted" or not said.runs else (said.target, *said.beside)
