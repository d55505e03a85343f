"""What a session has to do with its commons, for windows: read beside the ledger, for a commons may take long to read.

Checking thousands of strangers' signatures takes seconds, so it is done in a separate thread, and only when
something came, was measured or was refused. Windows show what is known by then.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from nightlab.commons.benefit import TOGETHER, benefit_of
from nightlab.commons.exchange import Commons
from nightlab.commons.peer_store import PeerStore
from nightlab.commons.places import key_file, known_commons, own_author, store_folder
from nightlab.commons.record import Finding
from nightlab.core.events import ContractChanged, FindingVerified
from nightlab.core.text import one_line
from nightlab.session.session import open_session
from nightlab.storage.ledger import LEDGER
from nightlab.storage.ledger.reader import LedgerReader
from nightlab.ui.snapshot import CommonsStatus, Peer, Refusal, Verified

EVERY = 2.0  # seconds between two looks at whether there is anything new
FADES = 300.0  # seconds after which trust and threats have faded so much as to be reckoned anew
PEERS, LATEST = 12, 8  # that are told one by one
WORDS = 160  # characters of a stranger's words


class CommonsMonitor:
    """Follows what the session in ``folder`` has to do with others. ``latest``: as far as it is known."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.latest = folder, CommonsStatus()
        self._commons: Commons | None = None
        self._closed = threading.Event()
        threading.Thread(target=self._follow, name="commons", daemon=True).start()

    def close(self) -> None:
        self._closed.set()

    def _follow(self) -> None:
        known: tuple[object, ...] = ()
        while not self._closed.is_set():
            try:
                if (now := self._stamp()) != known:
                    known = now  # what fails now, fails until something is new
                    self.latest = self._look()
            except Exception as error:  # whatever it is, the window goes on without
                self.latest = replace(self.latest, fault=one_line(str(error) or type(error).__name__))
            self._closed.wait(EVERY)

    def _stamp(self) -> tuple[object, ...]:
        """What differs when there is something new to tell: cheap enough to be asked all the time."""
        with closing(LedgerReader(self.folder / LEDGER)) as feed:
            counts = feed.count(FindingVerified), feed.count(ContractChanged)
        store = store_folder()
        files = (store / "refs" / "nightlab", store / "packed-refs", store / "rejected.json", key_file())
        return *counts, time.time() // FADES, *(path.stat().st_mtime_ns if path.exists() else 0 for path in files)

    def _look(self) -> CommonsStatus:
        self._commons = self._commons or known_commons()
        if self._commons is None:
            return CommonsStatus()
        with closing(open_session(self.folder.parent.parent, self.folder.name)) as session:
            return seen(PeerStore(session, self._commons), session.ledger.events(FindingVerified))


def seen(peers: PeerStore, measured: Sequence[FindingVerified]) -> CommonsStatus:
    """What there is to see of a session's peers, and of what it ``measured`` of theirs, as its ledger says it."""
    chains, me, refused = peers.commons.entries(), own_author(), peers.commons.rejections()
    kinds: dict[str, Counter[str]] = {name: Counter(entry.kind for entry in chain) for name, chain in chains.items()}
    benefit = benefit_of(peers.session)
    by = benefit.get("by", {})
    others = [
        Peer(
            author=name,
            trust=peers.trust[name].value if name in peers.trust else None,
            quarantined=name in peers.trust and peers.trust[name].quarantined,
            findings=records["finding"],
            verdicts=_verdicts(one for one in measured if one.author == name and one.alone),
            adopted=by[name]["adopted"] if name in by else 0,
            gain=by[name]["gain"] if name in by else 0.0,
        )
        for name, records in kinds.items()
        if name != me
    ]
    others.sort(key=lambda peer: (-sum(peer.verdicts.values()), peer.trust is None, -peer.findings, peer.author))
    return CommonsStatus(
        peers=tuple(others[:PEERS]),
        authors=len(others),
        findings=sum(peer.findings for peer in others),
        quarantined=sum(peer.quarantined for peer in others),
        verdicts=_verdicts(measured),
        adopted=sum(one.adopted for one in measured),
        latest=tuple(_verified(peers, one) for one in measured[: -LATEST - 1 : -1]),
        refused=sum(each.times for each in refused),
        refusals=tuple(
            Refusal(each.author, each.category, one_line(each.detail, WORDS), each.times)
            for each in refused[: -LATEST - 1 : -1]
        ),
        shared=dict(kinds.get(me, {})),
        threats=tuple((target, _words(peers, target)) for target in sorted(peers.threats)[:LATEST]),
        threatening=len(peers.threats),
        **{name: benefit[name] for name in ("gain", "own_gain", "experiments", "own_experiments", "saved") if benefit},
        spared=peers.spared(),
        combinations=benefit.get("combinations", 0),
        combined_gain=by[TOGETHER]["gain"] if TOGETHER in by else 0.0,
        declined=tuple((one_line(why, WORDS), many) for why, many in peers.declined().most_common(LATEST)),
    )


def _verdicts(measured: Iterable[FindingVerified]) -> dict[str, int]:
    return dict(sorted(Counter(one.verdict for one in measured).items()))


def _verified(peers: PeerStore, event: FindingVerified) -> Verified:
    return Verified(
        number=event.number,
        author=event.author,
        verdict=event.verdict,
        adopted=event.adopted,
        elsewhere=event.elsewhere,
        detail=one_line(event.detail, WORDS),
        hypothesis=_words(peers, event.target),
        at=event.at,
    )


def _words(peers: PeerStore, target: str) -> str:
    """What a finding's author says of it."""
    entry = peers.entries.get(target)
    record = entry.signed.record if entry else None
    return one_line(record.hypothesis, WORDS) if isinstance(record, Finding) else ""
