"""The world below the simulated swarm: a landscape, the commons that all copies hold, and git and ledger in memory."""

from __future__ import annotations

import bisect
import functools
import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nightlab.commons.capability import Compatibility, TrialResources
from nightlab.commons.entry import Entry
from nightlab.commons.instants import format_instant
from nightlab.commons.record import Finding, PlatformRecord, Task, task_id
from nightlab.commons.trust import PeerVerdict
from nightlab.core.events import ContractChanged, FindingVerified
from nightlab.core.types import Budget, Candidate, Experiment, Measurement, Metric, Trial
from nightlab.storage.git import PatchConflict

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

FACTS = {
    "frozen_sha256": "0" * 64,
    "data_sha256": None,
    "budget": {"clock": "work", "amount": 1.0},
    "metric": {"name": "loss", "goal": "minimise", "unit": ""},
}
TASK = Task.model_validate({"id": task_id(FACTS), **FACTS})
PLATFORM = PlatformRecord(
    device="cpu", accelerator="", processor="simulated", cores=1, system="Linux", python="Python 3"
)
REQUIRES = {"devices": ["cpu"], "memory_mb": 100.0, "gpu_memory_mb": 0.0, "dtypes": [], "libraries": {}}
HAVE = TrialResources("cpu", 1000.0, None, {})

HUNK = re.compile(r"-SITE_(\d+) = (\d+)\n\+SITE_\d+ = (\d+)\n")
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


def patch_text(*changes: tuple[int, int, int]) -> str:
    """A patch of places, each with the choice there before and after."""
    hunks = (f"@@ -{at + 1} +{at + 1} @@\n-SITE_{at} = {was}\n+SITE_{at} = {now}\n" for at, was, now in changes)
    return "--- a/genome.py\n+++ b/genome.py\n" + "".join(hunks)


@functools.lru_cache(100_000)
def changes_of(patch: str) -> tuple[tuple[int, int, int], ...]:
    """The places of a patch, and the choices there before and after."""
    return tuple((int(at), int(was), int(now)) for at, was, now in HUNK.findall(patch))


class Clock:
    """What the product takes for the time of day: set to the simulation's."""

    def __init__(self) -> None:
        self.now = 0.0

    def time(self) -> float:
        return 1.7e9 + ROUND * self.now


CLOCK = Clock()


Seen = tuple[float, float]  # since when something is there for who is on either side of the network


@dataclass(slots=True)
class Shelf:
    """Everything that the swarm's copies of the commons accepted; who sees what of it is a matter of time."""

    entries: dict[str, Entry] = field(default_factory=dict)
    chains: dict[tuple[str, str], tuple[list[Entry], tuple[list[float], list[float]]]] = field(default_factory=dict)
    """Each author's records of a kind, and since when they are there on either side."""
    authors: list[str] = field(default_factory=list)
    """Those who published findings, in order."""
    since: list[float] = field(default_factory=list)
    """When each of these came."""
    makers: dict[str, list[Entry]] = field(default_factory=dict)
    patches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, str] = field(default_factory=dict)
    lies: set[str] = field(default_factory=set)
    findings: list[str] = field(default_factory=list)
    columns: Any = field(default_factory=lambda: np.zeros((1024, 3)))
    """Of each finding: the value that it claims, and since when it is there on either side."""
    fits: dict[str, Compatibility] = field(default_factory=dict)
    claims: dict[str, float] = field(default_factory=dict)
    verdicts: dict[str, PeerVerdict | None] = field(default_factory=dict)

    def patch(self, entry: Entry) -> str:
        return self.patches[entry.id]

    def add(self, entry: Entry, patch: str | None, commit: str, seen: Seen, lie: bool) -> None:
        record = entry.signed.record
        self.entries[entry.id] = entry
        own, since = self.chains.setdefault((record.author, record.kind), ([], ([], [])))
        if isinstance(record, Finding):
            assert patch is not None
            if not own:
                self.authors.append(record.author)
                self.since.append(CLOCK.now)
            self.makers.setdefault(record.genome, []).append(entry)
            self.columns = roomy(self.columns, len(self.findings))
            self.columns[len(self.findings)] = math.fsum(run.value for run in record.runs) / len(record.runs), *seen
            self.findings.append(entry.id)
            self.patches[entry.id], self.commits[entry.id] = patch, commit
            if lie:
                self.lies.add(entry.id)
        own.append(entry)
        for side in (0, 1):  # a chain comes in its order
            since[side].append(max(seen[side], since[side][-1] if since[side] else 0.0))

    def published(self, author: str, kind: str, side: int, synced: float) -> list[Entry]:
        """An author's records of a kind that are seen by who last synced then."""
        own, since = self.chains.get((author, kind), ((), ((), ())))
        return list(own[: bisect.bisect_right(since[side], synced)])


def roomy(rows: Any, n: int) -> Any:
    """An array with room for row ``n``."""
    return rows if n < len(rows) else np.vstack([rows, np.zeros_like(rows)])


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

    def patch(self, old: str, new: str) -> str:
        pairs = enumerate(zip(self.genomes[old], self.genomes[new], strict=True))
        return patch_text(*((site, was, now) for site, (was, now) in pairs if was != now))

    def commit_patch(self, on: str, patch: str, message: str, reverse: bool = False) -> str:
        changes = changes_of(patch)
        if reverse:
            changes = tuple((site, after, before) for site, before, after in changes)
        for site, before, after in changes:
            if self.genomes[on][site] not in (before, after):
                raise PatchConflict(f"SITE_{site} is another here")
        for site, _, after in changes:
            on = self.change(on, site, after)
        return on

    def release_pending(self, *commits: str) -> None:
        """Commits of the swarm stay: another lab may have made the same."""

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
        self.said: list[FindingVerified] = []
        self.head: Experiment | None = None

    def champion(self) -> Experiment | None:
        return self.head

    def events(self, kind: type[FindingVerified]) -> list[FindingVerified]:
        return self.said

    def latest(self, kind: type[ContractChanged]) -> None:
        """The contract of a simulated lab stays."""

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

    def append(self, event: FindingVerified) -> None:
        self.said.append(replace(event, at=CLOCK.time()))


def finding_body(
    ends: Sequence[str],
    patch: str,
    runs: Sequence[Mapping[str, Any]],
    against: Sequence[Mapping[str, Any]],
    said: Candidate,
    origins: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The body of a finding, as ``nightlab share`` makes it."""
    raw = patch.encode()
    git = hashlib.sha1(b"blob %d\0" % len(raw) + raw).hexdigest()
    return {
        "kind": "finding", "at": format_instant(CLOCK.time()), "task": TASK.model_dump(), "portable": [],
        "platform": PLATFORM.model_dump(), "parent": ends[0], "genome": ends[1],
        "patch": {"git": git, "sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)},
        "hypothesis": said.hypothesis, "changes": list(said.changes), "status": "keep", "reason": "improved",
        "runs": list(runs), "against": list(against), "requires": REQUIRES, "inspired_by": [], **(origins or {}),
    }  # fmt: skip
