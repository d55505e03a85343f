"""The ledger's tables: their schema, what each event does to them, and records read from their rows."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import fields
from typing import Any

from nightlab.core.types import Budget, Candidate, Evidence, Experiment, Measurement, PairedGain, Trial, Verdict

VERSION = 4
TABLES = ("experiments", "proposers", "trials")  # what is made of the events

SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, data TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS experiments (
    number INTEGER PRIMARY KEY, proposed_at REAL, tree TEXT, candidate TEXT,
    measurement TEXT, verdict TEXT, status TEXT, metric REAL, judged_at REAL, bar REAL, evidence TEXT, gap REAL
);
CREATE INDEX IF NOT EXISTS events_kind ON events (kind);
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

CANDIDATE = tuple(field.name for field in fields(Candidate))
COLUMNS = "number, proposed_at, candidate, measurement, verdict, judged_at, bar, evidence, gap"


def apply(db: sqlite3.Connection, kind: str, data: dict[str, Any], at: float) -> None:
    """Have one event's effect on the tables."""
    if kind == "proposed":
        db.execute(
            "INSERT INTO experiments (number, proposed_at, tree, candidate) VALUES (?, ?, ?, ?)",
            (data["number"], at, data["candidate"]["tree"], json.dumps(data["candidate"])),
        )
        db.execute(
            "INSERT INTO proposers VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET experiments = experiments + 1",
            (data["candidate"]["proposer"],),
        )
    elif kind == "started":
        db.execute(
            "INSERT INTO trials (id, experiment, purpose, seed, genome, again, trial) "
            "VALUES (:id, :experiment, :purpose, :seed, :commit, "
            ":purpose <> 'replay' AND EXISTS (SELECT 1 FROM trials WHERE genome = :commit), :trial)",
            {**data, "trial": json.dumps(data)},
        )
    elif kind == "finished":
        db.execute(
            "UPDATE trials SET measurement = ? WHERE id = ?",
            (json.dumps(data["measurement"]), data["id"]),
        )
    elif kind == "judged":
        db.execute(
            "UPDATE experiments SET measurement = ?, verdict = ?, status = ?, metric = ?, judged_at = ?, bar = ?, "
            "gap = ?4 - (SELECT parent.bar FROM experiments AS parent "
            "WHERE json_extract(parent.candidate, '$.commit') = json_extract(experiments.candidate, '$.parent')) "
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


def rebuild(db: sqlite3.Connection) -> None:
    """Make the tables again, as they are now, from the events alone, which never change."""
    db.executescript("".join(f"DROP TABLE IF EXISTS {table};" for table in TABLES) + SCHEMA)
    db.execute("BEGIN IMMEDIATE")
    for kind, data, at in db.execute("SELECT kind, data, at FROM events ORDER BY seq"):
        apply(db, kind, json.loads(data), at)
    db.execute("COMMIT")


def experiment_of(row: tuple[Any, ...]) -> Experiment:
    """The experiment in a row of ``COLUMNS``."""
    number, proposed_at, candidate, measurement, verdict, judged_at, bar, evidence, gap = row
    said = json.loads(candidate)
    facts = {name: said[name] for name in CANDIDATE if name in said}  # a newer nightlab may say more of it
    facts["changes"], facts["theme"] = tuple(facts["changes"]), tuple(facts.get("theme", ()))
    return Experiment(
        number=number,
        candidate=Candidate(**facts),
        proposed_at=proposed_at,
        measurement=Measurement.from_dict(json.loads(measurement)) if measurement else None,
        verdict=Verdict(**json.loads(verdict)) if verdict else None,
        judged_at=judged_at,
        bar=bar,
        evidence=tuple(map(_evidence, json.loads(evidence or "[]"))),
        gap=gap,
    )


def _evidence(facts: dict[str, Any]) -> Evidence:
    held_out = PairedGain(**facts["held_out"]) if facts["held_out"] else None
    gain = PairedGain(**facts["gain"])
    return Evidence(**{**facts, "seeds": tuple(facts["seeds"]), "gain": gain, "held_out": held_out})


def trial_of(row: tuple[Any, ...]) -> tuple[Trial, Measurement | None]:
    """The trial in a row, and what it yielded, both as JSON."""
    facts = json.loads(row[0])
    facts["budget"] = Budget(**facts["budget"])
    return Trial(**facts), Measurement.from_dict(json.loads(row[1])) if row[1] else None
