"""The ledger: append-only events in SQLite, and three tables that are a fold of them.

Every change is one event, written together with its effect on the tables in one transaction, so a kill
at any instant leaves the event and its effect both there or both absent. The tables can be made again
from the events alone, and are when their form has changed.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from nightlab.core.events import Judged, LedgerEvent, Proposed, TrialFinished, TrialStarted
from nightlab.core.types import Candidate, Measurement, NightlabError, Trial, Verdict
from nightlab.storage.ledger.queries import LedgerQueries
from nightlab.storage.ledger.tables import MAJOR, MINOR, SCHEMA, VERSION, apply, rebuild


class Ledger(LedgerQueries):
    """One session's journal at ``path``. One writer; readers may look at any time. ``clock``: what time it is.

    Raises NightlabError when the file is damaged or was written by a newer nightlab.
    """

    def __init__(self, path: Path, *, read_only: bool = False, clock: Callable[[], float] = time.time) -> None:
        self.path, self.clock = path, clock
        if read_only and not path.exists():
            raise NightlabError(f"there is no ledger at {path}", "start a session: nightlab run")
        try:
            self._db = self._open(read_only)
            self._inode = path.stat().st_ino
        except sqlite3.DatabaseError as error:
            raise NightlabError(
                f"the ledger {path} can't be opened: {error}",
                "restore it from a backup, or move it away and start a new session: nightlab run --tag NEW",
            ) from error

    def _open(self, read_only: bool) -> sqlite3.Connection:
        mode = "ro" if read_only else "rwc"
        uri = f"{self.path.absolute().as_uri()}?mode={mode}"
        # One thread at a time uses it, though not always the one that opened it.
        db = sqlite3.connect(uri, uri=True, timeout=30, isolation_level=None, check_same_thread=False)
        version = db.execute("PRAGMA user_version").fetchone()[0]
        found, minor = version & 0xFFFF, version >> 16
        if found > MAJOR:
            raise NightlabError(
                f"the ledger {self.path} was written by a newer nightlab (format {found}, this one reads {MAJOR})",
                "upgrade: pip install --upgrade nightlab",
            )
        if read_only:
            db.execute("SELECT 1 FROM events LIMIT 1")  # an empty file is a database too
            if found < MAJOR:
                raise NightlabError(
                    f"the ledger {self.path} was written by an older nightlab (format {found})",
                    "let it be brought up to date, which loses nothing: nightlab run --experiments 1",
                )
        else:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            if 0 < found < MAJOR:
                rebuild(db)
            else:
                db.executescript(SCHEMA)
            if (found, minor) < (MAJOR, MINOR):
                db.execute(f"PRAGMA user_version = {VERSION}")
        return db

    def close(self) -> None:
        if self._sources:
            self._sources.close()
        self._db.close()  # the last one: then SQLite writes its journal back into the file

    def is_there(self) -> bool:
        """Whether the file that it was opened from is still in its place."""
        try:
            return self.path.stat().st_ino == self._inode
        except (FileNotFoundError, NotADirectoryError):
            return False

    def write_back(self) -> None:
        """Write the whole database into its place again, from where its file was removed, and go on there."""
        draft = self.path.with_name(f"{self.path.name}.new")
        with closing(sqlite3.connect(draft)) as copy:
            self._db.backup(copy)
        os.replace(draft, self.path)
        self._db.close()
        self._db, self._inode = self._open(False), self.path.stat().st_ino

    # -- writing ---------------------------------------------------------------------------------

    def propose(self, candidate: Candidate) -> int:
        """Record a candidate and return its experiment number (the baseline is 0)."""
        number = self.next_number()
        self.append(Proposed(number, candidate))
        return number

    def start(self, trial: Trial) -> None:
        """Record that a trial is about to start."""
        self.append(TrialStarted(trial))

    def finish(self, trial: Trial, measurement: Measurement) -> None:
        """Record what a trial yielded."""
        self.append(TrialFinished(trial.id, measurement))

    def judge(self, number: int, measurement: Measurement, verdict: Verdict) -> None:
        """Record the verdict on an experiment. A keep moves the champion."""
        self.append(Judged(number, measurement, verdict))

    def append(self, event: LedgerEvent) -> None:
        """Record an event. Raises NightlabError when the file can't be written."""
        data = json.dumps(event.to_dict())
        try:
            with self.at_once():
                # The order of events is what counts: a clock that was set back must not undo a keep.
                at = max(self.clock(), self.last_event_at() + 1e-6)
                self._db.execute("INSERT INTO events (at, kind, data) VALUES (?, ?, ?)", (at, event.kind, data))
                apply(self._db, event, at)
        except sqlite3.OperationalError as error:
            raise NightlabError(
                f"the ledger {self.path} can't be written: {error}",
                "free disk space or fix the folder's permissions, then run the same command: it resumes",
            ) from error

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Write what happens within as one: all of it will be there, or nothing."""
        if self._db.in_transaction:
            yield
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
