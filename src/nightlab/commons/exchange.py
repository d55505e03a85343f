"""The user's copy of the commons: each author's chain of records, and its exchange with remotes.

Any git remote can be a commons. Each author appends only to the ref ``refs/nightlab/<author>``, so there are no
conflicts and no central server. A chain only grows: an accepted record is never removed, whatever a remote serves,
and an invalid record is rejected and counted without blocking other authors' records.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from nightlab.commons.entry import Entry
from nightlab.commons.instants import format_instant
from nightlab.commons.record import (
    LARGEST,
    LARGEST_PATCH,
    RECORD,
    Category,
    Finding,
    Rejected,
    Signed,
    author_of,
    check_patch,
    encode_record,
    parse_record,
    sign,
)
from nightlab.commons.trust import EPOCH
from nightlab.core.files import NotReadable, read_plain
from nightlab.core.text import one_line
from nightlab.core.types import NightlabError
from nightlab.storage.git import Chains, Link
from nightlab.storage.git.record_chains import INCOMING, NONE, PLACE, SEEN, Change

RECORD_FILE, PATCH_FILE = "record.json", "patch"
LIMITS = {RECORD_FILE: LARGEST, PATCH_FILE: LARGEST_PATCH}
AT_ONCE = 1000  # records of one author per sync; the next sync continues
KEPT_REJECTIONS = 2000
LARGEST_COUNTS = 4 * 2**20  # bytes of these
ARRIVED = "arrived"  # file of the authors in the order in which they were accepted; an empty line after the first ones
LARGEST_ARRIVED = 64 * 2**20  # bytes

Refused = tuple[str, str, Rejected]  # the author, the commit or empty, and the reason


@dataclass(frozen=True, slots=True)
class Rejection:
    """Something rejected from a remote. ``what`` is a commit, or empty for a whole chain."""

    author: str
    what: str
    category: Category
    detail: str
    times: int = 1


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


class Commons:
    """The copy of the commons in ``folder``, created if missing. Safe for several processes at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.chains = Chains(folder)
        self._heads: dict[str, str] = {}
        self._entries: dict[str, list[Entry]] = {}
        self._commits: dict[str, Entry] = {}

    # -- reading ---------------------------------------------------------------------------------

    def entries(self) -> dict[str, list[Entry]]:
        """All accepted records by author, in chain order. Incremental: only new commits are read."""
        new = {author: head for author, head in self.chains.heads().items() if self._heads.get(author) != head}
        more = self.chains.new_commits(list(new.values()), self._heads.values())
        links = self.chains.read([commit for head in new.values() for commit in more[head][1]], LIMITS)
        for author, head in new.items():
            known = self._entries.get(author, [])
            found, fault = _checked(author, islice(links, len(more[head][1])), known[-1] if known else None)
            if fault or not (known or found):
                raise NightlabError(
                    f"the commons in {self.folder} is damaged: {author[:12]}: {fault or 'its ref names no commit'}",
                    f"move {self.folder} away and sync again; only what you have not shared is lost",
                )
            self._accept(author, head, found)
        return self._entries

    def arrived(self) -> tuple[list[str], int]:
        """The authors in the order in which they were first received, and how many of these came at once at first."""
        try:
            text = read_plain(self.folder / ARRIVED, LARGEST_ARRIVED, self.folder).decode()
        except (OSError, ValueError, NotReadable):  # an older copy, or one without a sync
            known = sorted(self._entries)
            return known, len(known)
        first, _, later = text.partition("\n\n")
        return [*first.split(), *later.split()], len(first.split())

    def has(self, author: str, commit: str) -> bool:
        """Whether a commit is an accepted record of this author, as of the last ``entries``."""
        return commit in self._commits and self._commits[commit].author == author

    def patch(self, entry: Entry) -> str:
        """The text of an accepted finding's patch."""
        finding = entry.signed.record
        assert isinstance(finding, Finding)
        link = next(self.chains.read([entry.commit], LIMITS))
        return check_patch(finding, link.files.get(PATCH_FILE, b""))

    # -- writing ---------------------------------------------------------------------------------

    def publish(self, key: Any, bodies: Sequence[tuple[dict[str, Any], bytes | None]]) -> list[Signed]:
        """Append records, each with an optional patch, to the chain of the key's author. Nothing is sent.

        A body is a record without ``v``, ``author``, ``seq`` and ``prev``. If killed, a prefix has been added.
        """
        author, made = author_of(key), []
        with self._locked():
            mine = self.entries().get(author, [])
            last = mine[-1] if mine else None
            for body, patch in bodies:
                seq, prev = (last.seq + 1, last.id) if last else (0, None)
                signed = _sign_record({"v": 1, "author": author, "seq": seq, "prev": prev, **body}, key)
                files = {RECORD_FILE: encode_record(signed)} | ({PATCH_FILE: patch} if patch is not None else {})
                before = last.commit if last else None
                commit = self.chains.add(files, signed.id, before)
                last = _entry(author, next(self.chains.read([commit], LIMITS)), last)
                self.chains.change(Change(PLACE, author, commit, before or NONE))
                made.append(signed)
        return made

    # -- exchange --------------------------------------------------------------------------------

    def pull(self, remote: str) -> Received:
        """Accept a remote's new records. Raises Unreachable when it does not answer.

        For a live remote its heads are remembered, to detect a rollback; not for a bundle, which may be old.
        """
        there, seen = self.chains.remote_heads(remote), None if Path(remote).is_file() else self._seen_place(remote)
        with self._locked():
            heads, before = self.chains.heads(), self.chains.heads(seen) if seen else {}
            wanted = [author for author, head in sorted(there.items()) if head != heads.get(author)]
            unreadable = self.chains.fetch(remote, wanted)
            incoming = self.chains.heads(INCOMING)  # the remote may have moved on since its heads were listed
            there |= {author: incoming[author] for author in wanted if author in incoming}
            refused = [(author, there.pop(author), Rejected("malformed", why)) for author, why in unreadable.items()]
            vanished = Rejected("rolled back", "the remote no longer has this author")
            refused += [
                (author, before[author], vanished) for author in before.keys() - there.keys() - unreadable.keys()
            ]
            new = {author: head for author, head in there.items() if head != heads.get(author)}
            found, waiting, wrong = self._new_records(new, before)
            refused += wrong
            moves = {author: records[-1].commit for author, records in found.items()}
            saw = there.keys() - {author for author, _, _ in refused}
            self.chains.change(
                *(Change(PLACE, author, commit, heads.get(author, NONE)) for author, commit in moves.items()),
                *(Change(seen, author, moves.get(author, there[author])) for author in saw if seen),
                *(Change(INCOMING, author, None) for author in incoming),
            )
            self._note_arrivals(heads.keys(), found.keys() - heads.keys())
            for author, records in found.items():
                self._accept(author, moves[author], records)
            self.note_rejections(refused)
            self.chains.pack_loose_objects()
        rejected = Counter[str](error.category for _, _, error in refused)
        ahead = format_instant(time.time() + EPOCH)
        fresh = [entry.signed.record for chain in found.values() for entry in chain]
        return Received(len(fresh), len(found), waiting, sum(each.at > ahead for each in fresh), rejected)

    def push(self, remote: str, author: str) -> bool:
        """Push an author's chain to a remote; False if it is there already. Raises Unreachable.

        Raises NightlabError if the remote has another chain of this author, because the key is used elsewhere too.
        """
        mine, theirs = self.chains.heads().get(author), self.chains.remote_heads(remote).get(author)
        if mine is None or theirs == mine:
            return False
        if theirs and not self.has(author, theirs):
            raise NightlabError(
                f"{display_remote(remote)} has other records under your name, {author[:12]}: two machines use one key; "
                f"nothing was sent, and yours stay in {self.folder}",
                "give this machine its own key: move author.key away, then nightlab share",
            )
        self.chains.push(remote, author)
        self.chains.change(Change(self._seen_place(remote), author, mine))
        return True

    def _new_records(
        self, heads: Mapping[str, str], before: Mapping[str, str]
    ) -> tuple[dict[str, list[Entry]], int, list[Refused]]:
        """The valid new records of chains with these heads, each up to its first invalid one; the number of chains
        with more records than are read at once; and what is invalid. ``before``: the remote's heads last time.
        """
        known = self.entries() if heads else {}
        last = {author: known[author][-1] for author in heads if known.get(author)}
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
            records, fault = _checked(author, islice(links, len(commits[:AT_ONCE])), last.get(author))
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

    def position(self, commit: str) -> int:
        """The place of an accepted record in its author's chain."""
        return self._commits[commit].seq

    def _accept(self, author: str, head: str, found: Sequence[Entry]) -> None:
        self._entries.setdefault(author, []).extend(found)
        self._commits.update((entry.commit, entry) for entry in found)
        self._heads[author] = head

    def _note_arrivals(self, before: Iterable[str], new: Iterable[str]) -> None:
        path, names = self.folder / ARRIVED, sorted(new)
        if not path.exists():
            names = [*sorted(before), *names, ""]
        if names:
            with path.open("a", encoding="ascii") as file:
                file.write("".join(f"{name}\n" for name in names))

    # -- rejections --------------------------------------------------------------------------------

    def rejections(self) -> list[Rejection]:
        """What has been rejected so far, with counts."""
        try:
            raw = read_plain(self.folder / "rejected.json", LARGEST_COUNTS, self.folder)
            return [Rejection(**each) for each in json.loads(raw)]
        except (OSError, ValueError, NotReadable):
            return []

    def note_rejections(self, refused: Sequence[Refused]) -> None:
        """Add to the counts of rejections."""
        if not refused:
            return
        known = {(each.author, each.what, each.category): each for each in self.rejections()}
        for author, what, error in refused:
            key = author, what, error.category
            times = known.pop(key).times + 1 if key in known else 1
            known[key] = Rejection(author, what, error.category, one_line(str(error), 300), times)
        rows = [_row(each) for each in known.values()][-KEPT_REJECTIONS:]
        draft = self.folder / f"rejected.{os.getpid()}"
        draft.write_text(json.dumps(rows, indent=0), encoding="utf-8")
        draft.replace(self.folder / "rejected.json")

    # -- internal ----------------------------------------------------------------------------------

    def _seen_place(self, remote: str) -> str:
        return f"{SEEN}/{hashlib.sha256(remote.encode()).hexdigest()[:16]}"

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


def _checked(author: str, links: Iterator[Link], last: Entry | None) -> tuple[list[Entry], Rejected | None]:
    """The records in links that follow ``last``, up to the first invalid one, and the reason for that one.

    All links are consumed.
    """
    found = list[Entry]()
    for link in links:
        try:
            last = _entry(author, link, last)
        except Rejected as error:
            deque(links, maxlen=0)
            return found, error
        found.append(last)
    return found, None


def _entry(author: str, link: Link, last: Entry | None) -> Entry:
    """The record in a commit that must follow on ``last``. Raises Rejected."""
    if link.large:
        raise Rejected("oversized", link.large)
    if RECORD_FILE not in link.files:
        raise Rejected("wrong commit", "a commit that is not of the form of a record's")
    signed = parse_record(link.files[RECORD_FILE])
    record = signed.record
    if record.author != author:
        raise Rejected("wrong author", f"a record by {record.author[:12]}… among those of {author[:12]}…")
    seq, prev, before = (last.seq + 1, last.id, last.commit) if last else (0, None, None)
    if record.seq < seq:
        raise Rejected("replayed", f"record {record.seq} again, after {seq - 1}")
    if (record.seq, record.prev) != (seq, prev):
        raise Rejected("broken chain", f"record {record.seq} does not follow record {seq - 1}")
    if link.message != signed.id or link.before != before:
        raise Rejected("wrong commit", "the commit does not have the form of a record's commit")
    patch = link.files.get(PATCH_FILE)
    if isinstance(record, Finding):
        check_patch(record, patch or b"")
    elif patch is not None:
        raise Rejected("wrong patch", f"a {record.kind} with a patch")
    return Entry(signed, link.commit, link.files[RECORD_FILE])


def _row(rejection: Rejection) -> dict[str, Any]:
    return {name: getattr(rejection, name) for name in Rejection.__dataclass_fields__}


def display_remote(remote: str) -> str:
    """A remote's address for display, without credentials."""
    return re.sub(r"//[^/@]*@", "//", remote)
