"""The user's copy of the commons: each author's chain of records, and its exchange with remotes.

Any git remote can be a commons. Each author appends only to the ref ``refs/nightlab/<author>``, so there are no
conflicts and no central server. A chain only grows: an accepted record is never removed, whatever a remote serves,
and an invalid record is rejected and counted without blocking other authors' records.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from nightlab.commons.checked_copy import LIMITS, PATCH_FILE, RECORD_FILE, CheckedCopy, check_link, checked
from nightlab.commons.copy_log import Refused
from nightlab.commons.entry import Entry
from nightlab.commons.instants import format_instant
from nightlab.commons.record import RECORD, Rejected, Signed, author_of, encode_record, parse_record, sign
from nightlab.commons.trust import EPOCH
from nightlab.core.text import one_line
from nightlab.core.types import NightlabError
from nightlab.storage.git.head_digest import DIGEST, TIP, HeadDigest, Listing
from nightlab.storage.git.record_chains import INCOMING, NONE, PLACE, SEEN, Change

AT_ONCE = 1000  # records of one author per sync; the next sync continues


@dataclass(slots=True)
class Received:
    """The result of reading from a remote."""

    records: int = 0
    authors: int = 0
    waiting: int = 0
    """Authors with more records than are read at once."""
    future: int = 0
    """Records that are dated in the future."""
    rejected: Counter[str] = field(default_factory=Counter)

    def add(self, other: Received) -> None:
        """Add the counts of another result."""
        self.records += other.records
        self.authors += other.authors
        self.waiting += other.waiting
        self.future += other.future
        self.rejected.update(other.rejected)


class Commons(CheckedCopy):
    """The copy of the commons in ``folder``, created if missing. Safe for several processes at once."""

    def publish(self, key: Any, bodies: Sequence[tuple[dict[str, Any], bytes | None]]) -> list[Signed]:
        """Append records, each with an optional patch, to the chain of the key's author. Nothing is sent.

        A body is a record without ``v``, ``author``, ``seq`` and ``prev``. If killed, a prefix has been added.
        """
        author, made = author_of(key), []
        with self._locked():
            mine = self.chain(author)
            last = mine[-1] if mine else None
            for body, patch in bodies:
                seq, prev = (last.seq + 1, last.id) if last else (0, None)
                signed = _sign_record({"v": 1, "author": author, "seq": seq, "prev": prev, **body}, key)
                files = {RECORD_FILE: encode_record(signed)} | ({PATCH_FILE: patch} if patch is not None else {})
                before = last.commit if last else None
                commit = self.chains.add(files, signed.id, before)
                last = check_link(author, next(self.chains.read([commit], LIMITS)), last)
                self.chains.change(Change(PLACE, author, commit, before or NONE))
                made.append(signed)
        return made

    def latest(self, remote: str, kind: str, most: int) -> list[Entry]:
        """The latest record of a kind of each author who is at a remote, of up to ``most`` of them."""
        found = list[Entry]()
        for author in self.chains.heads(f"{SEEN}/{self._digest(remote).key}"):
            found += [entry for entry in reversed(self.chain(author)) if entry.kind == kind][:1]
            if len(found) == most:
                break
        return found

    # -- exchange --------------------------------------------------------------------------------

    def pull(self, remote: str, own: str = "") -> Received:
        """Accept a remote's new records. Raises Unreachable when it does not answer.

        For a live remote its heads are remembered, to detect a rollback; not for a bundle, which may be old. Where
        there are many authors, only what the remote's digest names is read, with some authors by lot and ``own``.
        """
        digest = None if Path(remote).is_file() else self._digest(remote)
        with self._locked():
            if digest and (some := digest.list_some(own)):
                return self._take(some, self.chains.heads(authors=[*some.named, *(some.names or ())]), {}, digest)
        there = self.chains.remote_heads(remote)
        with self._locked():
            heads = self.chains.heads()
            wanted = [author for author, head in sorted(there.items()) if head != heads.get(author)]
            unreadable = self.chains.fetch(remote, wanted)
            incoming = self.chains.heads(INCOMING)  # the remote may have moved on since its heads were listed
            there |= {author: incoming[author] for author in wanted if author in incoming}
            return self._take(Listing(there), heads, unreadable, digest)

    def _take(
        self, there: Listing, heads: Mapping[str, str], unreadable: Mapping[str, str], digest: HeadDigest | None
    ) -> Received:
        """Accept what is valid of what was fetched. ``heads``: of the same authors here; ``unreadable``: why git
        rejected an author's chain."""
        seen = f"{SEEN}/{digest.key}" if digest else ""
        before = self.chains.heads(seen, there.names) if seen else {}
        refused = [(a, there.heads.pop(a), Rejected("malformed", why)) for a, why in unreadable.items()]
        vanished = Rejected("rolled back", "the remote no longer has this author")
        gone = before.keys() - there.heads.keys() - unreadable.keys()
        refused += [(author, before[author], vanished) for author in gone]
        new = {a: head for a, head in (there.named | there.heads).items() if head != heads.get(a)}
        found, waiting, wrong = self._new_records(new, heads, before)
        refused += wrong
        moves = {author: records[-1].commit for author, records in found.items()}
        saw = there.heads.keys() - {author for author, _, _ in refused}
        now = {author: moves.get(author, there.heads[author]) for author in saw}
        self.chains.change(
            *(Change(PLACE, author, commit, heads.get(author, NONE)) for author, commit in moves.items()),
            *(Change(seen, author, now[author]) for author in saw if seen and now[author] != before.get(author)),
            *(Change(INCOMING, author, None) for author in self.chains.heads(INCOMING)),
        )
        if digest and not waiting:
            lacking = {a: head for a, head in moves.items() if a in saw and there.named.get(a) != head}
            self.chains.change(*(digest.after_all(now) if there.names is None else digest.after_some(there, lacking)))
        self._note_taken(heads.keys(), found, refused)
        rejected = Counter[str](error.category for _, _, error in refused)
        ahead = format_instant(time.time() + EPOCH)
        fresh = [entry.signed.record for chain in found.values() for entry in chain]
        return Received(len(fresh), len(found), waiting, sum(each.at > ahead for each in fresh), rejected)

    def _note_taken(
        self, before: Collection[str], found: Mapping[str, Sequence[Entry]], refused: Sequence[Refused]
    ) -> None:
        self.note_arrivals(before, found.keys() - before)
        self.note_rejections(refused)
        for author, records in found.items():
            self._accept(author, records[-1].commit, records)
        self._to_index([entry for records in found.values() for entry in records])
        self.chains.pack_loose()

    def push(self, remote: str, author: str) -> bool:
        """Push an author's chain to a remote; False if it is there already. Raises Unreachable.

        Raises NightlabError if the remote has another chain of this author, because the key is used elsewhere too.
        """
        chain, digest = self.chain(author), self._digest(remote)
        if not chain:
            return False
        mine = chain[-1].commit
        theirs, named, on = digest.pushes(author, mine)
        if theirs == mine and not named:
            return False
        if theirs and not self.has(author, theirs):
            raise NightlabError(
                f"{display_remote(remote)} has other records under your name, {author[:12]}: two machines use one key; "
                f"nothing was sent, and yours stay in {self.folder}",
                "give this machine its own key: move author.key away, then nightlab share",
            )
        done = self.chains.push(remote, author, (named, f"{DIGEST}/{TIP}", on) if named else None)
        seen = Change(f"{SEEN}/{digest.key}", author, mine)
        self.chains.change(seen, *digest.after_push(author, mine, named if done else ""))
        return theirs != mine

    def _digest(self, remote: str) -> HeadDigest:
        return HeadDigest(self.chains, remote, hashlib.sha256(remote.encode()).hexdigest()[:16])

    def _new_records(
        self, heads: Mapping[str, str], here: Mapping[str, str], before: Mapping[str, str]
    ) -> tuple[dict[str, list[Entry]], int, list[Refused]]:
        """The valid new records of chains with these heads, each up to its first invalid one; the number of chains
        with more records than are read at once; and what is invalid. ``here``: the heads of these authors that are
        accepted; ``before``: the remote's heads last time.
        """
        self._refresh({author: here[author] for author in heads if author in here})
        last = {author: self._entries[author][-1] for author in heads if self._entries.get(author)}
        more = self.chains.new_commits(list(heads.values()), (entry.commit for entry in last.values()), AT_ONCE + 1)
        new, wrong = dict[str, list[str]](), list[Refused]()
        for author, head in heads.items():
            try:
                new[author] = self._new(author, head, before.get(author), *more[head])
            except Rejected as error:
                wrong.append((author, head, error))
        links = self.chains.read([commit for commits in new.values() for commit in commits[:AT_ONCE]], LIMITS)
        found = dict[str, list[Entry]]()
        for author, commits in new.items():
            records, fault = checked(author, islice(links, len(commits[:AT_ONCE])), last.get(author))
            if records:
                found[author] = records
            if fault:
                wrong.append((author, heads[author], fault))
        return found, sum(len(commits) > AT_ONCE for commits in new.values()), wrong

    def _new(self, author: str, head: str, before: str | None, on: str | None, commits: list[str]) -> list[str]:
        """The commits of a chain that follow its author's accepted records. Raises Rejected."""
        known = self._entries.get(author)
        if self.has(author, head):  # this remote is behind another one
            if before and self.has(author, before) and self.position(before) > self.position(head):
                raise Rejected("rolled back", "the remote removed records that it had")
            return []
        if on != (known[-1].commit if known else None):
            if known:
                raise Rejected("rewritten", "its records differ from those accepted before")
            raise Rejected("wrong author", "it continues the records of another author")
        if not commits:
            raise Rejected("wrong commit", "it does not end in a commit of its author")
        return commits

    @contextmanager
    def _locked(self) -> Iterator[None]:
        handle = os.open(self.folder / "writer", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            self.chains.remove_stale_locks()
            yield
        finally:
            os.close(handle)


def _sign_record(facts: dict[str, Any], key: Any) -> Signed:
    """The record with these fields, signed. Raises NightlabError if it is not valid."""
    try:
        signed = sign(RECORD.validate_python(facts), key)
        parse_record(encode_record(signed))
        return signed
    except (Rejected, ValueError) as error:
        raise NightlabError(f"this can't be a record: {one_line(str(error))}", "share another experiment") from None


def display_remote(remote: str) -> str:
    """A remote's address for display, without credentials."""
    return re.sub(r"//[^/@]*@", "//", remote)
