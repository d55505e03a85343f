"""Measures a sample of a remote's findings again, in a session of this lab: whether claimed gains are there.

A finding is measured on the genome known here from which its steps lead to it, on the seeds that its author names.
Nothing is adopted and nothing published.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from nightlab.analysis.confirm import Confirmer
from nightlab.commons.entry import Entry
from nightlab.commons.exchange import Commons
from nightlab.commons.finding import gene_mismatch
from nightlab.commons.peer_store import PeerStore
from nightlab.commons.provenance import ProvenanceIndex, ProvenancePath
from nightlab.commons.record import Finding, Rejected
from nightlab.commons.trust import Verdict, compare
from nightlab.core.text import one_line
from nightlab.core.types import NightlabError, average
from nightlab.loop.scheduler import Scheduler
from nightlab.storage.git import OutOfScope, PatchConflict

SEEDS = 3  # of a finding's, that are measured again


@dataclass(frozen=True, slots=True)
class Replayed:
    """A finding that was measured again, or could not be: then ``measured`` is None and ``detail`` says why."""

    target: str
    author: str
    claimed: float
    measured: float | None
    verdict: Verdict
    detail: str


class CommonsAudit:
    """Replays of the findings in ``there``. ``unfit``: how many can't be measured here, by reason."""

    def __init__(self, scheduler: Scheduler, there: Commons) -> None:
        self.session, self.confirmer = scheduler.session, Confirmer(scheduler)
        self.peers = PeerStore(self.session, there)
        self.paths = ProvenanceIndex(self.session, self.peers)
        self.unfit = Counter[str]()

    def replay(self, count: int, draw: random.Random | None = None) -> list[Replayed]:
        """Measure up to ``count`` findings, drawn by lot of those that can be measured here."""
        self.paths.refresh()
        able = list(self._able())
        draw = draw or random.Random()
        return [self._measured(entry, path) for entry, path in draw.sample(able, min(count, len(able)))]

    def _able(self) -> Iterator[tuple[Entry, ProvenancePath]]:
        for entry in self.peers.entries.values():
            if not entry.made:
                continue
            finding = entry.signed.record
            assert isinstance(finding, Finding)
            fit = self.peers.fit(entry, finding)
            path = self.paths.path_to(entry.id, self.paths.measured)
            if fit.level == "not":
                self.unfit["; ".join(fit.reasons)] += 1
            elif not self.peers.comparable(finding):
                self.unfit["it was measured on another platform, budget or data"] += 1
            elif path is None or not finding.runs:
                self.unfit["no steps lead to it from a genome of this session"] += 1
            else:
                yield entry, path

    def _measured(self, entry: Entry, path: ProvenancePath) -> Replayed:
        finding = entry.signed.record
        assert isinstance(finding, Finding)
        try:
            commit = self._commit(finding, path)
            seeds = [run.seed for run in finding.runs[:SEEDS]]
            before, after = self.confirmer.pairs("replay", seeds, (0, path.start), (0, commit))
        except (NightlabError, PatchConflict, OutOfScope, Rejected) as error:
            return Replayed(entry.id, entry.author, path.claimed, None, "refuted", one_line(str(error)))
        means = [average([m.metric for m in side if m.metric is not None]) for side in (before, after)]
        gain = self.session.metric.gain(*means)
        trials = [len(before), len(after), len(finding.runs), path.against]
        verdict = compare(path.claimed, gain, self.confirmer.scheduler.replicates.noise().sigma, trials)
        words = f"claimed {path.claimed:.6g}, measured {gain:.6g} on {len(seeds)} of its seeds"
        return Replayed(entry.id, entry.author, path.claimed, gain, verdict, words)

    def _commit(self, finding: Finding, path: ProvenancePath) -> str:
        """The finding's genome, kept reachable. Raises where its steps do not give the genome that they name."""
        patch, repo = self.paths.patch(path), self.session.repo
        if not patch:
            raise NightlabError("its steps do not give the genomes that they name")
        commit = repo.commit_patch(path.start, patch, one_line(finding.hypothesis))
        repo.check_scope(path.start, commit, self.session.lab.genome)
        if why := gene_mismatch(self.session, finding, path.start, commit):
            raise NightlabError(why)
        return self.confirmer.keep_variant(f"audit-{repo.tree(commit)[:12]}", commit)
