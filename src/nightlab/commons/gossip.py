"""Live gossip: peers tell each other how far they have each author's chain, and whoever has less asks for the rest.

What travels is the chains themselves, as git bundles, and a bundle is taken in as any remote is: each record is
checked, and what is refused is counted. A message that is lost is made up for by the next announcement, and who joins
late hears one within seconds. Nobody is believed for being connected: links are neither encrypted nor authenticated,
and records are public and signed.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from nightlab.commons.exchange import Commons, ReceivedRecord
from nightlab.core.types import NightlabError
from nightlab.storage.git import Unreachable
from nightlab.storage.git.record_chains import AUTHOR, MOST

EVERY = 5.0  # seconds after which what one has is announced again, changed or not
WAITING = 200  # messages that wait to be looked at: the oldest go
LARGEST_WORDS = 2 * 2**20  # bytes of an announcement, or of what is asked for
LARGEST = 64 * 2**20  # bytes of a bundle: who has more to catch up on comes by nightlab sync
PATIENCE = 30.0  # seconds that an answer may take
REFUSALS = 10_000  # heads that are remembered as refused
COMMIT = re.compile(r"[0-9a-f]{40}")

Heads = Mapping[str, str]  # the last commit of each author's chain
Wants = Mapping[str, str | None]  # the last commit that is had of each author's chain


@dataclass(frozen=True, slots=True)
class PeerDigest:
    """A peer said what it has."""

    peer: str
    heads: Heads


@dataclass(frozen=True, slots=True)
class DigestRequest:
    """A peer wants what follows on what it has."""

    wants: Wants
    answer: Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class BundleReceived:
    """A bundle came."""

    bundle: bytes


class Transport(Protocol):
    """How messages travel. None of these waits, and any message may be lost."""

    def announce(self, heads: Heads) -> None: ...

    def ask(self, peer: str, wants: Wants) -> None: ...

    def messages(self) -> Iterator[PeerDigest | DigestRequest | BundleReceived]:
        """What has come since the last look."""
        ...


class Gossip:
    """Keeps one copy of the commons like those of its peers."""

    def __init__(self, commons: Commons, transport: Transport) -> None:
        self.commons, self.chains, self.transport = commons, commons.chains, transport
        self._announced: Heads | None = None
        self._at = 0.0
        self._refused: dict[tuple[str, str], None] = {}
        self._asked: dict[str, float] = {}

    def turn(self) -> ReceivedRecord:
        """Say what is here, look at what came, ask for what is missing. Returns what was taken in."""
        all_taken = ReceivedRecord()
        told: dict[str, Heads] = {}
        for message in self.transport.messages():
            if isinstance(message, BundleReceived):
                self._take(message.bundle, all_taken)
            elif isinstance(message, DigestRequest):
                message.answer(self._bundle(message.wants))
            else:
                told[message.peer] = message.heads  # an older word of the same peer says no more
        here = {author: chain[-1].commit for author, chain in self.commons.entries().items()}
        for peer, heads in told.items():
            self._ask(peer, heads, here)
        if here != self._announced or time.monotonic() - self._at > EVERY:
            self.transport.announce(here)
            self._announced, self._at = here, time.monotonic()
        return all_taken

    def _ask(self, peer: str, heads: Heads, here: Heads) -> None:
        """Ask a peer for what it has and we lack, unless somebody has been asked for the same just now."""
        now = time.monotonic()
        wants = {
            author: here.get(author)
            for author, head in heads.items()
            if here.get(author) != head
            and (author, head) not in self._refused
            and now - self._asked.get(head, -PATIENCE) >= PATIENCE
            and not self.commons.has(author, head)
        }
        if wants:
            self._asked = {head: at for head, at in self._asked.items() if now - at < PATIENCE}
            self._asked.update(dict.fromkeys((heads[author] for author in wants), now))
            self.transport.ask(peer, wants)

    def _take(self, bundle: bytes, all_taken: ReceivedRecord) -> None:
        if not bundle or len(bundle) > LARGEST:
            return
        path = self.commons.folder / f"gossip.{os.getpid()}.bundle"
        try:
            path.write_bytes(bundle)
            there = self.chains.heads_at(str(path))
            taken = self.commons.take(str(path))
        except Unreachable:
            return  # no bundle, or one that follows on what is not here
        finally:
            path.unlink(missing_ok=True)
        all_taken.add(taken)
        here = self.chains.heads()
        for author, head in there.items():
            self._asked.pop(head, None)
            if here.get(author) != head and not taken.waiting:
                self._refused[author, head] = None
        for old in list(self._refused)[: max(len(self._refused) - REFUSALS, 0)]:
            del self._refused[old]

    def _bundle(self, wants: Wants) -> bytes:
        """What follows on what a peer has; nothing where that is all there is."""
        here = self.commons.entries().keys() & wants.keys()
        news = {author: wants[author] for author in here}
        news = {author: had for author, had in news.items() if had is None or self.commons.has(author, had)}
        if not news:
            return b""
        path = self.commons.folder / f"answer.{os.getpid()}.bundle"
        try:
            self.chains.pack(path, news)
            return path.read_bytes() if path.stat().st_size <= LARGEST else b""
        except NightlabError:
            return b""  # a chain moved meanwhile: it is asked for again
        finally:
            path.unlink(missing_ok=True)


class Zenoh:
    """Gossip over Eclipse Zenoh, peer to peer: no broker, no multicast, only the endpoints that are named.

    ``listen`` and ``connect``: such as ``tcp/192.168.1.7:7447``. One peer that is known is enough to find the others.
    Raises NightlabError when it is not installed, or an endpoint can't be used.
    """

    def __init__(self, listen: Sequence[str], connect: Sequence[str]) -> None:
        try:
            self.zenoh: Any = importlib.import_module("zenoh")
        except ImportError:
            raise NightlabError("live gossip needs zenoh", "pip install 'nightlab[commons]'") from None
        config = self.zenoh.Config()
        settings = {
            "mode": "peer",
            "scouting/multicast/enabled": False,
            "listen/endpoints": list(listen),
            "connect/endpoints": list(connect),
            "transport/link/rx/max_message_size": LARGEST,
        }
        try:
            for key, value in settings.items():
                config.insert_json5(key, json.dumps(value))
            self.session: Any = self.zenoh.open(config)
        except self.zenoh.ZError as error:
            where = ", ".join([*listen, *connect])
            raise NightlabError(
                f"no gossip at {where}: {str(error)[:300]}", "name endpoints such as tcp/127.0.0.1:7447"
            ) from None
        self.name = str(self.session.zid())
        # Callbacks run on the engine's own threads: they only put things here.
        self._inbox: deque[PeerDigest | DigestRequest | BundleReceived] = deque(maxlen=WAITING)
        # Kept, or they end.
        self._told = self.session.declare_subscriber("nightlab/commons/heads/*", self._on_told)
        self._answers = self.session.declare_queryable(f"nightlab/commons/chains/{self.name}", self._on_asked)

    def announce(self, heads: Heads) -> None:
        self.session.put(f"nightlab/commons/heads/{self.name}", json.dumps(dict(heads)))

    def ask(self, peer: str, wants: Wants) -> None:
        self.session.get(
            f"nightlab/commons/chains/{peer}", self._on_came, payload=json.dumps(dict(wants)), timeout=PATIENCE
        )

    def messages(self) -> Iterator[PeerDigest | DigestRequest | BundleReceived]:
        for _ in range(len(self._inbox)):
            yield self._inbox.popleft()

    def close(self) -> None:
        self.session.close()

    def _on_told(self, sample: Any) -> None:
        peer = str(sample.key_expr).rsplit("/", 1)[-1]
        if peer != self.name and re.fullmatch(r"[0-9a-f]{1,32}", peer):
            heads = {author: commit for author, commit in _words(sample.payload).items() if commit}
            self._inbox.append(PeerDigest(peer, heads))

    def _on_asked(self, query: Any) -> None:
        wants = _words(query.payload)

        def answer(bundle: bytes) -> None:
            with query:
                query.reply(query.key_expr, bundle)

        self._inbox.append(DigestRequest(wants, answer))

    def _on_came(self, reply: Any) -> None:
        if reply.ok is not None:
            self._inbox.append(BundleReceived(reply.ok.payload.to_bytes()))


def _words(payload: Any) -> dict[str, str | None]:
    """What a stranger says of chains; nothing where it is anything else."""
    raw = payload.to_bytes() if payload is not None else b""
    if len(raw) > LARGEST_WORDS:
        return {}
    try:
        said = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(said, dict) or len(said) > MOST:
        return {}
    return {
        author: commit
        for author, commit in said.items()
        if AUTHOR.fullmatch(author) and (commit is None or (isinstance(commit, str) and COMMIT.fullmatch(commit)))
    }
