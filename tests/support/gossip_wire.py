"""Peers in one process, and the messages between them."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nightlab.commons.exchange import Commons
from nightlab.commons.gossip import BundleReceived, DigestRequest, Gossip, Heads, PeerDigest, Wants


class Wire:
    """Peers in one process; messages get lost with some probability, bundles of more than ``limit`` bytes always."""

    def __init__(self, lost: float = 0.0, limit: float = math.inf) -> None:
        self.lost, self.limit, self.draw = lost, limit, random.Random(1)
        self.boxes: dict[str, list[Any]] = {}
        self.asked = 0

    def send(self, to: str, message: PeerDigest | DigestRequest | BundleReceived) -> None:
        large = isinstance(message, BundleReceived) and len(message.bundle) > self.limit
        if self.draw.random() >= self.lost and not large:
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

    def ask(self, peer: str, wants: Wants, most: int) -> None:
        self.wire.asked += 1
        request = DigestRequest(wants, lambda bundle: self.wire.send(self.name, BundleReceived(bundle)), most)
        self.wire.send(peer, request)

    def messages(self) -> Iterator[PeerDigest | DigestRequest | BundleReceived]:
        came, self.wire.boxes[self.name] = self.wire.boxes[self.name], []
        yield from came
