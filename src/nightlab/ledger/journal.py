"""The ledger: append-only events in SQLite, and two tables that are a fold of them.

Every change is one event, written together with its effect on the tables in one transaction, so a kill
at any instant leaves the event and its effect both there or both absent. ``rebuild`` makes the tables
again from the events alone.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nightlab.records import (
    Budget,
    Candidate,
    Evidence,
    Experiment,
    Measurement,
    NightlabError,
    PairedGain,
    Purpose,
    Trial,
    Verdict,
)

VERSION = 2

SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, data TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS experiments (
    number INTEGER PRIMARY KEY, proposed_at REAL, tree TEXT, candidate TEXT,
    measurement TEXT, verdict TEXT, status TEXT, metric REAL, judged_at REAL, bar REAL, evidence TEXT
);
CREATE INDEX IF NOT EXISTS events_kind ON events (kind);
CREATE INDEX IF NOT EXISTS experiments_tree ON experiments (tree);
CREATE INDEX IF NOT EXISTS experiments_judged ON experiments (status, judged_at, number);
CREATE INDEX IF NOT EXISTS experiments_commit ON experiments (json_extract(candidate, '$.commit'));
CREATE TABLE IF NOT EXISTS trials (
    id TEXT PRIMARY KEY, experiment INTEGER, purpose TEXT, trial TEXT, measurement TEXT
);
CREATE INDEX IF NOT EXISTS trials_experiment ON trials (experiment);
CREATE INDEX IF NOT EXISTS trials_open ON trials (id) WHERE measurement IS NULL;
"""


class Ledger:
    """One session's journal at ``path``. One writer; readers may look at any time.

    Raises NightlabError when the file is damaged or was written by a newer nightlab.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        if read_only and not path.exists():
            raise NightlabError(f"there is no ledger at {path}", "start a session: nightlab run")
        try:
            self._db = self._open(read_only)
        except sqlite3.DatabaseError as error:
            raise NightlabError(
                f"the ledger {path} can't be opened: {error}",
                "restore it from a backup, or move it away and start a new session: nightlab run --tag NEW",
            ) from error

    def _open(self, read_only: bool) -> sqlite3.Connection:
        mode = "ro" if read_only else "rwc"
        uri = f"{self.path.absolute().as_uri()}?mode={mode}"
        db = sqlite3.connect(uri, uri=True, timeout=30, isolation_level=None)
        found = db.execute("PRAGMA user_version").fetchone()[0]
        if found > VERSION:
            raise NightlabError(
                f"the ledger {self.path} was written by a newer nightlab (format {found}, this one reads {VERSION})",
                "upgrade: pip install --upgrade nightlab",
            )
        if read_only:
            db.execute("SELECT 1 FROM events LIMIT 1")  # an empty file is a database too
            if found < VERSION:
                raise NightlabError(
                    f"the ledger {self.path} was written by an older nightlab (format {found})",
                    "let it be brought up to date, which loses nothing: nightlab run --experiments 1",
                )
        else:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            if 0 < found < VERSION:  # the tables are a fold of the events, which never change
                db.executescript("BEGIN; DROP TABLE experiments; DROP TABLE trials; COMMIT")
            db.executescript(SCHEMA)
            if 0 < found < VERSION:
                _fold(db)
            db.execute(f"PRAGMA user_version = {VERSION}")
        return db

    def close(self) -> None:
        self._db.close()

    # -- writing ---------------------------------------------------------------------------------

    def open_session(self, facts: dict[str, Any]) -> None:
        """Record what holds for the whole session (tag, base commit, contract, platform, …)."""
        self._append("session", facts)

    def propose(self, candidate: Candidate) -> int:
        """Record a candidate and return its experiment number (the baseline is 0)."""
        number = self.next_number()
        self._append("proposed", {"number": number, "candidate": asdict(candidate)})
        return number

    def start(self, trial: Trial) -> None:
        """Record that a trial is about to start."""
        self._append("started", asdict(trial))

    def finish(self, trial: Trial, measurement: Measurement) -> None:
        """Record what a trial yielded."""
        self._append("finished", {"id": trial.id, "measurement": measurement.to_dict()})

    def judge(self, number: int, measurement: Measurement, verdict: Verdict) -> None:
        """Record the verdict on an experiment. A keep moves the champion."""
        data = {"number": number, "measurement": measurement.to_dict(), "verdict": asdict(verdict)}
        self._append("judged", data)

    def remeasure(self, number: int, bar: float, facts: dict[str, Any]) -> None:
        """Record that a champion was measured again, and its new bar."""
        self._append("upkeep", {"number": number, "bar": bar, **facts})

    def show(self, number: int, evidence: Evidence) -> None:
        """Record how far the gain of an experiment has been shown."""
        self._append("evidence", {"number": number, "evidence": asdict(evidence)})

    def note(self, kind: str, data: dict[str, Any]) -> None:
        """Record something that changes no experiment: a failed proposal, a stop, a confirmed result."""
        self._append(kind, data)

    def _append(self, kind: str, data: dict[str, Any]) -> None:
        try:
            with self._transaction():
                # The order of events is what counts: a clock that was set back must not undo a keep.
                at = max(time.time(), self.last_event_at() + 1e-6)
                self._db.execute("INSERT INTO events (at, kind, data) VALUES (?, ?, ?)", (at, kind, json.dumps(data)))
                _apply(self._db, kind, data, at)
        except sqlite3.OperationalError as error:
            raise NightlabError(
                f"the ledger {self.path} can't be written: {error}",
                "free disk space or mend the folder's permissions, then run the same command: it resumes",
            ) from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def rebuild(self) -> None:
        """Make the tables again from the events alone."""
        with self._transaction():
            self._db.execute("DELETE FROM experiments")
            self._db.execute("DELETE FROM trials")
            _fold(self._db)

    # -- reading ---------------------------------------------------------------------------------

    def session(self) -> dict[str, Any] | None:
        """The facts given to ``open_session``, or None in a new ledger."""
        row = self._db.execute("SELECT data FROM events WHERE kind = 'session' ORDER BY seq").fetchone()
        return json.loads(row[0]) if row else None

    def notes(self, kind: str) -> list[dict[str, Any]]:
        """The data of every event of one kind, oldest first, each with its time as ``at``."""
        rows = self._db.execute("SELECT data, at FROM events WHERE kind = ? ORDER BY seq", (kind,))
        return [{**json.loads(data), "at": at} for data, at in rows]

    def last_event_at(self) -> float:
        """When the session last recorded anything (seconds since the epoch)."""
        row = self._db.execute("SELECT at FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        return float(row[0]) if row else 0.0

    def next_number(self) -> int:
        return int(self._db.execute("SELECT coalesce(max(number) + 1, 0) FROM experiments").fetchone()[0])

    def experiments(self, last: int | None = None, status: str | None = None) -> list[Experiment]:
        """All experiments in order, or only the ``last`` ones, or those of one ``status``."""
        tail = f" DESC LIMIT {int(last)}" if last is not None else ""
        where, args = ("", ()) if status is None else (" WHERE status = ?", (status,))
        query = f"SELECT {_COLUMNS} FROM experiments{where} ORDER BY number{tail}"
        rows = self._db.execute(query, args).fetchall()
        return [_experiment(row) for row in (reversed(rows) if last is not None else rows)]

    def experiment(self, number: int) -> Experiment:
        """One experiment. Raises NightlabError when there is none of that number."""
        row = self._db.execute(f"SELECT {_COLUMNS} FROM experiments WHERE number = ?", (number,)).fetchone()
        if row is None:
            last = self.next_number() - 1
            raise NightlabError(f"there is no experiment {number}: this session has 0 to {last}", "see: nightlab log")
        return _experiment(row)

    def champion(self) -> Experiment | None:
        """The last kept experiment, or None before the baseline is judged."""
        row = self._db.execute(
            f"SELECT {_COLUMNS} FROM experiments WHERE status = 'keep' ORDER BY judged_at DESC, number DESC"
        ).fetchone()
        return _experiment(row) if row else None

    def unjudged(self) -> list[Experiment]:
        rows = self._db.execute(f"SELECT {_COLUMNS} FROM experiments WHERE status IS NULL ORDER BY number").fetchall()
        return [_experiment(row) for row in rows]

    def proposals_by(self) -> dict[str, int]:
        """How many experiments each proposer has had."""
        rows = self._db.execute("SELECT json_extract(candidate, '$.proposer'), count(*) FROM experiments GROUP BY 1")
        return dict(rows.fetchall())

    def find_tree(self, tree: str) -> Experiment | None:
        """The experiment that tried exactly this genome, if any."""
        row = self._db.execute(f"SELECT {_COLUMNS} FROM experiments WHERE tree = ?", (tree,)).fetchone()
        return _experiment(row) if row else None

    def by_commit(self, commit: str) -> Experiment | None:
        """The experiment whose candidate is this commit, if any."""
        query = f"SELECT {_COLUMNS} FROM experiments WHERE json_extract(candidate, '$.commit') = ? ORDER BY number"
        row = self._db.execute(query, (commit,)).fetchone()
        return _experiment(row) if row else None

    def trials(
        self, experiment: int | None = None, purpose: Purpose | None = None, since: int = 0
    ) -> list[tuple[Trial, Measurement | None]]:
        """All trials after the first ``since``, or those of one experiment or purpose, in the order of their starts."""
        asked = {"experiment": experiment, "purpose": purpose, "since": since}
        where = [f"{name} = :{name}" for name in ("experiment", "purpose") if asked[name] is not None]
        query = f"SELECT trial, measurement FROM trials WHERE {' AND '.join(['rowid > :since', *where])} ORDER BY rowid"
        return [_trial(row) for row in self._db.execute(query, asked)]

    def trials_before(self, trial_id: str | None = None) -> int:
        """How many trials started before this one, or until now: what ``since`` leaves out."""
        where, args = (" WHERE id = ?", (trial_id,)) if trial_id else ("", ())
        row = self._db.execute(f"SELECT max(rowid) FROM trials{where}", args).fetchone()
        return (row[0] or 0) - (1 if trial_id else 0)

    def open_trials(self) -> list[Trial]:
        """Trials that started and have not been recorded as finished."""
        rows = self._db.execute("SELECT trial, NULL FROM trials WHERE measurement IS NULL ORDER BY rowid")
        return [_trial(row)[0] for row in rows]


def _apply(db: sqlite3.Connection, kind: str, data: dict[str, Any], at: float) -> None:
    if kind == "proposed":
        db.execute(
            "INSERT INTO experiments (number, proposed_at, tree, candidate) VALUES (?, ?, ?, ?)",
            (data["number"], at, data["candidate"]["tree"], json.dumps(data["candidate"])),
        )
    elif kind == "started":
        db.execute(
            "INSERT INTO trials (id, experiment, purpose, trial) VALUES (?, ?, ?, ?)",
            (data["id"], data["experiment"], data["purpose"], json.dumps(data)),
        )
    elif kind == "finished":
        db.execute(
            "UPDATE trials SET measurement = ? WHERE id = ?",
            (json.dumps(data["measurement"]), data["id"]),
        )
    elif kind == "judged":
        db.execute(
            "UPDATE experiments SET measurement = ?, verdict = ?, status = ?, metric = ?, judged_at = ?, bar = ? "
            "WHERE number = ?",
            (
                json.dumps(data["measurement"]),
                json.dumps(data["verdict"]),
                data["verdict"]["status"],
                data["measurement"]["metric"],
                at,
                data["verdict"].get("bar"),
                data["number"],
            ),
        )
    elif kind == "upkeep":
        db.execute("UPDATE experiments SET bar = ? WHERE number = ?", (data["bar"], data["number"]))
    elif kind == "evidence":
        db.execute(
            "UPDATE experiments SET evidence = json_insert(coalesce(evidence, '[]'), '$[#]', json(?)) WHERE number = ?",
            (json.dumps(data["evidence"]), data["number"]),
        )


def _fold(db: sqlite3.Connection) -> None:
    for kind, data, at in db.execute("SELECT kind, data, at FROM events ORDER BY seq").fetchall():
        _apply(db, kind, json.loads(data), at)


_COLUMNS = "number, proposed_at, candidate, measurement, verdict, judged_at, bar, evidence"


def _experiment(row: tuple[Any, ...]) -> Experiment:
    number, proposed_at, candidate, measurement, verdict, judged_at, bar, evidence = row
    facts = json.loads(candidate)
    facts["changes"] = tuple(facts["changes"])
    return Experiment(
        number=number,
        candidate=Candidate(**facts),
        proposed_at=proposed_at,
        measurement=Measurement.from_dict(json.loads(measurement)) if measurement else None,
        verdict=Verdict(**json.loads(verdict)) if verdict else None,
        judged_at=judged_at,
        bar=bar,
        evidence=tuple(map(_evidence, json.loads(evidence or "[]"))),
    )


def _evidence(facts: dict[str, Any]) -> Evidence:
    held_out = PairedGain(**facts["held_out"]) if facts["held_out"] else None
    gain = PairedGain(**facts["gain"])
    return Evidence(**{**facts, "seeds": tuple(facts["seeds"]), "gain": gain, "held_out": held_out})


def _trial(row: tuple[Any, ...]) -> tuple[Trial, Measurement | None]:
    facts = json.loads(row[0])
    facts["budget"] = Budget(**facts["budget"])
    return Trial(**facts), Measurement.from_dict(json.loads(row[1])) if row[1] else None
