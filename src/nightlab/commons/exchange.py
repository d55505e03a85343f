"""The user's copy of the commons: each author's chain of records, and how chains travel between copies.

Any git remote is a commons, for each author adds to a ref of its own, ``refs/nightlab/<author>``: nothing ever
conflicts, and there is no server of ours. A chain only grows. Whatever a remote says, a record that was accepted once
stays, and one that is not exactly what it must be is refused, counted, and keeps no other author's records out.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    encode,
    parse,
    sign,
)
from nightlab.lineage import Chains, Link
from nightlab.lineage.chains import INCOMING, SEEN
from nightlab.records import NightlabError
from nightlab.words import one_line

RECORD_FILE, PATCH_FILE = "record.json", "patch"
LIMITS = {RECORD_FILE: LARGEST, PATCH_FILE: LARGEST_PATCH}
AT_ONCE = 1000  # records of one author that one sync takes: the rest comes with the next
KEPT_REJECTIONS = 2000


@dataclass(frozen=True, slots=True)
class Entry:
    """A record as it stands in its author's chain."""

    signed: Signed
    commit: str

    @property
    def id(self) -> str:
        return self.signed.id

    @property
    def author(self) -> str:
        return self.signed.record.author


@dataclass(frozen=True, slots=True)
class Rejection:
    """Something that a remote had and that was refused. ``what`` is a commit, or empty for a whole chain."""

    author: str
    what: str
    category: Category
    detail: str
    times: int = 1


@dataclass(slots=True)
class Taken:
    """What came of looking at a remote."""

    records: int = 0
    authors: int = 0
    waiting: int = 0
    """Authors who have more than is taken at once."""
    rejected: Counter[str] = field(default_factory=Counter)


class Commons:
    """The copy of the commons in ``folder``, made if it is not there. Any number of processes may use it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.chains = Chains(folder)
        self._heads: dict[str, str] = {}
        self._entries: dict[str, list[Entry]] = {}

    # -- reading ---------------------------------------------------------------------------------

    def entries(self) -> dict[str, list[Entry]]:
        """All records that were accepted, by author, each in its order. What was read once is not read again."""
        for author, head in self.chains.heads().items():
            if self._heads.get(author) != head:
                known = self._entries.setdefault(author, [])
                try:
                    known += self._checked(author, self._heads.get(author), head, known[-1] if known else None)
                except Rejected as error:
                    raise NightlabError(
                        f"the commons in {self.folder} is damaged: {author[:12]}: {error}",
                        f"move {self.folder} away and sync again: nothing but what you never shared is lost",
                    ) from None
                self._heads[author] = head
        return self._entries

    def patch(self, entry: Entry) -> str:
        """The text of a finding's patch, as it was accepted."""
        finding = entry.signed.record
        assert isinstance(finding, Finding)
        link = next(self.chains.read([entry.commit], LIMITS))
        return check_patch(finding, link.files.get(PATCH_FILE, b""))

    # -- writing ---------------------------------------------------------------------------------

    def publish(self, key: Any, bodies: Sequence[tuple[dict[str, Any], bytes | None]]) -> list[Signed]:
        """Add records to the chain of the key's author, each with its patch; nothing leaves this machine.

        A body is a record less ``v``, ``author``, ``seq`` and ``prev``. All are added, or at a kill the first ones.
        """
        author, made = author_of(key), []
        with self._locked():
            mine = self.entries().get(author, [])
            last = mine[-1] if mine else None
            for body, patch in bodies:
                seq, prev = (last.signed.record.seq + 1, last.id) if last else (0, None)
                signed = _made({"v": 1, "author": author, "seq": seq, "prev": prev, **body}, key)
                files = {RECORD_FILE: encode(signed)} | ({PATCH_FILE: patch} if patch is not None else {})
                before = last.commit if last else None
                commit = self.chains.add(files, signed.id, before)
                self._checked(author, before, commit, last)
                self.chains.move(author, commit, before)
                last = Entry(signed, commit)
                made.append(signed)
        return made

    # -- travelling ------------------------------------------------------------------------------

    def take(self, remote: str) -> Taken:
        """Take in what a remote has that is new. Raises Unreachable when it does not answer.

        A bundle may be an old one: only of what answers it is remembered what it had.
        """
        taken = Taken()
        there, seen = self.chains.heads_at(remote), None if Path(remote).is_file() else self._seen_place(remote)
        with self._locked():
            heads, before = self.chains.heads(), self.chains.heads(seen) if seen else {}
            wanted = [author for author, head in sorted(there.items()) if head != heads.get(author)]
            refused = self.chains.fetch(remote, wanted)
            came = self.chains.heads(INCOMING)  # the remote may have moved on since it was asked
            there |= {author: came[author] for author in wanted if author in came and author not in refused}
            for author, why in refused.items():
                self._reject(taken, author, there[author], Rejected("malformed", why))
            for author, last in before.items():
                if author not in there:
                    self._reject(taken, author, last, Rejected("rolled back", "the remote no longer has this author"))
            for author in there:
                if author not in refused:
                    self._take_author(taken, author, there[author], heads.get(author), before.get(author), seen)
        self.chains.tidy()
        return taken

    def give(self, remote: str, author: str) -> bool:
        """Bring an author's chain to a remote; False when it is there already. Raises Unreachable."""
        mine = self.chains.heads().get(author)
        if mine is None or self.chains.heads_at(remote).get(author) == mine:
            return False
        self.chains.push(remote, author)
        self.chains.note(author, mine, self._seen_place(remote))
        return True

    def _take_author(
        self, taken: Taken, author: str, head: str, mine: str | None, before: str | None, seen: str | None
    ) -> None:
        """Take in one author's chain."""
        if head == mine:
            if head != before:
                self._saw(author, head, seen)
            return
        try:
            if before is not None and not self.chains.follows(head, before):
                back = self.chains.follows(before, head)
                raise Rejected("rolled back" if back else "rewritten", "the remote had records that it no longer has")
            if mine is not None and self.chains.follows(mine, head):
                self._saw(author, head, seen)  # it lags behind another remote
                return
            if mine is not None and not self.chains.follows(head, mine):
                raise Rejected("rewritten", "its records are not those that were accepted before")
            known = self.entries().get(author, [])
            more = self.chains.between(mine, head)
            taken.waiting += len(more) > AT_ONCE
            last = known[-1] if known else None
            try:
                for entry in self._links(author, more[:AT_ONCE], last):
                    last, taken.records = entry, taken.records + 1
            finally:
                if last and last.commit != mine:  # as far as it is as it must be
                    self.chains.move(author, last.commit, mine)
                    taken.authors += 1
            self._saw(author, more[:AT_ONCE][-1], seen)
        except Rejected as error:
            self._reject(taken, author, head, error)
        finally:
            self.chains.forget(author, INCOMING)

    def _saw(self, author: str, head: str, seen: str | None) -> None:
        if seen:
            self.chains.note(author, head, seen)

    def _checked(self, author: str, before: str | None, head: str, last: Entry | None) -> list[Entry]:
        return list(self._links(author, self.chains.between(before, head), last))

    def _links(self, author: str, commits: Sequence[str], last: Entry | None) -> Iterator[Entry]:
        """The records in commits that follow on ``last``. Raises Rejected at the first that is not as it must be."""
        for link in self.chains.read(commits, LIMITS):
            last = _entry(author, link, last)
            yield last

    # -- what was refused --------------------------------------------------------------------------

    def rejections(self) -> list[Rejection]:
        """What was refused so far, each with how often it was met."""
        try:
            return [Rejection(**each) for each in json.loads((self.folder / "rejected.json").read_text())]
        except (OSError, ValueError):
            return []

    def _reject(self, taken: Taken, author: str, what: str, error: Rejected) -> None:
        taken.rejected[error.category] += 1
        self.note_rejection(author, what, error)

    def note_rejection(self, author: str, what: str, error: Rejected) -> None:
        """Count something that was refused."""
        known = {(each.author, each.what, each.category): each for each in self.rejections()}
        key = author, what, error.category
        times = known.pop(key).times + 1 if key in known else 1
        known[key] = Rejection(author, what, error.category, one_line(str(error), 300), times)
        rows = [_row(each) for each in known.values()][-KEPT_REJECTIONS:]
        draft = self.folder / f"rejected.{os.getpid()}"
        draft.write_text(json.dumps(rows, indent=0))
        draft.replace(self.folder / "rejected.json")

    # -- inside ------------------------------------------------------------------------------------

    def _seen_place(self, remote: str) -> str:
        return f"{SEEN}/{hashlib.sha256(remote.encode()).hexdigest()[:16]}"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        handle = os.open(self.folder / "writer", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _made(facts: dict[str, Any], key: Any) -> Signed:
    """The record with these facts, signed. Raises NightlabError for one that no reader would take."""
    try:
        signed = sign(RECORD.validate_python(facts), key)
        parse(encode(signed))
        return signed
    except (Rejected, ValueError) as error:
        raise NightlabError(f"this can't be a record: {one_line(str(error))}", "share another experiment") from None


def _entry(author: str, link: Link, last: Entry | None) -> Entry:
    """The record in a commit that must follow on ``last``. Raises Rejected."""
    if RECORD_FILE not in link.files:
        raise Rejected("wrong commit", "a commit that is not of the form of a record's")
    signed = parse(link.files[RECORD_FILE])
    record = signed.record
    if record.author != author:
        raise Rejected("wrong author", f"a record by {record.author[:12]}… among those of {author[:12]}…")
    seq, prev, before = (last.signed.record.seq + 1, last.id, last.commit) if last else (0, None, None)
    if record.seq < seq:
        raise Rejected("replayed", f"record {record.seq} again, after {seq - 1}")
    if (record.seq, record.prev) != (seq, prev):
        raise Rejected("broken chain", f"record {record.seq} does not follow on record {seq - 1}")
    if link.message != signed.id or link.before != before:
        raise Rejected("wrong commit", "a commit that is not of the form of a record's")
    patch = link.files.get(PATCH_FILE)
    if isinstance(record, Finding):
        check_patch(record, patch or b"")
    elif patch is not None:
        raise Rejected("wrong patch", f"a {record.kind} with a patch")
    return Entry(signed, link.commit)


def _row(rejection: Rejection) -> dict[str, Any]:
    return {name: getattr(rejection, name) for name in Rejection.__dataclass_fields__}


def shown_remote(remote: str) -> str:
    """A remote as it may be printed: without a password."""
    return re.sub(r"//[^/@]*@", "//", remote)
