"""One lab of the simulated swarm: nightlab's own proposer of findings, trust, queue and judge, over a lab in memory.

What is simulated is what stands below them: genomes, the trials, git and the ledger. ``CommonsProposer``,
``PeerStore`` and ``Judge`` are the product's.
"""

from __future__ import annotations

import bisect
import functools
import math
import random
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from swarm_world import (
    CHOICES,
    CLOCK,
    FOUND,
    HAVE,
    METRIC,
    PLANT,
    PLATFORM,
    SHARE,
    SITES,
    START,
    TASK,
    Ledger,
    Repo,
    Shelf,
    changes_of,
    finding_body,
)

from nightlab.commons import peer_store, proposer, provenance, queue, sync
from nightlab.commons.capability import Compatibility, check_requirements, compare_tasks, worse_of
from nightlab.commons.entry import Entry
from nightlab.commons.finding import origins, target_of
from nightlab.commons.instants import format_instant
from nightlab.commons.proposer import allowed
from nightlab.commons.record import Finding, genome_id
from nightlab.core.events import FindingVerified
from nightlab.core.types import Candidate, Experiment, Measurement, Verdict
from nightlab.judge import Contestant, Judge, NeedsTrial, Noise, make_rule
from nightlab.session.replicates import OWN_SEED

JUDGE = Judge(METRIC, {}, make_rule("shrunk"))


class Known(peer_store.PeerStore):
    """What one lab knows of its peers: the product's, over a shelf that all share.

    A lab sees of it what was there when it last synced; only whose step an older one was, it knows at once.
    """

    def __init__(self, session: Lab, commons: None) -> None:
        self.session, self.shelf, self.commons = session, session.shelf, session.shelf
        self.task, self.platform, self.entries = TASK, PLATFORM, session.shelf.entries
        self.trust, self.threats, self.doubtful, self.measured, self._said = {}, set(), {}, [], {}
        self.revoked: dict[str, int] = {}
        self._retracted: dict[tuple[str, str], int] = {}
        self._fits, self._claims, self._verdicts = session.shelf.fits, session.shelf.claims, session.shelf.verdicts
        self._me = session.name
        self._draw, self.first = random.Random(session.name), 0

    def update(self, *measured: FindingVerified) -> None:
        self.measured += measured
        self._weigh(CLOCK.time(), measured)

    def fit(self, entry: Entry, finding: Finding) -> Compatibility:
        if entry.id not in self._fits:
            self._fits[entry.id] = worse_of(
                compare_tasks(finding, self.task), check_requirements(finding.requires, HAVE)
            )
        return self._fits[entry.id]

    def _published(self, author: str, kind: str) -> list[Entry]:
        return self.shelf.published(author, kind, self.session.side, self.session.synced)

    def findings_for(self, genome: str) -> Sequence[Entry]:
        return self.shelf.makers.get(genome, ())

    def _unproven_authors(self) -> list[str]:
        """The product's draw. A lab meets the authors in the order in which they came, those before it at once."""
        there = bisect.bisect_right(self.shelf.since, self.session.synced)
        first = self.first = self.first or there
        known = {self.session.name, *self._heard_of()}
        return queue.draw_strangers(self.shelf.authors[:there], first, known, peer_store.STRANGERS, self._draw)


class Lab:
    """A lab that keeps the rules: what ``CommonsProposer`` takes for its session, and the night around it.

    ``policy``: ``commons``, ``isolation``, or ``claims``, which takes over whatever genome is said to be the best.
    """

    judge, metric = JUDGE, METRIC

    def __init__(
        self, name: str, shelf: Shelf, repo: Repo, policy: str, sigma: float, seed: str, known: Sequence[str] = ()
    ) -> None:
        part = SimpleNamespace(share=SHARE, known=known)
        self.lab = SimpleNamespace(commons=part, proposers=[SimpleNamespace(share=1.0)], genome=[], gene=None)
        self.name, self.shelf, self.repo, self.policy, self.sigma = name, shelf, repo, policy, sigma
        self.draw, self.ledger, self.side, self.synced = random.Random(seed), Ledger(), 0, -1.0
        self.finder, self.outbox = False, list[tuple[dict[str, Any], str | None, str]]()
        self.shared: set[str] = set()
        self.on_liars = self.on_others = self.trials = self.answered = 0
        self.proposer = proposer.CommonsProposer(self, {}, set(), lambda: Noise(sigma, 100.0))
        self.proposer._draw = random.Random(f"{seed} checks")
        self._see_through(Candidate(repo.commit(repo.base, START), "", "", "baseline", ""))

    def champion(self) -> Experiment:
        assert self.ledger.head is not None
        return self.ledger.head

    def genome(self, commit: str) -> dict[str, str]:
        return {"genome.py": self.repo.genomes[commit].hex()}

    @property
    def true(self) -> float:
        return self.repo.true[self.champion().candidate.commit]

    @property
    def has_planted(self) -> bool:
        return self.repo.genomes[self.champion().candidate.commit][PLANT] != 0

    def turn(self) -> None:
        """One experiment: of what others found, where it is their turn and there is something, else of one's own."""
        proposer = self.proposer
        if self.policy == "claims":
            self._believe()
        turns = allowed(max(1.0, SHARE * (self.ledger.next_number() + 1)))
        if self.policy == "commons" and proposer._count + 1 <= turns:
            proposer.choose([])
            if proposal := proposer.propose(None):
                on = proposal.on or self.champion().candidate.commit
                commit = self.repo.commit_patch(on, proposal.patch, "")
                words = self._candidate(commit, on, changes_of(proposal.patch), proposer.name, proposal.source)
                proposer.tell(proposal, None)
                before = self.trials
                experiment = self._see_through(words)
                lie = target_of(proposal.source) in self.shelf.lies
                self.on_others += self.trials - before
                self.on_liars += (self.trials - before) * lie
                proposer.record_verdict(experiment)
                self._answer()
                return
        self._own_idea()

    def _own_idea(self) -> None:
        on = self.champion().candidate.commit
        while True:
            site, after = self.draw.randrange(SITES), self.draw.randrange(CHOICES)
            if self.finder and CLOCK.now >= FOUND and not self.has_planted:
                site, after = PLANT, self.draw.randrange(1, CHOICES)
            before = self.repo.genomes[on][site]
            commit = self.repo.change(on, site, after)
            if after != before and (site == PLANT or not self.ledger.find_tree(commit)):
                break
        experiment = self._see_through(self._candidate(commit, on, [(site, before, after)], "own", ""))
        if experiment.kept and self.policy != "isolation":
            self._share(experiment)

    def _candidate(
        self, commit: str, on: str, changes: Sequence[tuple[int, int, int]], proposer: str, source: str
    ) -> Candidate:
        said = tuple(f"SITE_{site} {before} \u2192 {after}" for site, before, after in changes[:20])
        words = " ".join(f"SITE_{site} = SITE_{site}_V{after}" for site, _, after in changes[-8:])
        return Candidate(commit, on, commit, proposer, words, changes=said, source=source)

    def _see_through(self, candidate: Candidate) -> Experiment:
        """A candidate's trials, as many as the judge asks for, and its verdict."""
        number, ledger, runs = self.ledger.next_number(), self.ledger, dict[int, Measurement]()
        noise, champion = Noise(self.sigma, 100.0), self.ledger.head
        while True:
            against = proposer.contestant_for(self, champion) if champion else None
            first = OWN_SEED + 2 * number if number else 1
            decision = JUDGE.judge(against, Contestant(runs, 0, None, first), noise)
            if not isinstance(decision, NeedsTrial):
                break
            runs[decision.seed] = self._run(candidate.commit)
        value = [run.metric for run in runs.values() if run.metric is not None]
        measured = Measurement("measured", math.fsum(value) / len(value)) if value else next(iter(runs.values()))
        now = CLOCK.time()
        experiment = Experiment(number, candidate, now, measured, decision, now, decision.bar)
        ledger.rows.append(experiment)
        ledger.runs.append(runs)
        ledger.commits.setdefault(candidate.commit, number)
        if decision.status == "keep":
            self.ledger.head = experiment
        return experiment

    def _run(self, commit: str) -> Measurement:
        self.trials += 1
        return Measurement("measured", self.repo.true[commit] + self.draw.gauss(0, self.sigma))

    def _share(self, experiment: Experiment) -> None:
        """What ``nightlab share`` shares: a finding, and what it stands on, where nobody has shared that."""
        candidate, parent = experiment.candidate, self.ledger.by_commit(experiment.candidate.parent)
        assert parent is not None
        ends = [once(self.genome(one)) for one in (candidate.parent, candidate.commit)]
        if ends[1] in self.shared or ends[1] in self.shelf.makers:
            return
        if parent.number and self.policy == "commons":
            self._share(parent)
        self.shared.add(ends[1])
        runs, against = (proposer.runs_of(proposer.contestant_for(self, one)) for one in (experiment, parent))
        patch = self.repo.patch(candidate.parent, candidate.commit)
        body = finding_body(ends, patch, runs, against, candidate, origins(candidate))
        self.outbox.append((body, patch, candidate.commit))

    def _answer(self) -> None:
        """What ``nightlab sync`` publishes of the latest measurement of another's finding."""
        for event in self.ledger.said[self.answered :]:
            self.outbox.append((sync._verification(event, format_instant(event.at), ""), None, ""))
            if event.reason == "tampered":
                self.outbox.append((sync._threat(event, format_instant(event.at)), None, ""))
        self.answered = len(self.ledger.said)

    def _believe(self) -> None:
        """What published swarms do: the genome and the number of whoever claims the best."""
        n, bar = len(self.shelf.findings), self.champion().bar
        assert bar is not None
        there = self.shelf.columns[:n]
        value = np.where(there[:, 1 + self.side] <= self.synced, there[:, 0], np.inf)
        if (best := float(value.min(initial=np.inf))) < bar:
            commit = self.shelf.commits[self.shelf.findings[int(value.argmin())]]
            number = self.ledger.next_number()
            candidate = Candidate(commit, "", commit, "claims", "")
            verdict = Verdict("keep", "improved", bar=best)
            self.ledger.head = Experiment(number, candidate, 0.0, Measurement("measured", best), verdict, 0.0, best)
            self.ledger.rows.append(self.ledger.head)
            self.ledger.runs.append({1: Measurement("measured", best)})
            self.ledger.commits.setdefault(commit, number)


@functools.lru_cache(200_000)
def named(genome: str) -> str:
    return genome_id({"genome.py": genome})


def once(genome: dict[str, str]) -> str:
    """The product's name of a genome, worked out once for all labs."""
    return named(genome["genome.py"])


proposer.open_commons = lambda: None
proposer.genome_id = provenance.genome_id = once
proposer.PeerStore = Known
peer_store.time = proposer.time = CLOCK
