"""The ledger's tables: their schema, what each event does to them, and records read from their rows."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict
from typing import Any

from nightlab.core.events import (
    EvidenceShown,
    Judged,
    LedgerEvent,
    Proposed,
    Rechecked,
    TrialFinished,
    TrialStarted,
    candidate_of,
    event_of,
    evidence_of,
    trial_of,
    verdict_of,
)
from nightlab.core.types import Experiment, Measurement, Trial

# The format, as the file's ``user_version`` says it. A program of an older major can't read the events or the tables;
# one of an older minor can, and skips the keys and the kinds of events that it does not know.
MAJOR, MINOR = 4, 0
VERSION = MAJOR | MINOR << 16
TABLES = ("experiments", "proposers", "trials")  # what is made of the events

# Events that tell of something wrong, the orders and the alarms not among them.
TROUBLE = (
    "kind IN ('slot lost', 'cluster', 'machine', 'hook before', 'hook after') "
    "AND coalesce(json_extract(data, '$.fault'), json_extract(data, '$.why'), '') <> ''"
)

SCHEMA = f"""
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, data TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS experiments (
    number INTEGER PRIMARY KEY, proposed_at REAL, tree TEXT, candidate TEXT,
    measurement TEXT, verdict TEXT, status TEXT, metric REAL, judged_at REAL, bar REAL, evidence TEXT, gap REAL
);
CREATE INDEX IF NOT EXISTS events_kind ON events (kind);
CREATE INDEX IF NOT EXISTS events_trouble ON events (seq) WHERE {TROUBLE};
CREATE INDEX IF NOT EXISTS events_source ON events (json_extract(data, '$.source'))
    WHERE kind = 'refused' AND json_extract(data, '$.source') <> '';
CREATE INDEX IF NOT EXISTS experiments_tree ON experiments (tree);
CREATE INDEX IF NOT EXISTS experiments_judged ON experiments (status, judged_at, number);
CREATE INDEX IF NOT EXISTS experiments_commit ON experiments (json_extract(candidate, '$.commit'));
CREATE INDEX IF NOT EXISTS experiments_program ON experiments (json_extract(candidate, '$.program'))
    WHERE json_extract(candidate, '$.program') <> '';
CREATE INDEX IF NOT EXISTS experiments_order ON experiments (judged_at);
CREATE INDEX IF NOT EXISTS experiments_metric ON experiments (metric) WHERE status <> 'crash';
CREATE INDEX IF NOT EXISTS experiments_gap ON experiments (gap) WHERE status = 'discard';
CREATE INDEX IF NOT EXISTS experiments_source ON experiments (json_extract(candidate, '$.source'))
    WHERE json_extract(candidate, '$.source') <> '';
CREATE TABLE IF NOT EXISTS proposers (name TEXT PRIMARY KEY, experiments INTEGER);
CREATE TABLE IF NOT EXISTS trials (
    id TEXT PRIMARY KEY, experiment INTEGER, purpose TEXT, seed INTEGER, genome TEXT, again INTEGER,
    trial TEXT, measurement TEXT
);
CREATE INDEX IF NOT EXISTS trials_purpose ON trials (experiment, purpose);
CREATE INDEX IF NOT EXISTS trials_seed ON trials (experiment, purpose, seed);
CREATE INDEX IF NOT EXISTS trials_genome ON trials (genome);
CREATE INDEX IF NOT EXISTS trials_again ON trials (again) WHERE again = 1;
CREATE INDEX IF NOT EXISTS trials_open ON trials (measurement) WHERE measurement IS NULL;
"""

EVENT = "seq, at, kind, data"
COLUMNS = "number, proposed_at, candidate, measurement, verdict, judged_at, bar, evidence, gap"


def apply(db: sqlite3.Connection, event: LedgerEvent, at: float) -> None:
    """Have one event's effect on the tables."""
    match event:
        case Proposed():
            _proposed(db, event, at)
        case TrialStarted():
            _started(db, event.to_dict())
        case TrialFinished():
            measured = json.dumps(event.measurement.to_dict())
            db.execute("UPDATE trials SET measurement = ? WHERE id = ?", (measured, event.id))
        case Judged():
            _judged(db, event, at)
        case Rechecked():
            db.execute("UPDATE experiments SET bar = ? WHERE number = ?", (event.bar, event.number))
        case EvidenceShown():
            db.execute(
                "UPDATE experiments SET evidence = json_insert(coalesce(evidence, '[]'), '$[#]', json(?)) "
                "WHERE number = ?",
                (json.dumps(asdict(event.evidence)), event.number),
            )


def _proposed(db: sqlite3.Connection, event: Proposed, at: float) -> None:
    candidate = event.candidate
    db.execute(
        "INSERT INTO experiments (number, proposed_at, tree, candidate) VALUES (?, ?, ?, ?)",
        (event.number, at, candidate.tree, json.dumps(asdict(candidate))),
    )
    db.execute(
        "INSERT INTO proposers VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET experiments = experiments + 1",
        (candidate.proposer,),
    )


def _started(db: sqlite3.Connection, trial: dict[str, Any]) -> None:
    db.execute(
        "INSERT INTO trials (id, experiment, purpose, seed, genome, again, trial) "
        "VALUES (:id, :experiment, :purpose, :seed, :commit, "
        ":purpose NOT IN ('replay', 'population') AND EXISTS (SELECT 1 FROM trials WHERE genome = :commit), :trial)",
        {**trial, "trial": json.dumps(trial)},
    )


def _judged(db: sqlite3.Connection, event: Judged, at: float) -> None:
    verdict, measured = event.verdict, event.measurement
    db.execute(
        "UPDATE experiments SET measurement = ?, verdict = ?, status = ?, metric = ?, judged_at = ?, bar = ?, "
        "gap = ?4 - (SELECT parent.bar FROM experiments AS parent "
        "WHERE json_extract(parent.candidate, '$.commit') = json_extract(experiments.candidate, '$.parent')) "
        "WHERE number = ?",
        (
            json.dumps(measured.to_dict()),
            json.dumps(asdict(verdict)),
            verdict.status,
            measured.metric,
            at,
            verdict.bar,
            event.number,
        ),
    )


def rebuild(db: sqlite3.Connection) -> None:
    """Make the tables again, as they are now, from the events alone, which never change."""
    db.executescript("".join(f"DROP TABLE IF EXISTS {table};" for table in TABLES) + SCHEMA)
    db.execute("BEGIN IMMEDIATE")
    for seq, at, kind, data in db.execute(f"SELECT {EVENT} FROM events ORDER BY seq"):
        apply(db, event_of(kind, json.loads(data), seq, at), at)
    db.execute("COMMIT")


def experiment_of(row: tuple[Any, ...]) -> Experiment:
    """The experiment in a row of ``COLUMNS``."""
    number, proposed_at, candidate, measurement, verdict, judged_at, bar, evidence, gap = row
    return Experiment(
        number=number,
        candidate=candidate_of(json.loads(candidate)),
        proposed_at=proposed_at,
        measurement=Measurement.from_dict(json.loads(measurement)) if measurement else None,
        verdict=verdict_of(json.loads(verdict)) if verdict else None,
        judged_at=judged_at,
        bar=bar,
        evidence=tuple(map(evidence_of, json.loads(evidence or "[]"))),
        gap=gap,
    )


def trial_row(row: tuple[Any, ...]) -> tuple[Trial, Measurement | None]:
    """The trial in a row, and what it yielded, both as JSON."""
    return trial_of(json.loads(row[0])), Measurement.from_dict(json.loads(row[1])) if row[1] else None
