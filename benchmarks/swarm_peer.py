"""One lab of the simulated swarm: nightlab's own proposer of findings, trust, queue and judge, over a lab in memory.

What is simulated is what stands below them: genomes, the trials, git and the ledger. ``Transplant``, ``Peers`` and
``Judge`` are the product's.
"""

from __future__ import annotations

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
    Book,
    Chains,
    Ledger,
    Repo,
    Shelf,
    change_of,
    finding_body,
    patch_text,
)

from nightlab import peers, sharing, transplant
from nightlab.commons import queue
from nightlab.commons.capability import Fit, both, matches, negotiate
from nightlab.commons.exchange import Entry
from nightlab.commons.record import Finding, genome_id
from nightlab.commons.trust import Judgement, Warning
from nightlab.findings import instant
from nightlab.judge import Again, Contestant, Judge, Noise, make_rule
from nightlab.records import Candidate, Experiment, Measurement, Verdict
from nightlab.standing import OWN_SEED

SHORT = 12  # findings whose priority is worked out before it is known that no other can be higher
LATEST = 100  # verdicts of others on one author that are looked at
JUDGE = Judge(METRIC, {}, make_rule("shrunk"))


class Known(peers.Peers):
    """What one lab knows of its peers: the product's, over a shelf that all share.

    A lab sees of it what was there when it last synced. Of the findings that the product would look at, those that
    fit nowhere or can't come first are left out before it works out their priorities. Of others' verdicts on one
    author it hears the latest ``LATEST``, for all together weigh half of its own. Nothing else is done otherwise.
    """

    def __init__(self, session: Lab, commons: None) -> None:
        self.session, self.shelf, self.commons = session, session.shelf, session.shelf
        self.task, self.platform, self.entries = TASK, PLATFORM, Book(self.shelf)
        self.trust, self.threats, self.doubts, self.measured = {}, set(), {}, []
        self._fits = self.shelf.fits
        self.short: list[tuple[Entry, Finding]] = []

    def learn(self, *measured: dict[str, Any]) -> None:
        self.measured += measured
        self._chains = Chains(self.shelf, self.session.side, self.session.synced)
        now = CLOCK.time()
        self.trust = peers.trust([*self.own(), *self._others()], now)
        self.threats = peers.threats(self._warnings(), self.trust, now)
        self.doubts |= {note["target"]: note["doubt"] for note in measured if "doubt" in note}

    def fit(self, entry: Entry, finding: Finding) -> Fit:
        if entry.id not in self._fits:
            self._fits[entry.id] = both(matches(finding, self.task), negotiate(finding.requires, HAVE))
        return self._fits[entry.id]

    def offers(
        self, sigma: float, champion: Experiment, tried: Sequence[frozenset[str]], used: set[str]
    ) -> tuple[list[Any], list[Any]]:
        """The product's offers, of those findings among which the next one must be.

        A priority is at most what it would be if nothing alike had been tried. So once the best offer whose author
        may have the turn is worth more than that of every finding that was not looked at, those can't come first.
        """
        there = super()._findings()
        bound, had = self._bounds(there, sigma, champion, used), set(self.session.proposer._tried[-queue.ROUND :])
        order, many = np.argsort(-bound, kind="stable"), SHORT
        possible = int((bound > 0).sum())
        while True:
            self.short = [there[n] for n in order[: min(many, possible)]]
            offers, told = super().offers(sigma, champion, tried, used)
            best = max((offer.priority for offer in offers if offer.author not in had), default=0.0)
            if many >= possible or best >= bound[order[many]]:
                return offers, told
            many *= 4

    def proven(self, author: str) -> bool:
        return author in self.trust and self.trust[author].value > 0.5

    def _bounds(
        self, there: Sequence[tuple[Entry, Finding]], sigma: float, champion: Experiment, used: set[str]
    ) -> Any:
        """What the priority of each finding is at most; 0 for what is used up, or fits on nothing here."""
        lab, shelf = self.session, self.shelf
        claimed, value, author, parent, site, before, _ = shelf.columns[[shelf.place[entry.id] for entry, _ in there]].T
        trusted = np.full(len(shelf.authors), 0.5)
        for name, known in self.trust.items():
            trusted[shelf.authors[name]] = 0.0 if known.quarantined else known.value
        assert champion.bar is not None
        here = np.frombuffer(lab.repo.genomes[champion.candidate.commit], np.uint8)
        fits = here[site.astype(int)] == before
        for ground in lab.grounds:
            if ground in shelf.genomes:
                fits |= (value < champion.bar) & (parent == shelf.genomes[ground])
        fits &= (claimed > 0) & np.array([entry.id not in used for entry, _ in there], bool)
        with np.errstate(all="ignore"):
            left = np.clip((champion.bar - value) / claimed, queue.LEAST, 1)
        ceiling = peers.priority(math.inf, sigma, 1.0, 1.0, 1.0)
        return np.where(fits, np.minimum(claimed, ceiling) * trusted[author.astype(int)] * left, 0.0)

    def _findings(self) -> list[tuple[Entry, Finding]]:
        return self.short

    def _others(self) -> list[Judgement]:
        """What others say of the authors that were measured here: of nobody else does it matter."""
        lab, found = self.session, list[Judgement]()
        for author in {note["author"] for note in self.measured}:
            said = self.shelf.verdicts.get(author, ())[-LATEST:]
            found += [one for one, seen in said if seen[lab.side] <= lab.synced and one.by != lab.name]
        return found

    def _warnings(self) -> list[Warning]:
        """The warnings of those who are trusted, for nobody else's count, and what was seen here."""
        lab, said = self.session, list[Warning]()
        for author in filter(self.proven, self.trust):
            there = self.shelf.warnings.get(author, ())
            said += [warning for warning, seen in there if seen[lab.side] <= lab.synced]
        return said + [Warning(n["target"], "", n["at"], own=True) for n in self.measured if n["reason"] == "tampered"]


class Lab:
    """A lab that keeps the rules: what ``Transplant`` takes for its session, and the night around it.

    ``policy``: ``commons``, ``isolation``, or ``claims``, which takes over whatever genome is said to be the best.
    """

    lab = SimpleNamespace(commons=SimpleNamespace(share=SHARE), proposers=[SimpleNamespace(share=1.0)], genome=[])
    judge = JUDGE

    def __init__(self, name: str, shelf: Shelf, repo: Repo, policy: str, sigma: float, seed: str) -> None:
        self.name, self.shelf, self.repo, self.policy, self.sigma = name, shelf, repo, policy, sigma
        self.draw, self.ledger, self.side, self.synced = random.Random(seed), Ledger(), 0, -1.0
        self.finder, self.outbox = False, list[tuple[dict[str, Any], str | None, str]]()
        self.on_liars = self.on_others = self.trials = self.answered = 0
        self.grounds: dict[str, None] = {}
        self.proposer = transplant.Transplant(self, {}, set(), lambda: Noise(sigma, 100.0))
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
        if self.policy == "commons" and proposer._count + 1 <= max(1.0, SHARE * (self.ledger.next_number() + 1)):
            proposer.look([])
            if proposal := proposer.propose(None):
                on = proposal.on or self.champion().candidate.commit
                commit = self.repo.commit_patch(on, proposal.patch, "")
                words = self._candidate(commit, on, change_of(proposal.patch), proposer.name, proposal.source)
                proposer.tell(proposal, None)
                before = self.trials
                experiment = self._see_through(words)
                place = self.shelf.place[proposal.source.split("@")[0]]
                self.on_others += self.trials - before
                self.on_liars += (self.trials - before) * int(self.shelf.columns[place, 6])
                proposer.judged(experiment)
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
        experiment = self._see_through(self._candidate(commit, on, (site, before, after), "own", ""))
        if experiment.kept and self.policy != "isolation":
            self._share(experiment, patch_text(site, before, after))

    def _candidate(self, commit: str, on: str, change: tuple[int, int, int], proposer: str, source: str) -> Candidate:
        site, before, after = change
        said, words = f"SITE_{site} {before} \u2192 {after}", f"SITE_{site} = SITE_{site}_V{after}"
        return Candidate(commit, on, commit, proposer, words, changes=(said,), source=source)

    def _see_through(self, candidate: Candidate) -> Experiment:
        """A candidate's trials, as many as the judge asks for, and its verdict."""
        number, ledger, runs = self.ledger.next_number(), self.ledger, dict[int, Measurement]()
        noise, champion = Noise(self.sigma, 100.0), self.ledger.head
        while True:
            against = transplant.standing(self, champion) if champion else None
            first = OWN_SEED + 2 * number if number else 1
            decision = JUDGE.judge(against, Contestant(runs, 0, None, first), noise)
            if not isinstance(decision, Again):
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
            self.grounds[genome_id(self.genome(candidate.commit))] = None
        return experiment

    def _run(self, commit: str) -> Measurement:
        self.trials += 1
        return Measurement("measured", self.repo.true[commit] + self.draw.gauss(0, self.sigma))

    def _share(self, experiment: Experiment, patch: str) -> None:
        parent = self.ledger.by_commit(experiment.candidate.parent)
        assert parent is not None
        runs, against = (transplant.runs_of(transplant.standing(self, one)) for one in (experiment, parent))
        ends = [genome_id(self.genome(one)) for one in (experiment.candidate.parent, experiment.candidate.commit)]
        self.outbox.append(
            (finding_body(ends, patch, runs, against, experiment.candidate), patch, experiment.candidate.commit)
        )

    def _answer(self) -> None:
        """What ``nightlab sync`` publishes of the latest measurement of another's finding."""
        for note in self.ledger.said[self.answered :]:
            self.outbox.append((sharing._verification(note, instant(note["at"])), None, ""))
            if note["reason"] == "tampered":
                self.outbox.append((sharing._threat(note, instant(note["at"])), None, ""))
        self.answered = len(self.ledger.said)

    def _believe(self) -> None:
        """What published swarms do: the genome and the number of whoever claims the best."""
        n, bar = len(self.shelf.findings), self.champion().bar
        assert bar is not None
        value = np.where(self.shelf.seen[:n, self.side] <= self.synced, self.shelf.columns[:n, 1], np.inf)
        if (best := float(value.min(initial=np.inf))) < bar:
            commit = self.shelf.commits[self.shelf.findings[int(value.argmin())].id]
            number = self.ledger.next_number()
            candidate = Candidate(commit, "", commit, "claims", "")
            verdict = Verdict("keep", "improved", bar=best)
            self.ledger.head = Experiment(number, candidate, 0.0, Measurement("measured", best), verdict, 0.0, best)
            self.ledger.rows.append(self.ledger.head)
            self.ledger.runs.append({1: Measurement("measured", best)})
            self.ledger.commits.setdefault(commit, number)


transplant.open_commons = lambda: None
transplant.Peers = Known
peers.time = transplant.time = CLOCK
