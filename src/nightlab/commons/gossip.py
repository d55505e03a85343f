"""Live gossip: peers announce how much of each author's chain they have, and fetch from each other what is missing.

Chains are sent as git bundles, and a bundle is read like any remote: each record is verified, and rejections are
counted. The next announcement makes up for a lost message; a new peer hears one within seconds. Connections are neither
encrypted nor authenticated, and imply no trust: records are public and signed.
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

from nightlab.commons.exchange import Commons, Received
from nightlab.core.types import NightlabError
from nightlab.storage.git import Unreachable
from nightlab.storage.git.record_chains import AUTHOR, MOST

EVERY = 5.0  # seconds between announcements without a change
WAITING = 200  # messages in the inbox; the oldest are dropped
LARGEST_MESSAGE = 2 * 2**20  # bytes of an announcement or a request
LARGEST = 64 * 2**20  # bytes of a bundle that is read
# Bytes of records in a bundle that is sent; the peer asks for the rest. Zenoh drops a reply without a word when it is
# larger than what a peer takes.
ANSWER = 4 * 2**20
LEAST = 64 * 2**10  # bytes to which that is halved, again and again, for a peer whose answers don't arrive
ANNOUNCED = 200  # chains per announcement: what is new first, then the others in turn
PATIENCE = 30.0  # seconds to wait for an answer
REFUSALS = 10_000  # rejected heads that are remembered
COMMIT = re.compile(r"[0-9a-f]{40}")

Heads = Mapping[str, str]  # the last commit of each author's chain
Wants = Mapping[str, str | None]  # the last known commit of each author's chain; None: all of it is missing


@dataclass(frozen=True, slots=True)
class PeerDigest:
    """A peer's announcement of what it has."""

    peer: str
    heads: Heads


@dataclass(frozen=True, slots=True)
class DigestRequest:
    """A peer's request for what follows the commits it has."""

    wants: Wants
    answer: Callable[[bytes], None]
    most: int = ANSWER
    """Bytes of records that the peer asks for at most."""


@dataclass(frozen=True, slots=True)
class BundleReceived:
    """A bundle from a peer."""

    bundle: bytes


class Transport(Protocol):
    """How messages are sent. No method blocks, and any message may be lost."""

    def announce(self, heads: Heads) -> None: ...

    def ask(self, peer: str, wants: Wants, most: int) -> None: ...

    def messages(self) -> Iterator[PeerDigest | DigestRequest | BundleReceived]:
        """The messages since the last call."""
        ...


class Gossip:
    """Keeps the user's copy of the commons in step with those of its peers. ``silent``: peers that did not answer."""

    def __init__(self, commons: Commons, transport: Transport) -> None:
        self.commons, self.chains, self.transport = commons, commons.chains, transport
        self.silent: set[str] = set()
        self._announced: dict[str, str] = {}
        self._at = 0.0
        self._next = 0
        self._most: dict[str, int] = {}
        self._refused: dict[tuple[str, str], None] = {}
        self._requested: dict[str, tuple[str, float]] = {}

    def step(self) -> Received:
        """Process the inbox, request what is missing, announce what is here. Returns what was received."""
        all_taken = Received()
        announced: dict[str, dict[str, str]] = {}
        for message in self.transport.messages():
            if isinstance(message, BundleReceived):
                self._receive(message.bundle, all_taken)
            elif isinstance(message, DigestRequest):
                message.answer(self._bundle(message.wants, message.most))
            else:
                announced.setdefault(message.peer, {}).update(message.heads)
        here = {author: chain[-1].commit for author, chain in self.commons.entries().items()}
        for peer, heads in announced.items():
            self._ask(peer, heads, here)
        self._announce(here)
        return all_taken

    def _announce(self, here: Heads) -> None:
        """Say what is new at once, and now and then what else is here: as much per message however many authors."""
        new = [author for author, head in here.items() if self._announced.get(author) != head]
        if not new and time.monotonic() - self._at <= EVERY:
            return
        others, room = list(here), max(ANNOUNCED - len(new), 0)
        turn = [others[(self._next + n) % len(others)] for n in range(min(room, len(others)))]
        self._next += len(turn)
        said = {author: here[author] for author in (*new[:ANNOUNCED], *turn)}
        self.transport.announce(said)
        self._announced.update(said)
        self._at = time.monotonic()

    def _ask(self, peer: str, heads: Heads, here: Heads) -> None:
        """Request what a peer has and this copy lacks, unless the same was requested recently."""
        now = time.monotonic()
        wants = {
            author: here.get(author)
            for author, head in heads.items()
            if here.get(author) != head
            and (author, head) not in self._refused
            and not self._is_requested(author, head, now)
            and not self.commons.has(author, head)
        }
        if wants:
            if any(self._requested.get(author, ("", 0.0))[0] == heads[author] for author in wants):
                self.silent.add(peer)
                self._most[peer] = max(self._most.get(peer, ANSWER) // 2, LEAST)
            self._requested = {name: each for name, each in self._requested.items() if now - each[1] < PATIENCE}
            self._requested.update((author, (heads[author], now)) for author in wants)
            self.transport.ask(peer, wants, self._most.get(peer, ANSWER))

    def _is_requested(self, author: str, head: str, now: float) -> bool:
        known = self._requested.get(author)
        return known is not None and known[0] == head and now - known[1] < PATIENCE

    def _receive(self, bundle: bytes, all_taken: Received) -> None:
        if not bundle or len(bundle) > LARGEST:
            return
        path = self.commons.folder / f"gossip.{os.getpid()}.bundle"
        try:
            path.write_bytes(bundle)
            there = self.chains.remote_heads(str(path))
            taken = self.commons.pull(str(path))
        except Unreachable:
            return  # not a bundle, or one that continues commits missing here
        finally:
            path.unlink(missing_ok=True)
        all_taken.add(taken)
        here = self.chains.heads()
        if taken.records:
            self._requested.clear()  # an answer may be a part: the rest is asked for at the next announcement
        for author, head in there.items():
            self._requested.pop(author, None)
            if here.get(author) != head and not taken.waiting:
                self._refused[author, head] = None
        for old in list(self._refused)[: max(len(self._refused) - REFUSALS, 0)]:
            del self._refused[old]

    def _bundle(self, wants: Wants, most: int = ANSWER) -> bytes:
        """A bundle of what follows a peer's commits, of limited size: a part of it if there is more; or empty."""
        parts, room = dict[str, tuple[str | None, str]](), min(most, ANSWER)
        for author, chain in self.commons.entries().items():
            had = wants.get(author)
            if author not in wants or (had and not self.commons.has(author, had)):
                continue
            for entry in chain[self.commons.position(had) + 1 if had else 0 :]:
                room -= entry.size
                if room < 0 and parts:
                    break
                parts[author] = had, entry.commit
        try:
            return self.chains.pack_part(parts) if parts else b""
        except NightlabError:
            return b""  # the copy was changed meanwhile; the peer will ask again


class Zenoh:
    """Gossip over Eclipse Zenoh, peer to peer: no broker, no multicast, only the given endpoints.

    ``listen`` and ``connect``: endpoints such as ``tcp/192.168.1.7:7447``. One known peer is enough to find the others.
    Raises NightlabError when zenoh is not installed, or an endpoint can't be used.
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
        # Callbacks run on Zenoh's threads, so they only append to the inbox.
        self._inbox: deque[PeerDigest | DigestRequest | BundleReceived] = deque(maxlen=WAITING)
        # Referenced, because Zenoh undeclares them when they are garbage-collected.
        self._subscriber = self.session.declare_subscriber("nightlab/commons/heads/*", self._on_announcement)
        self._queryable = self.session.declare_queryable(f"nightlab/commons/chains/{self.name}", self._on_request)

    def announce(self, heads: Heads) -> None:
        self.session.put(f"nightlab/commons/heads/{self.name}", json.dumps(dict(heads)))

    def ask(self, peer: str, wants: Wants, most: int) -> None:
        request = json.dumps({**wants, "most": most})
        self.session.get(f"nightlab/commons/chains/{peer}", self._on_bundle, payload=request, timeout=PATIENCE)

    def messages(self) -> Iterator[PeerDigest | DigestRequest | BundleReceived]:
        for _ in range(len(self._inbox)):
            yield self._inbox.popleft()

    def close(self) -> None:
        self.session.close()

    def _on_announcement(self, sample: Any) -> None:
        peer = str(sample.key_expr).rsplit("/", 1)[-1]
        if peer != self.name and re.fullmatch(r"[0-9a-f]{1,32}", peer):
            heads = {author: commit for author, commit in _parse_heads(sample.payload).items() if commit}
            self._inbox.append(PeerDigest(peer, heads))

    def _on_request(self, query: Any) -> None:
        wants, most = _parse_heads(query.payload), _parse_most(query.payload)

        def answer(bundle: bytes) -> None:
            with query:
                query.reply(query.key_expr, bundle)

        self._inbox.append(DigestRequest(wants, answer, most))

    def _on_bundle(self, reply: Any) -> None:
        if reply.ok is not None:
            self._inbox.append(BundleReceived(reply.ok.payload.to_bytes()))


def _parse(payload: Any) -> dict[str, Any]:
    """The object in an untrusted message; empty if it is not valid."""
    raw = payload.to_bytes() if payload is not None else b""
    if len(raw) > LARGEST_MESSAGE:
        return {}
    try:
        said = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) and len(said) <= MOST else {}


def _parse_most(payload: Any) -> int:
    """How many bytes of records a request asks for at most."""
    most = _parse(payload).get("most")
    return most if isinstance(most, int) and most > 0 else ANSWER


def _parse_heads(payload: Any) -> dict[str, str | None]:
    """The heads in an untrusted message."""
    return {
        author: commit
        for author, commit in _parse(payload).items()
        if AUTHOR.fullmatch(author) and (commit is None or (isinstance(commit, str) and COMMIT.fullmatch(commit)))
    }
