"""One lab of the simulated swarm: nightlab's own proposer of findings, trust, queue and judge, over a lab in memory.

What is simulated is what stands below them: genomes, the trials, git and the ledger. ``Transplant``, ``Peers`` and
``Judge`` are the product's.
"""

from __future__ import annotations

import bisect
import hashlib
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from nightlab import peers, sharing, transplant
from nightlab.commons import queue
from nightlab.commons.capability import Fit, Have, both, matches, negotiate
from nightlab.commons.exchange import Entry
from nightlab.commons.record import Finding, Task, Threat, Verification, genome_id, task_id
from nightlab.commons.record import Platform as Told
from nightlab.commons.trust import Judgement, Warning
from nightlab.findings import instant
from nightlab.judge import Again, Contestant, Judge, Noise, make_rule
from nightlab.lineage import PatchConflict
from nightlab.records import Budget, Candidate, Experiment, Measurement, Metric, Trial, Verdict
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
        self.gain[PLANT, 1:], self.gain[HARMFUL : HARMFUL + CORNER, 1:] = PLANTED, -HARM


def patch_text(site: int, before: int, after: int) -> str:
    place = f"--- a/genome.py\n+++ b/genome.py\n@@ -{site + 1} +{site + 1} @@\n"
    return f"{place}-SITE_{site} = {before}\n+SITE_{site} = {after}\n"


class Clock:
    """What the product takes for the time of day: set to the simulation's."""

    def __init__(self) -> None:
        self.now = 0.0

    def time(self) -> float:
        return 1.7e9 + ROUND * self.now


CLOCK = Clock()


@dataclass(slots=True)
class Shelf:
    """Everything that the swarm's copies of the commons accepted; who sees what of it is a matter of time."""

    entries: dict[str, Entry] = field(default_factory=dict)
    findings: list[Entry] = field(default_factory=list)
    patches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, str] = field(default_factory=dict)
    retractions: list[Entry] = field(default_factory=list)
    warnings: list[tuple[Warning, tuple[float, float]]] = field(default_factory=list)
    verdicts: dict[str, list[tuple[Judgement, tuple[float, float]]]] = field(default_factory=dict)
    by: dict[str, tuple[list[Entry], list[list[float]]]] = field(default_factory=dict)
    """Each author's findings, and since when they are there on either side."""
    authors: dict[str, int] = field(default_factory=dict)
    genomes: dict[str, int] = field(default_factory=dict)
    place: dict[str, int] = field(default_factory=dict)
    columns: Any = field(default_factory=lambda: np.zeros((1024, 7)))
    """Of each finding: claim, value, author, parent, place of the change, choice there before, whether it is a lie."""
    seen: Any = field(default_factory=lambda: np.zeros((1024, 2)))
    """Since when each finding is there on either side."""
    first: Any = field(default_factory=lambda: np.zeros((1024, 2)))
    """Since when each author is there on either side."""
    fits: dict[str, Fit] = field(default_factory=dict)

    def patch(self, entry: Entry) -> str:
        return self.patches[entry.id]

    def chains(self, side: int, synced: float) -> dict[str, Chain]:
        """Each author's findings, as far as they are seen by who last synced then."""
        names = list(self.authors)
        return {
            names[n]: Chain(self.by[names[n]], side, synced)
            for n in np.flatnonzero(self.first[: len(names), side] <= synced)
        }

    def add(self, entry: Entry, patch: str | None, commit: str, seen: tuple[float, float], lie: bool) -> None:
        """``seen``: since when it is there for who is on either side of the network."""
        record = entry.signed.record
        self.entries[entry.id] = entry
        if isinstance(record, Finding):
            assert patch is not None
            n, author = len(self.findings), self.authors.setdefault(record.author, len(self.authors))
            self.columns, self.seen, self.first = roomy(self.columns, n), roomy(self.seen, n), roomy(self.first, author)
            own, since = self.by.setdefault(record.author, ([], [[], []]))
            if not own:
                self.first[author] = seen
            own.append(entry)
            for side in (0, 1):  # a chain comes in its order
                since[side].append(max(seen[side], since[side][-1] if since[side] else 0.0))
            value = math.fsum(run.value for run in record.runs) / len(record.runs)
            parent = self.genomes.setdefault(record.parent, len(self.genomes))
            self.seen[n] = since[0][-1], since[1][-1]
            self.columns[n] = (record.claimed, value, author, parent, *change_of(patch)[:2], lie)
            self.findings.append(entry)
            self.patches[entry.id], self.commits[entry.id], self.place[entry.id] = patch, commit, n
        elif isinstance(record, Verification):
            if target := self.entries.get(record.target):
                at = peers.seconds(record.at)
                said = Judgement(record.target, target.author, record.verdict, at, by=record.author)
                self.verdicts.setdefault(target.author, []).append((said, seen))
        elif isinstance(record, Threat):
            self.warnings.append((Warning(record.target, record.author, peers.seconds(record.at)), seen))
        else:
            self.retractions.append(entry)


class Chain(Sequence[Entry]):
    """The findings of one author that are seen by who last synced then."""

    def __init__(self, whole: tuple[list[Entry], list[list[float]]], side: int, synced: float) -> None:
        self.whole, self.side, self.synced = whole, side, synced

    def __len__(self) -> int:
        return bisect.bisect_right(self.whole[1][self.side], self.synced)

    def __getitem__(self, n: Any) -> Any:
        return self.whole[0][: len(self)][n]

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.whole[0][: len(self)])


def roomy(rows: Any, n: int) -> Any:
    """An array with room for row ``n``."""
    return rows if n < len(rows) else np.vstack([rows, np.zeros_like(rows)])


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
    """What one lab knows of its peers: the product's, over a shelf that all share.

    A lab sees of it what was there when it last synced. Of the findings that the product would look at, those that
    can't come first are left out before it works out their priorities: that is all that is done otherwise.
    """

    def __init__(self, session: Lab, commons: None) -> None:
        self.session, self.shelf, self.commons = session, session.shelf, session.shelf
        self.task, self.platform, self.entries = TASK, PLATFORM, Book(self.shelf)
        self.trust, self.threats, self.doubts, self.measured = {}, set(), {}, []
        self._fits = self.shelf.fits
        self.short: list[tuple[Entry, Finding]] = []

    def learn(self, *measured: dict[str, Any]) -> None:
        self.measured += measured
        self._chains = self.shelf.chains(self.session.side, self.session.synced)
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
        Known.asking = self
        there = super()._findings()
        bound, had = self._bounds(there, sigma, champion, used), set(self.session.proposer._tried[-queue.ROUND :])
        order, many = np.argsort(-bound, kind="stable"), SHORT
        possible = int((bound > 0).sum())
        while True:
            proven = [n for n in order[min(many, possible) : possible] if self.proven(there[n][0].author)]
            self.short = [there[n] for n in [*order[: min(many, possible)], *proven]]
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
        """What the priority of each finding is at most; 0 for those that are used up, or fit on nothing that is here."""
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
        lab = self.session
        said = [warning for warning, seen in self.shelf.warnings if seen[lab.side] <= lab.synced]
        return said + [Warning(n["target"], "", n["at"], own=True) for n in self.measured if n["reason"] == "tampered"]


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
        self.proposer = transplant.Transplant(self, {}, set(), lambda: Noise(sigma, 100.0))
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
        noise, champion = Noise(self.sigma, 100.0), self.head
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
            self.head = experiment
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


transplant.open_commons = lambda: None
transplant.Peers = Known
peers.time = transplant.time = CLOCK
