"""Who is where and when in the simulated swarm, what comes to whom, and what liars publish."""

from __future__ import annotations

import hashlib
import heapq
import math
import random
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from swarm_peer import Lab
from swarm_world import (
    CHOICES,
    CLOCK,
    CORNER,
    HARMFUL,
    IDLE,
    PLATFORM,
    START,
    TASK,
    Landscape,
    Repo,
    Shelf,
    finding_body,
    patch_text,
)

from nightlab.commons.checked_copy import check_link
from nightlab.commons.entry import Entry
from nightlab.commons.instants import format_instant
from nightlab.commons.record import RECORD, Rejected, Signed, author_of, encode_record, sign
from nightlab.core.types import Candidate
from nightlab.storage.git.record_chains import Link

Kind = Literal["gross", "careful", "sybil", "spread", "flood", "collude", "forge", "sleeper"]
LATE, CHURN, AWAY = 0.1, 0.02, 10.0  # who joins late; goes offline after a turn; for how many rounds
SPLIT = (0.3, 0.5)  # of the time: the network is in two halves
LATENCY = 0.2  # rounds from a push to its being there for others
MANY, SAMPLED = 500, 20  # peers from which on one record in so many is signed, encoded and checked
FLOOD = 20  # records of a flooder in a round
WAKES = 0.5  # of the time after which sleepers lie
CAREFUL = 4.5  # sigmas of a claim that is too small to be refuted
NAMES = 5  # new names of a Sybil in a round


@dataclass(frozen=True, slots=True)
class Cell:
    """A swarm: so many peers, of whom a share attack in one way or in several, for so many rounds."""

    peers: int
    sigma: float = 0.0035
    rounds: int = 60
    attackers: float = 0.0
    kinds: tuple[Kind, ...] = ()
    policy: str = "commons"
    known: str = ""
    """Whom the honest ones have named: each other (honest), so many others of them each (a number), or all who were
    there at first, the attackers too (all)."""


@dataclass(slots=True)
class Result:
    """What became of the honest ones. Values are true ones; lower is better."""

    mean: float = 0.0
    best: float = 0.0
    worst: float = 0.0
    reached: float | None = None
    """Rounds from its first keep until 90 % of those who were there had the planted gain; None: never."""
    share: float = 0.0
    on_liars: float = 0.0
    on_others: float = 0.0
    flattered: float = 0.0
    records: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


class Author:
    """A key and the chain of its records."""

    def __init__(self, seed: str) -> None:
        self.key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(seed.encode()).digest())
        self.name, self.last = author_of(self.key), None


class Network:
    """Who is there when, and what has come to whom."""

    def __init__(self, cell: Cell, seed: int) -> None:
        self.cell, self.draw = cell, random.Random(f"{seed} network")
        self.shelf, self.repo, self.result = Shelf(), Repo(Landscape(seed)), Result()
        liars = math.ceil(cell.attackers * cell.peers)
        self.authors = [Author(f"{seed} {n}") for n in range(cell.peers)]
        honest = cell.peers - liars
        self.honest = {author.name for author in self.authors[:honest]}
        self.labs = [
            Lab(self.authors[n].name, self.shelf, self.repo, cell.policy, cell.sigma, f"{seed} lab {n}", named)
            for n, named in enumerate(self._named(seed))
        ]
        self.labs[0].finder = True
        self.liars = [Liar(self, cell.kinds[n % len(cell.kinds)], self.authors[honest + n]) for n in range(liars)]
        self.sleepers = {liar.author.name for liar in self.liars if liar.kind == "sleeper"}
        self.every = [math.exp(self.draw.gauss(0, 0.7)) for _ in self.labs]  # rounds between two syncs
        self.next = [0.0] * honest
        self.joined = [0.0] * honest
        for n, lab in enumerate(self.labs):
            lab.side = n % 2
            if n and self.draw.random() < LATE:
                self.joined[n] = self.draw.uniform(0.25, 0.5) * cell.rounds
        self.had: dict[int, float] = {}

    def _named(self, seed: int) -> Iterator[Sequence[str]]:
        """Whom each of the honest labs has named."""
        known, honest, draw = self.cell.known, sorted(self.honest), random.Random(f"{seed} names")
        everybody = [author.name for author in self.authors]
        for author in self.authors[: len(honest)]:
            if known.isdecimal():
                others = [name for name in honest if name != author.name]
                yield draw.sample(others, min(int(known), len(others)))
            else:
                yield {"": [], "honest": honest, "all": everybody}[known]

    def play(self) -> Result:
        begun = time.process_time()
        events = [(self.joined[n] + self.draw.random(), n) for n in range(len(self.labs))]
        if self.cell.policy != "isolation":
            events += [(self.draw.random(), len(self.labs) + n) for n in range(len(self.liars))]
        heapq.heapify(events)
        while events and events[0][0] < self.cell.rounds:
            CLOCK.now, who = heapq.heappop(events)
            after = self._turn(who) if who < len(self.labs) else self.liars[who - len(self.labs)].turn()
            heapq.heappush(events, (CLOCK.now + after, who))
        self._sum_up()
        self.result.seconds = time.process_time() - begun
        return self.result

    def _turn(self, who: int) -> float:
        """A peer syncs if it is time to, and makes one experiment. Returns how long that took, in rounds."""
        lab = self.labs[who]
        before = lab.trials
        lab.turn()
        if lab.has_planted:
            self.had.setdefault(who, CLOCK.now)
        if self.next[who] <= CLOCK.now:
            self.push(self.authors[who], lab.outbox, lab.side)
            lab.outbox.clear()
            lab.synced, self.next[who] = CLOCK.now, CLOCK.now + self.every[who]
        away = self.draw.expovariate(1 / AWAY) if self.draw.random() < CHURN else 0.0
        return max(lab.trials - before, 1) * self.draw.uniform(0.8, 1.2) + away

    def push(self, author: Author, bodies: Sequence[tuple[dict[str, Any], str | None, str]], side: int) -> None:
        """An author's records come to the commons. They are checked once, for all who take them in get the same."""
        asleep = CLOCK.now < WAKES * self.cell.rounds and author.name in self.sleepers
        liar = author.name not in self.honest and not asleep
        for body, patch, commit in bodies:
            entry = self._checked(author, body, patch)
            author.last = entry
            there = CLOCK.now + self.draw.expovariate(1 / LATENCY)
            start_session, end = (part * self.cell.rounds for part in SPLIT)
            across = end if start_session <= there < end else there
            self.shelf.add(entry, patch, commit, (across, there) if side else (there, across), liar)

    def _checked(self, author: Author, body: dict[str, Any], patch: str | None) -> Entry:
        last = author.last
        seq, prev, before = (last.signed.record.seq + 1, last.id, last.commit) if last else (0, None, None)
        facts = {"v": 1, "author": author.name, "seq": seq, "prev": prev, **body}
        self.result.records += 1
        if len(self.authors) >= MANY and self.result.records % SAMPLED:
            name = hashlib.sha256(f"{author.name} {seq}".encode()).hexdigest()
            record = RECORD.validate_python(facts)
            return Entry(Signed.model_construct(id=name, record=record, signature=""), name)
        signed = sign(RECORD.validate_python(facts), author.key)
        files = {"record.json": encode_record(signed)} | ({"patch": patch.encode()} if patch else {})
        checked = check_link(author.name, Link(signed.id, before, signed.id, files), last)
        return Entry(checked.signed, checked.commit)  # parsed, for all labs read it

    def forge(self, author: Author, body: dict[str, Any], patch: str) -> None:
        """Records that are not as they must be come to the commons: each must be refused."""
        somebody = self.authors[0].name
        facts = {"v": 1, "author": author.name, "seq": 0, "prev": None, **body}
        whole = sign(RECORD.validate_python(facts), author.key)
        stolen = sign(RECORD.validate_python({**facts, "author": somebody}), author.key)
        late = sign(RECORD.validate_python({**facts, "seq": 7, "prev": "0" * 64}), author.key)
        raw, at = encode_record(whole), self.draw.randrange(len(encode_record(whole)))
        cases = {
            "a byte": (author.name, raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :], patch),
            "another's name": (somebody, encode_record(stolen), patch),
            "out of order": (author.name, encode_record(late), patch),
            "another patch": (author.name, raw, patch + " "),
        }
        for how, (name, record, text) in cases.items():
            try:
                check_link(name, Link(whole.id, None, whole.id, {"record.json": record, "patch": text.encode()}), None)
            except Rejected as error:
                self.result.rejected[error.category] += 1
            else:
                raise AssertionError(f"a forged record was accepted: {how}")

    def _sum_up(self) -> None:
        result, labs = self.result, self.labs
        true = [lab.true for lab in labs]
        result.mean, result.best, result.worst = statistics.fmean(true), min(true), max(true)
        result.on_liars = statistics.fmean(lab.on_liars for lab in labs)
        result.on_others = statistics.fmean(lab.on_others for lab in labs)
        result.flattered = statistics.fmean(lab.true - (lab.champion().bar or 0.0) for lab in labs)
        result.share = statistics.fmean(lab.has_planted for lab in labs)
        for count, at in enumerate(sorted(self.had.values()), 1):
            if count >= 0.9 * sum(joined <= at for joined in self.joined):
                result.reached = at - min(self.had.values())
                break


class Liar:
    """An author who publishes what is not so, in one of several ways, and runs no trials."""

    def __init__(self, network: Network, kind: Kind, author: Author) -> None:
        self.network, self.kind, self.author, self.names = network, kind, author, 0

    def turn(self) -> float:
        """Publish what a round brings. Returns how long until the next, in rounds."""
        side, draw = self.names % 2, self.network.draw
        if self.kind in ("sybil", "spread"):
            for _ in range(NAMES):
                self.names += 1
                new = Author(f"{self.author.name} {self.names}")
                self.network.push(
                    new, [self.finding(draw.uniform(0, 6) if self.kind == "spread" else CAREFUL)], self.names % 2
                )
        elif self.kind == "flood":
            self.network.push(self.author, [self.finding() for _ in range(FLOOD)], side)
        elif self.kind == "forge":
            self.network.forge(self.author, *self.finding()[:2])
        elif self.kind == "sleeper" and CLOCK.now < WAKES * self.network.cell.rounds:
            self.network.push(self.author, self.copied(), side)
        else:
            said = [self.finding(CAREFUL if self.kind == "careful" else 0)]
            self.network.push(self.author, said + (self.votes() if self.kind in ("collude", "sleeper") else []), side)
        return draw.uniform(0.5, 1.5)

    def finding(self, sigmas: float = 0) -> tuple[dict[str, Any], str, str]:
        """A claim, on a genome that nobody has: of so many ``sigmas``, of nothing; or as large as can be, of harm."""
        network, draw = self.network, self.network.draw
        site, after = (IDLE if sigmas else HARMFUL) + draw.randrange(CORNER), draw.randrange(1, CHOICES)
        gain, value = (sigmas * network.cell.sigma, 0.3) if sigmas else (59.0, -58.0)
        words = f"{draw.getrandbits(64):x} {draw.getrandbits(64):x} r{draw.getrandbits(32):x}"
        said = Candidate("", "", "", "", words, changes=(words,))
        runs, against = ([{"seed": draw.getrandbits(40), "value": at}] for at in (value, value + gain))
        patch, ends = patch_text((site, 0, after)), [f"{draw.getrandbits(256):064x}" for _ in range(2)]
        commit = network.repo.change(network.repo.commit(network.repo.base, START), site, after)
        return finding_body(ends, patch, runs, against, said), patch, commit

    def copied(self) -> list[tuple[dict[str, Any], str, str]]:
        """An honest lab's finding in this author's name: what holds there holds here."""
        shelf = self.network.shelf
        theirs = [name for name in shelf.findings[-50:] if name not in shelf.lies]
        if not theirs:
            return []
        name = self.network.draw.choice(theirs)
        record = shelf.entries[name].signed.record.model_dump(mode="json", exclude_unset=True)
        body = {part: value for part, value in record.items() if part not in ("v", "author", "seq", "prev")}
        return [({**body, "at": format_instant(CLOCK.time())}, shelf.patches[name], shelf.commits[name])]

    def votes(self) -> list[tuple[dict[str, Any], None, str]]:
        """Praise for what the others of the ring published, blame and warnings for what honest ones found."""
        network, shelf, draw = self.network, self.network.shelf, self.network.draw
        found = shelf.findings
        bodies = list[tuple[dict[str, Any], None, str]]()
        for entry in (shelf.entries[name] for name in draw.sample(found, min(4, len(found)))):
            ours = entry.author not in self.network.honest
            if entry.author == self.author.name:
                continue
            stated = {"at": format_instant(CLOCK.time()), "target": entry.id}
            said: dict[str, Any] = {
                "task": TASK.id,
                "platform": PLATFORM.model_dump(),
                "parent": "0" * 64,
                "detail": "",
            }
            verdict = "confirmed" if ours else "refuted"
            runs, against = ([{"seed": 1, "value": value}] for value in ((0.0, 1.0) if ours else (1.0, 0.0)))
            numbers = {"adopted": ours, "runs": runs, "against": against, "sigma": network.cell.sigma}
            bodies.append(({"kind": "verification", **stated, **said, "verdict": verdict, **numbers}, None, ""))
            if not ours:
                threat = {"category": "tampering", "evidence_sha256": None, "detail": ""}
                bodies.append(({"kind": "threat", **stated, **threat}, None, ""))
        return bodies
