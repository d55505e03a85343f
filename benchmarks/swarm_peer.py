"""One lab of the simulated swarm: nightlab's own transplant proposer, peers, trust, queue and judge, over a lab in memory.

What is simulated is what stands below them: genomes, the trials, git and the ledger. ``Transplant``, ``Peers`` and
``Judge`` are the product's.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from nightlab import peers, sharing, transplant
from nightlab.commons import queue
from nightlab.commons.capability import Fit, Have, both, matches, negotiate
from nightlab.commons.exchange import Entry
from nightlab.commons.record import Finding, Retraction, Task, Threat, Verification, genome_id, task_id
from nightlab.commons.record import Platform as Told
from nightlab.commons.trust import Judgement, Warning
from nightlab.judge import Again, Contestant, Judge, Noise, make_rule
from nightlab.lineage import PatchConflict
from nightlab.records import Budget, Candidate, Experiment, Measurement, Metric, Trial, Verdict
from nightlab.findings import instant
from nightlab.standing import OWN_SEED

START = 1.0
SITES, CHOICES = 300, 6
GOOD, NOTHING = 0.08, 0.32  # of the changes; the others harm
SIZE, SPREAD = 0.002, 0.5  # of a good change: median and log-sd of a lognormal; a harmful one is twice as large
PLANTED, HARM = 0.01, 0.02  # the gain that is found once and must travel; what a liar's change costs
CORNER = 40  # places each for the planted gain, harm, and nothing at all
PLANT, HARMFUL, IDLE = SITES, SITES + CORNER, SITES + 2 * CORNER
SHARE = 0.2  # of the experiments that measure what others found
METRIC, BUDGET = Metric("loss"), Budget("work", 1)
ROUND = 300.0  # seconds: a trial
FOUND = 5.0  # rounds after which the planted gain is tried by the one who finds it
SHORT = 12  # findings whose priority is worked out before it is known that no other can be higher
LATEST = 100  # verdicts of others on one author that are looked at

FACTS = {
    "frozen_sha256": "0" * 64,
    "data_sha256": None,
    "budget": {"clock": "work", "amount": 1.0},
    "metric": {"name": "loss", "goal": "minimise", "unit": ""},
}
TASK = Task.model_validate({"id": task_id(FACTS), **FACTS})
PLATFORM = Told(device="cpu", accelerator="", processor="simulated", cores=1, system="Linux", python="Python 3")
REQUIRES = {"devices": ["cpu"], "memory_mb": 100.0, "gpu_memory_mb": 0.0, "dtypes": [], "libraries": {}}
HAVE = Have("cpu", 1000.0, None, {})
JUDGE = Judge(METRIC, {}, make_rule("shrunk"))

Genome = bytes  # the choice at each site; 0 is as shipped


class Landscape:
    """What each change is worth. Effects add up; two changes of one place exclude each other.

    The last places are not the peers' to find: the planted gain's, those at which liars place harm, and nothing.
    """

    def __init__(self, seed: int) -> None:
        draw = np.random.default_rng(seed)
        kind = draw.random((SITES, CHOICES))
        size = SIZE * np.exp(SPREAD * draw.standard_normal((SITES, CHOICES)))
        effect = np.where(kind < GOOD, size, np.where(kind < GOOD + NOTHING, 0.0, -2 * size))
        effect[:, 0] = 0.0
        self.gain = np.zeros((SITES + 3 * CORNER, CHOICES))
        self.gain[:SITES] = effect
        self.gain[PLANT, 1:], self.gain[HARMFUL:HARMFUL + CORNER, 1:] = PLANTED, -HARM


def patch_text(site: int, before: int, after: int) -> str:
    return f"--- a/genome.py\n+++ b/genome.py\n@@ -{site + 1} +{site + 1} @@\n-SITE_{site} = {before}\n+SITE_{site} = {after}\n"


class Clock:
    """What the product takes for the time of day: set to the simulation's."""

    def __init__(self) -> None:
        self.now = 0.0

    def time(self) -> float:
        return 1.7e9 + ROUND * self.now


CLOCK = Clock()


@dataclass(slots=True)
class Shelf:
    """Everything that was accepted by the swarm's copies of the commons; who sees what of it is a matter of time.

    A column for each fact that tells which findings can't have the highest priority of all.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    findings: list[Entry] = field(default_factory=list)
    patches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, str] = field(default_factory=dict)
    retractions: list[Entry] = field(default_factory=list)
    warnings: list[tuple[Warning, tuple[float, float]]] = field(default_factory=list)
    verdicts: dict[str, list[tuple[Judgement, tuple[float, float]]]] = field(default_factory=dict)
    authors: dict[str, int] = field(default_factory=dict)
    genomes: dict[str, int] = field(default_factory=dict)
    place: dict[str, int] = field(default_factory=dict)
    columns: Any = field(default_factory=lambda: np.zeros((1024, 11)))
    by: dict[str, list[int]] = field(default_factory=dict)
    fits: dict[str, Fit] = field(default_factory=dict)

    def patch(self, entry: Entry) -> str:
        return self.patches[entry.id]

    def add(self, entry: Entry, patch: str | None, commit: str, seen: tuple[float, float], liar: bool) -> None:
        """``seen``: from when on it is there for who is on either side of the network."""
        record = entry.signed.record
        self.entries[entry.id] = entry
        if isinstance(record, Finding):
            assert patch is not None
            n, change = len(self.findings), change_of(patch)
            if n == len(self.columns):
                self.columns = np.vstack([self.columns, np.zeros_like(self.columns)])
            value = math.fsum(run.value for run in record.runs) / len(record.runs)
            author = self.authors.setdefault(record.author, len(self.authors))
            parent = self.genomes.setdefault(record.parent, len(self.genomes))
            self.columns[n] = (record.claimed, value, author, parent, *change[:2], *seen, liar, math.inf, math.inf)
            own = self.by.setdefault(record.author, [])
            own.append(n)
            if len(own) > peers.PER_AUTHOR:  # of each author only the latest are looked at
                self.columns[own[-1 - peers.PER_AUTHOR], 9:] = seen
            self.findings.append(entry)
            self.patches[entry.id], self.commits[entry.id], self.place[entry.id] = patch, commit, n
        elif isinstance(record, Verification):
            target = self.entries.get(record.target)
            if target:
                at = peers.seconds(record.at)
                said = Judgement(record.target, target.author, record.verdict, at, by=record.author)
                self.verdicts.setdefault(target.author, []).append((said, seen))
        elif isinstance(record, Threat):
            self.warnings.append((Warning(record.target, record.author, peers.seconds(record.at)), seen))
        else:
            self.retractions.append(entry)


def change_of(patch: str) -> tuple[int, int, int]:
    """The place of a patch, and the choice there before and after."""
    old, new = patch.splitlines()[-2:]
    site, before = old.removeprefix("-SITE_").split(" = ")
    return int(site), int(before), int(new.split(" = ")[1])


class Repo:
    """Genomes by their commits, in place of git. Commits of the whole swarm, for equal genomes are equal commits."""

    def __init__(self, landscape: Landscape) -> None:
        self.gain = [list(map(float, row)) for row in landscape.gain]
        self.base = bytes(len(self.gain))
        self.genomes: dict[str, Genome] = {}
        self.true: dict[str, float] = {}
        self.commit(self.base, START)

    def commit(self, genome: Genome, true: float) -> str:
        name = hashlib.blake2b(genome, digest_size=12).hexdigest()
        self.genomes[name], self.true[name] = genome, true
        return name

    def change(self, on: str, site: int, after: int) -> str:
        genome, gain = self.genomes[on], self.gain[site]
        changed = genome[:site] + bytes([after]) + genome[site + 1 :]
        return self.commit(changed, self.true[on] + gain[genome[site]] - gain[after])

    def commit_patch(self, on: str, patch: str, message: str) -> str:
        site, before, after = change_of(patch)
        if self.genomes[on][site] not in (before, after):
            raise PatchConflict(f"SITE_{site} is another here")
        return self.change(on, site, after)

    def check_scope(self, parent: str, commit: str, genome: Sequence[str]) -> None:
        """Nothing of the swarm reaches outside the genome: the product's tests see to that."""

    def tree(self, commit: str) -> str:
        return commit


class Ledger:
    """One lab's experiments, in place of SQLite."""

    def __init__(self) -> None:
        self.rows: list[Experiment] = []
        self.runs: list[dict[int, Measurement]] = []
        self.commits: dict[str, int] = {}
        self.said: list[dict[str, Any]] = []

    def next_number(self) -> int:
        return len(self.rows)

    def experiment(self, number: int) -> Experiment:
        return self.rows[number]

    def experiments(self, last: int | None = None, status: str | None = None) -> list[Experiment]:
        rows = [row for row in self.rows if status is None or row.kept] if status else self.rows
        return rows[-last:] if last else rows

    def by_commit(self, commit: str) -> Experiment | None:
        return self.rows[self.commits[commit]] if commit in self.commits else None

    find_tree = by_commit

    def by_source(self, source: str) -> Experiment | None:
        return next((row for row in self.rows if row.candidate.source == source), None)

    def trials(self, number: int, purpose: str, since: int = 0, last: int | None = None) -> Iterator[Any]:
        if purpose == "search":
            for seed, run in self.runs[number].items():
                yield Trial("", number, "", seed, "search", BUDGET), run

    def note(self, kind: str, note: dict[str, Any]) -> None:
        self.said.append({**note, "at": CLOCK.time()})


class Known(peers.Peers):
    """What one lab knows of its peers: the product's, which looks only at findings that may come first.

    Everybody's copy of the commons is one shelf, of which a lab sees what was there when it last synced.
    """

    def __init__(self, session: Lab, commons: None) -> None:
        self.session, self.shelf, self.commons = session, session.shelf, session.shelf  # type: ignore[assignment]
        self.task, self.platform, self.entries = TASK, PLATFORM, Book(self.shelf)  # type: ignore[assignment]
        self.trust, self.threats, self.doubts, self.measured = {}, set(), {}, []
        self._fits = self.shelf.fits
        self.short: list[Entry] = []

    def learn(self, *measured: dict[str, Any]) -> None:
        """As the product's, which also reads the chains that are new."""
        self.measured += measured
        now = CLOCK.time()
        self.trust = peers.trust([*self.own(), *self._others()], now)
        self.threats = peers.threats(self._warnings(), self.trust, now)
        self.doubts = {note["target"]: note["doubt"] for note in self.measured if note.get("doubt")}

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
        bound, had = self._bounds(sigma, champion, used), set(self.session.proposer._tried[-queue.ROUND :])
        order, many = np.argsort(-bound, kind="stable"), SHORT
        possible = int((bound > 0).sum())
        while True:
            self.short = [self.shelf.findings[n] for n in order[: min(many, possible)]]
            offers, told = super().offers(sigma, champion, tried, used)
            best = max((offer.priority for offer in offers if offer.author not in had), default=0.0)
            if many >= possible or best >= bound[order[many]]:
                return offers, told
            many *= 4

    def _bounds(self, sigma: float, champion: Experiment, used: set[str]) -> Any:
        """What the priority of each finding is at most; 0 for those that are not seen, used up, or fit nowhere."""
        lab, shelf = self.session, self.shelf
        n = len(shelf.findings)
        claimed, value, author, parent, site, before, near, far, _, *older = shelf.columns[:n].T
        trusted = np.full(len(shelf.authors), 0.5)
        for name, known in self.trust.items():
            if name in shelf.authors:
                trusted[shelf.authors[name]] = 0.0 if known.quarantined else known.value
        assert champion.bar is not None
        here = np.frombuffer(lab.repo.genomes[champion.candidate.commit], np.uint8)
        fits = here[site.astype(int)] == before
        for ground in lab.grounds:
            if ground in shelf.genomes:
                fits |= (value < champion.bar) & (parent == shelf.genomes[ground])
        fits &= ((far if lab.side else near) <= lab.synced) & (claimed > 0) & (older[lab.side] > lab.synced)
        fits[[shelf.place[one] for one in used if one in shelf.place]] = False
        with np.errstate(all="ignore"):
            left = np.clip((champion.bar - value) / claimed, 0.05, 1)
        return np.where(fits, clip(claimed, sigma) * trusted[author.astype(int)] * left, 0.0)

    def _findings(self) -> list[tuple[Entry, Finding]]:
        return [(entry, entry.signed.record) for entry in self.short]  # type: ignore[misc]

    def _others(self) -> list[Judgement]:
        """What others say of the authors that were measured here: of nobody else does it matter."""
        lab, found = self.session, list[Judgement]()
        for author in {note["author"] for note in self.measured}:
            said = self.shelf.verdicts.get(author, ())[-LATEST:]
            found += [one for one, seen in said if seen[lab.side] <= lab.synced and one.by != lab.name]
        return found

    def _warnings(self) -> list[Warning]:
        lab = self.session
        said = [warning for warning, seen in self.shelf.warnings if seen[lab.side] <= lab.synced]
        return said + [Warning(n["target"], "", n["at"], own=True) for n in self.measured if n["reason"] == "tampered"]


def clip(claimed: Any, sigma: float) -> Any:
    """As ``priority`` clips what is claimed; where that is switched off, nothing is clipped."""
    ceiling = peers.priority(1e9, sigma, 1.0, 1.0, 1.0)
    return np.minimum(claimed, ceiling)


class Book(Mapping[str, Entry]):
    """The shelf's entries by their ids. Only the retractions among them are ever gone through."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf

    def __getitem__(self, name: str) -> Entry:
        return self.shelf.entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter([entry.id for entry in self.shelf.retractions])

    def __len__(self) -> int:
        return len(self.shelf.entries)


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
        self.head: Experiment | None = None
        self.proposer = transplant.Transplant(self, {}, set(), lambda: Noise(sigma, 100.0))  # type: ignore[arg-type]
        self.proposer._draw = random.Random(f"{seed} checks")
        self._see_through(Candidate(repo.commit(repo.base, START), "", "", "baseline", ""))

    def champion(self) -> Experiment:
        assert self.head is not None
        return self.head

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
        if self.policy == "commons" and proposer._count <= SHARE * self.ledger.next_number():
            proposer.look([])
            if proposal := proposer.propose(None):  # type: ignore[arg-type]
                on = proposal.on or self.champion().candidate.commit
                commit = self.repo.commit_patch(on, proposal.patch, "")
                words = self._candidate(commit, on, change_of(proposal.patch), proposer.name, proposal.source)
                proposer.tell(proposal, None)
                before = self.trials
                experiment = self._see_through(words)
                place = self.shelf.place[proposal.source.split("@")[0]]
                self.on_others += self.trials - before
                self.on_liars += (self.trials - before) * int(self.shelf.columns[place, 8])
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
        noise, champion = Noise(self.sigma, 100.0), self.head
        while True:
            against = transplant.standing(self, champion) if champion else None  # type: ignore[arg-type]
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
            self.head = experiment
            self.grounds[genome_id(self.genome(candidate.commit))] = None
        return experiment

    def _run(self, commit: str) -> Measurement:
        self.trials += 1
        return Measurement("measured", self.repo.true[commit] + self.draw.gauss(0, self.sigma))

    def _share(self, experiment: Experiment, patch: str) -> None:
        parent = self.ledger.by_commit(experiment.candidate.parent)
        assert parent is not None
        runs, against = (transplant.runs_of(transplant.standing(self, one)) for one in (experiment, parent))  # type: ignore[arg-type]
        ends = [genome_id(self.genome(one)) for one in (experiment.candidate.parent, experiment.candidate.commit)]
        self.outbox.append((finding_body(ends, patch, runs, against, experiment.candidate), patch, experiment.candidate.commit))

    def _answer(self) -> None:
        """What ``nightlab sync`` publishes of the latest measurement of another's finding."""
        for note in self.ledger.said[self.answered :]:
            self.outbox.append((sharing._verification(note, instant(note["at"])), None, ""))
            if note["reason"] == "tampered":
                self.outbox.append((sharing._threat(note, instant(note["at"])), None, ""))
        self.answered = len(self.ledger.said)

    def _believe(self) -> None:
        """What published swarms do: the genome and the number of whoever claims the best."""
        n = len(self.shelf.findings)
        value, site, seen = self.shelf.columns[:n, 1], self.shelf.columns[:n, 4], self.shelf.columns[:n, 6 + self.side]
        value = np.where(seen <= self.synced, value, np.inf)
        bar = self.champion().bar
        assert bar is not None
        if n and value.min() < bar:
            entry = self.shelf.findings[int(value.argmin())]
            commit = self.shelf.commits[entry.id]
            number = self.ledger.next_number()
            candidate = Candidate(commit, "", commit, "claims", "")
            best = float(value.min())
            verdict = Verdict("keep", "improved", bar=best)
            self.head = Experiment(number, candidate, 0.0, Measurement("measured", best), verdict, 0.0, best)
            self.ledger.rows.append(self.head)
            self.ledger.runs.append({1: Measurement("measured", best)})
            self.ledger.commits.setdefault(commit, number)


def finding_body(
    ends: Sequence[str],
    patch: str,
    runs: Sequence[Mapping[str, Any]],
    against: Sequence[Mapping[str, Any]],
    said: Candidate,
) -> dict[str, Any]:
    """The body of a finding, as ``nightlab share`` makes it."""
    raw = patch.encode()
    git = hashlib.sha1(b"blob %d\0" % len(raw) + raw).hexdigest()
    return {
        "kind": "finding", "at": instant(CLOCK.time()), "task": TASK.model_dump(), "portable": [],
        "platform": PLATFORM.model_dump(), "parent": ends[0], "genome": ends[1],
        "patch": {"git": git, "sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)},
        "hypothesis": said.hypothesis, "changes": list(said.changes), "status": "keep", "reason": "improved",
        "runs": list(runs), "against": list(against), "requires": REQUIRES, "inspired_by": [],
    }  # fmt: skip


transplant.open_commons = lambda: None  # type: ignore[assignment,return-value]
transplant.Peers = Known  # type: ignore[misc,assignment]
peers.time = transplant.time = CLOCK  # type: ignore[assignment]
