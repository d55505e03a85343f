"""A record as it stands in its author's chain, in little memory."""

from __future__ import annotations

import sys
from collections.abc import Hashable
from functools import lru_cache
from typing import Protocol

from nightlab.commons.record import Finding, Signed, encode_record
from nightlab.storage.record_index import CheckedRecord

PARSED = 3000  # records, of about 10 kB each


class RecordSource(Hashable, Protocol):
    """Where checked records are read again."""

    def reread(self, name: str, commit: str) -> bytes: ...


class Entry:
    """A record in its author's chain: what it is looked up by, and where it is read. The latest ``PARSED`` records that
    were read are cached; a record that is kept parsed takes thirty times as much memory.
    """

    __slots__ = ("_source", "author", "commit", "id", "kind", "made", "seq")

    def __init__(self, signed: Signed, commit: str, raw: bytes = b"") -> None:
        record = signed.record
        self.id, self.author, self.commit, self.seq = signed.id, record.author, commit, record.seq
        self.kind: str = record.kind
        self.made = record.genome if isinstance(record, Finding) and record.status == "keep" else ""
        """The genome that a kept finding made; else empty."""
        self._source: Signed | bytes | RecordSource = raw or signed

    @classmethod
    def of(cls, row: CheckedRecord, author: str, source: RecordSource) -> Entry:
        """The entry of a record that was checked before."""
        found = cls.__new__(cls)
        found.author, found.seq, found.id, found.commit = author, row.seq, row.id, row.commit
        found.kind, found.made, found._source = sys.intern(row.kind), row.made, source
        return found

    @property
    def row(self) -> CheckedRecord:
        return CheckedRecord(self.author, self.seq, self.id, self.commit, self.kind, self.made)

    @property
    def raw(self) -> bytes:
        """The bytes of the record."""
        if isinstance(self._source, bytes):
            return self._source
        if isinstance(self._source, Signed):
            return encode_record(self._source)
        return self._source.reread(self.id, self.commit)

    def release(self, source: RecordSource) -> None:
        """Keep the record no longer: it can be read from ``source``."""
        self._source = source

    @property
    def signed(self) -> Signed:
        if isinstance(self._source, Signed):
            return self._source
        return _parsed(self._source, self.id, self.commit)

    @property
    def size(self) -> int:
        """The bytes of the record and its patch."""
        record = self.signed.record
        return len(self.raw) + (record.patch.bytes if isinstance(record, Finding) else 0)


@lru_cache(PARSED)
def _parsed(source: bytes | RecordSource, name: str, commit: str) -> Signed:
    """A record that was checked when it was received."""
    return Signed.model_validate_json(source if isinstance(source, bytes) else source.reread(name, commit))
