"""What was checked of the commons, in SQLite, so that no process reads and checks a record again.

Derived from the chains in git, which alone decide what counts: it may be missing, of another version, damaged or
behind at any time, and is made anew then. Nothing here is ever more than a kill or a full disk from being rebuilt.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

VERSION = 1  # of the tables, and of what a checked record passed: raise it when a check becomes stricter
WAIT = 5.0  # seconds for another process that writes
SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    author TEXT NOT NULL, seq INTEGER NOT NULL, id TEXT NOT NULL, place TEXT NOT NULL, kind TEXT NOT NULL,
    made TEXT NOT NULL, raw BLOB NOT NULL, PRIMARY KEY (author, seq)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_id ON records (id);
"""


class CheckedRecord(NamedTuple):
    """A record that passed all checks, with the commit that holds it and what it is looked up by."""

    author: str
    seq: int
    id: str
    commit: str
    kind: str
    made: str
    """The genome that a kept finding made; else empty."""


class RecordIndex:
    """The index in the file ``path``. No method raises: what can't be read or written is as if it were not there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db: sqlite3.Connection | None = None
        with contextlib.suppress(sqlite3.Error, OSError):
            try:
                self._db = self._open()
            except sqlite3.DatabaseError:
                self.clear()

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=WAIT, isolation_level=None, check_same_thread=False)
        with contextlib.suppress(OSError):
            self.path.chmod(0o600)
        found = db.execute("PRAGMA user_version").fetchone()[0]
        if found not in (0, VERSION):
            db.close()
            raise sqlite3.DatabaseError("of another version")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        if not found:
            db.executescript(SCHEMA)
            db.execute(f"PRAGMA user_version = {VERSION}")
        return db

    def clear(self) -> None:
        """Start anew, without any record."""
        if self._db:
            self._db.close()
        self._db = None
        with contextlib.suppress(sqlite3.Error, OSError):
            for end in ("", "-wal", "-shm"):
                self.path.with_name(self.path.name + end).unlink(missing_ok=True)
            self._db = self._open()

    def chains(self, authors: Sequence[str] | None = None) -> Iterator[tuple[str, list[CheckedRecord]]]:
        """The records of each of these authors (default: all), in order. A chain with a gap ends there."""
        what = "SELECT author, seq, id, place, kind, made FROM records"
        for some in [None] if authors is None else [[author] for author in authors]:
            where = "" if some is None else " WHERE author = ?"
            rows = self._rows(f"{what}{where} ORDER BY author, seq", some or ())
            for author, chain in groupby(map(CheckedRecord._make, rows), key=lambda row: row.author):
                yield author, [row for n, row in enumerate(chain) if row.seq == n]

    def raw(self, name: str) -> bytes:
        """The bytes of the record with this id, which the caller verifies; empty if it is not here."""
        found = next(self._rows("SELECT raw FROM records WHERE id = ?", (name,)), None)
        return found[0] if found and isinstance(found[0], bytes) else b""

    def add(self, records: Iterable[tuple[CheckedRecord, bytes]]) -> None:
        """Add records with their bytes, all of them or none."""
        rows = [(*record, raw) for record, raw in records]
        if self._db is None or not rows:
            return
        with contextlib.suppress(sqlite3.Error), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def forget(self, author: str) -> None:
        """Remove an author's records."""
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("DELETE FROM records WHERE author = ?", (author,))

    def _rows(self, query: str, values: Sequence[str]) -> Iterator[tuple[object, ...]]:
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                yield from self._db.execute(query, values)
