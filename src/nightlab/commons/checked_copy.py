"""The records of the user's copy of the commons. Each is read and checked once; other processes take it from an index.

The index (``storage.record_index``) is derived from the chains in git, in the user's own folder. What it holds of an
author counts only as far as that author's ref; a record read from it must have the hash that it is named by.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from nightlab.commons.copy_log import CopyLog
from nightlab.commons.entry import Entry
from nightlab.commons.record import LARGEST, LARGEST_PATCH, Finding, Rejected, check_patch, hash_in, parse_record
from nightlab.core.types import NightlabError
from nightlab.storage.git import Chains, Link
from nightlab.storage.record_index import CheckedRecord, RecordIndex

RECORD_FILE, PATCH_FILE = "record.json", "patch"
LIMITS = {RECORD_FILE: LARGEST, PATCH_FILE: LARGEST_PATCH}
INDEX = "checked.db"
FEW = 200  # authors up to which each is looked up by itself
AT_A_TIME = 500  # authors whose records are in memory at a time while they are checked


class CheckedCopy(CopyLog):
    """The copy of the commons in ``folder``, created if missing. Safe for several processes at once."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.chains = Chains(folder)
        self._index = RecordIndex(folder / INDEX)
        self._heads: dict[str, str] = {}
        self._entries: dict[str, list[Entry]] = {}
        self._commits: dict[str, Entry] = {}

    def entries(self) -> dict[str, list[Entry]]:
        """All accepted records by author, in chain order. Incremental: only what is new is read."""
        self._refresh(self.chains.heads())
        return self._entries

    def chain(self, author: str) -> Sequence[Entry]:
        """An author's accepted records, in order. Others' are not read."""
        self._refresh(self.chains.heads(authors=[author]))
        return self._entries.get(author, ())

    def arrived(self) -> tuple[list[str], int]:
        """The authors in the order in which they were first received, and how many of these came at once at first."""
        return self.order_of_arrival(self._entries)

    def has(self, author: str, commit: str) -> bool:
        """Whether a commit is an accepted record of this author, as of the last time that these were read."""
        return commit in self._commits and self._commits[commit].author == author

    def position(self, commit: str) -> int:
        """The place of an accepted record in its author's chain."""
        return self._commits[commit].seq

    def patch(self, entry: Entry) -> str:
        """The text of an accepted finding's patch."""
        finding = entry.signed.record
        assert isinstance(finding, Finding)
        link = next(self.chains.read([entry.commit], LIMITS))
        return check_patch(finding, link.files.get(PATCH_FILE, b""))

    def reread(self, name: str, commit: str) -> bytes:
        """The bytes of an accepted record: from the index, if it has them unchanged, else from git."""
        raw = self._index.raw(name)
        if raw and hash_in(raw) == name:
            return raw
        return next(self.chains.read([commit], LIMITS)).files[RECORD_FILE]

    def _refresh(self, heads: Mapping[str, str]) -> None:
        """Bring the entries of these authors to their heads. Raises NightlabError where the copy is damaged."""
        new = {author: head for author, head in heads.items() if self._heads.get(author) != head}
        for author, rows in self._index.chains(list(new) if len(new) <= FEW else None) if new else ():
            if author in new:
                self._take_indexed(author, rows, new[author])
        rest = [author for author, head in new.items() if self._heads.get(author) != head]
        for start in range(0, len(rest), AT_A_TIME):
            self._read({author: new[author] for author in rest[start : start + AT_A_TIME]})

    def _take_indexed(self, author: str, rows: Sequence[CheckedRecord], head: str) -> None:
        """Accept what the index has of a chain, up to its head, as far as it continues what is here."""
        known = self._entries.get(author, [])
        if known and rows[len(known) - 1 : len(known)] != [known[-1].row]:
            return
        end = next((n for n, row in enumerate(rows, 1) if row.commit == head), len(rows))
        found = [Entry.of(row, author, self) for row in rows[len(known) : end]]
        if found:
            self._accept(author, found[-1].commit, found)

    def _read(self, new: Mapping[str, str]) -> None:
        """Read and check what the chains with these heads have beyond the entries here, and index it."""
        last = {author: self._entries[author][-1] for author in new if self._entries.get(author)}
        try:
            more = self.chains.new_commits(list(new.values()), [entry.commit for entry in last.values()])
        except NightlabError:  # the index is newer than a copy that was restored from a backup
            for author in last:
                self._forget(author)
            last, more = {}, self.chains.new_commits(list(new.values()), ())
        for author in (name for name, entry in last.items() if more[new[name]][0] != entry.commit):
            self._forget(author)  # its ref went back, or elsewhere, since
            more |= self.chains.new_commits([new[author]], ())
        links = self.chains.read([commit for head in new.values() for commit in more[head][1]], LIMITS)
        fresh = list[Entry]()
        for author, head in new.items():
            known = self._entries.get(author, [])
            found, fault = checked(author, islice(links, len(more[head][1])), known[-1] if known else None)
            if fault or not (known or found):
                raise NightlabError(
                    f"the commons in {self.folder} is damaged: {author[:12]}: {fault or 'its ref names no commit'}",
                    f"move {self.folder} away and sync again; only what you have not shared is lost",
                )
            self._accept(author, head, found)
            fresh += found
        self._to_index(fresh)

    def _to_index(self, entries: Sequence[Entry]) -> None:
        """Spare other processes the check of these records, which are those of their authors' refs."""
        self._index.add((entry.row, entry.raw) for entry in entries)
        for entry in entries:
            entry.release(self)

    def _accept(self, author: str, head: str, found: Sequence[Entry]) -> None:
        self._entries.setdefault(author, []).extend(found)
        self._commits.update((entry.commit, entry) for entry in found)
        self._heads[author] = head

    def _forget(self, author: str) -> None:
        for entry in self._entries.pop(author, []):
            self._commits.pop(entry.commit, None)
        self._heads.pop(author, None)
        self._index.forget(author)


def checked(author: str, links: Iterator[Link], last: Entry | None) -> tuple[list[Entry], Rejected | None]:
    """The records in links that follow ``last``, up to the first invalid one, and the reason for that one.

    All links are consumed.
    """
    found = list[Entry]()
    for link in links:
        try:
            last = check_link(author, link, last)
        except Rejected as error:
            deque(links, maxlen=0)
            return found, error
        found.append(last)
    return found, None


def check_link(author: str, link: Link, last: Entry | None) -> Entry:
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
