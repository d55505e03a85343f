"""Peers in one process, and the messages between them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nightlab.commons.exchange import Commons
from nightlab.commons.gossip import BundleReceived, DigestRequest, Gossip, Heads, PeerDigest, Wants


class Wire:
    """Peers in one process; each message is lost with some probability."""

    def __init__(self, lost: float = 0.0) -> None:
        self.lost, self.draw = lost, random.Random(1)
        self.boxes: dict[str, list[Any]] = {}
        self.asked = 0

    def send(self, to: str, message: PeerDigest | DigestRequest | BundleReceived) -> None:
        if self.draw.random() >= self.lost:
            self.boxes[to].append(message)

    def peer(self, folder: Path) -> Gossip:
        self.boxes[folder.name] = []
        return Gossip(Commons(folder), End(self, folder.name))


class End:
    def __init__(self, wire: Wire, name: str) -> None:
        self.wire, self.name = wire, name

    def announce(self, heads: Heads) -> None:
        for other in self.wire.boxes:
            if other != self.name:
                self.wire.send(other, PeerDigest(self.name, heads))

    def ask(self, peer: str, wants: Wants) -> None:
        self.wire.asked += 1
        self.wire.send(peer, DigestRequest(wants, lambda bundle: self.wire.send(self.name, BundleReceived(bundle))))

    def messages(self) -> Iterator[PeerDigest | DigestRequest | BundleReceived]:
        came, self.wire.boxes[self.name] = self.wire.boxes[self.name], []
        yield from came
