"""What can be asked of a ledger.

A session may last for a million experiments: whatever the loop asks between two of them is answered from an
index, in a time that does not grow with the ledger (``benchmarks/orchestrator.py``).
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

from nightlab.core.events import LedgerEvent, SessionStarted, event_of
from nightlab.core.types import (
    Experiment,
    Goal,
    Measurement,
    Metric,
    NightlabError,
    ProposerShare,
    ProposerUsage,
    Purpose,
    Trial,
)
from nightlab.storage.ledger.tables import COLUMNS, EVENT, experiment_of, trial_row
from nightlab.storage.ledger.used_sources import UsedSources

E = TypeVar("E", bound=LedgerEvent)


class LedgerQueries:
    """The questions to the ledger at ``path``, whose database is open."""

    path: Path
    _db: sqlite3.Connection
    _sources: UsedSources | None = None

    def session(self) -> SessionStarted | None:
        """What holds for the whole session; None in a new ledger."""
        query = f"SELECT {EVENT} FROM events WHERE kind = 'session' ORDER BY seq LIMIT 1"
        found = self.events_of(SessionStarted, query)
        return found[0] if found else None

    @property
    def metric(self) -> Metric:
        """What the session measures, as its contract says."""
        session = self.session()
        metric: dict[str, Any] = session.lab["metric"] if session else {"name": "metric"}
        return Metric(metric["name"], metric.get("goal", "minimise"), metric.get("unit", ""))

    @property
    def imported(self) -> bool:
        """Whether this is the log of another program, in which nothing can run."""
        session = self.session()
        return bool(session and session.imported)

    def events(self, kind: type[E], last: int = -1) -> list[E]:
        """Every event of one kind, or the ``last`` ones, oldest first."""
        query = f"SELECT {EVENT} FROM events WHERE kind = ? ORDER BY seq DESC LIMIT ?"
        return self.events_of(kind, query, kind.kind, last)[::-1]

    def latest(self, kind: type[E]) -> E | None:
        """The last event of a kind; None if there is none."""
        found = self.events(kind, last=1)
        return found[0] if found else None

    def count(self, kind: type[LedgerEvent]) -> int:
        """How many events of a kind there are."""
        return int(self.rows("SELECT count(*) FROM events WHERE kind = ?", kind.kind)[0][0])

    def journal(self, after: int = 0, most: int = -1) -> list[LedgerEvent]:
        """At most ``most`` events after event ``after``, of all kinds, oldest first."""
        query = f"SELECT {EVENT} FROM events WHERE seq > ? ORDER BY seq LIMIT ?"
        return self.events_of(LedgerEvent, query, after, most)

    def events_of(self, kind: type[E], query: str, *args: Any) -> list[E]:
        """The events of a kind in the rows of ``query``, which selects ``EVENT``: for this package only."""
        found = (event_of(name, json.loads(data), seq, at) for seq, at, name, data in self.rows(query, *args))
        return [event for event in found if isinstance(event, kind)]

    def rows(self, query: str, *args: Any) -> list[tuple[Any, ...]]:
        """The rows of a query: for this package only."""
        return self._db.execute(query, args).fetchall()

    def last_event(self) -> int:
        """The number of the last event; 0 in a new ledger."""
        return int(self._db.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0])

    def last_event_at(self) -> float:
        """When the session last recorded anything (seconds since the epoch)."""
        row = self._db.execute("SELECT at FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        return float(row[0]) if row else 0.0

    def next_number(self) -> int:
        return int(self._db.execute("SELECT coalesce(max(number) + 1, 0) FROM experiments").fetchone()[0])

    def experiments(
        self, last: int | None = None, status: str | None = None, proposer: str | None = None
    ) -> list[Experiment]:
        """All experiments in order, or only the ``last`` ones, of one ``status``, of one ``proposer``."""
        tail = f" DESC LIMIT {int(last)}" if last is not None else ""
        given = {"status": status, "json_extract(candidate, '$.proposer')": proposer}
        wanted = {column: value for column, value in given.items() if value is not None}
        where = f" WHERE {' AND '.join(f'{column} = ?' for column in wanted)}" if wanted else ""
        query = f"SELECT {COLUMNS} FROM experiments{where} ORDER BY number{tail}"
        rows = self._db.execute(query, tuple(wanted.values())).fetchall()
        return [experiment_of(row) for row in (reversed(rows) if last is not None else rows)]

    def experiment(self, number: int) -> Experiment:
        """One experiment. Raises NightlabError when there is none of that number."""
        row = self._db.execute(f"SELECT {COLUMNS} FROM experiments WHERE number = ?", (number,)).fetchone()
        if row is None:
            last = self.next_number() - 1
            raise NightlabError(f"there is no experiment {number}: this session has 0 to {last}", "see: nightlab log")
        return experiment_of(row)

    def judged(self, last: int = -1) -> Iterator[Experiment]:
        """The judged experiments, or the ``last`` ones, in the order of their verdicts."""
        newest = "SELECT number FROM experiments WHERE judged_at IS NOT NULL ORDER BY judged_at DESC LIMIT ?"
        query = f"SELECT {COLUMNS} FROM experiments WHERE number IN ({newest}) ORDER BY judged_at"
        everything = f"SELECT {COLUMNS} FROM experiments WHERE judged_at IS NOT NULL ORDER BY judged_at"
        rows = self._db.execute(everything) if last < 0 else self._db.execute(query, (last,))
        return map(experiment_of, rows)

    def outline(self, goal: Goal, best: int, last: int) -> list[Experiment]:
        """The baseline, the ``best`` experiments, as many near misses, and the ``last`` ones: a bounded history.

        The best are those that measured most by the number alone, whatever their verdict. Near misses were discarded,
        and came nearest to the bar of the champion that they were made on.
        """
        order = "" if goal == "minimise" else "DESC"
        rows = self._db.execute(
            f"SELECT {COLUMNS} FROM experiments WHERE number IN (SELECT 0 "
            "UNION SELECT * FROM (SELECT number FROM experiments WHERE metric IS NOT NULL AND status <> 'crash' "
            f"ORDER BY metric {order} LIMIT ?) "
            "UNION SELECT * FROM (SELECT number FROM experiments INDEXED BY experiments_gap "
            f"WHERE gap IS NOT NULL AND status = 'discard' ORDER BY gap {order} LIMIT ?) "
            "UNION SELECT * FROM (SELECT number FROM experiments ORDER BY number DESC LIMIT ?)) ORDER BY number",
            (best, best, last),
        )
        return [experiment_of(row) for row in rows]

    def tally(self) -> Counter[str | None]:
        """How many experiments there are of each status; None counts those that are not judged."""
        rows = self._db.execute("SELECT status, count(*) FROM experiments GROUP BY status")
        return Counter(dict(rows.fetchall()))

    def champion(self, before: float | None = None) -> Experiment | None:
        """The last kept experiment, or the last that was kept ``before`` a time; None if the baseline was not yet."""
        early, at = (" AND judged_at < ?", (before,)) if before is not None else ("", ())
        row = self._db.execute(
            f"SELECT {COLUMNS} FROM experiments WHERE status = 'keep'{early} ORDER BY judged_at DESC, number DESC", at
        ).fetchone()
        return experiment_of(row) if row else None

    def kept(self) -> set[int]:
        """The numbers of all that were kept, the baseline among them."""
        return {number for (number,) in self._db.execute("SELECT number FROM experiments WHERE status = 'keep'")}

    def unjudged(self) -> list[Experiment]:
        rows = self._db.execute(f"SELECT {COLUMNS} FROM experiments WHERE status IS NULL ORDER BY number").fetchall()
        return [experiment_of(row) for row in rows]

    def proposals_by(self, since: int = 0) -> dict[str, int]:
        """How many experiments each proposer has had, from number ``since`` on."""
        if since:
            who = "json_extract(candidate, '$.proposer')"
            query = f"SELECT {who}, count(*) FROM experiments WHERE number >= ? GROUP BY 1"
            return dict(self._db.execute(query, (since,)).fetchall())
        return dict(self._db.execute("SELECT name, experiments FROM proposers").fetchall())

    def refusals_by(self) -> dict[str, int]:
        """How many turns of each proposer became no experiment; read from every refusal."""
        who = "json_extract(data, '$.proposer')"
        query = f"SELECT {who}, COUNT(*) FROM events WHERE kind = 'refused' GROUP BY 1"
        return dict(self._db.execute(query).fetchall())

    def shares(self) -> dict[str, ProposerShare]:
        """What each proposer had so far, the baseline's among them; read from every experiment and every refusal."""
        had = "SELECT json_extract(candidate, '$.proposer') AS who, count(*), sum(status IS 'keep') FROM experiments"
        found = {who: ProposerShare(tried, kept) for who, tried, kept in self._db.execute(f"{had} GROUP BY who")}
        said = "coalesce(json_extract({0}, '$.proposer'), ''), coalesce(json_extract({0}, '$.usage'), '{{}}') AS usage"
        rows = self._db.execute(
            f"SELECT 0, {said.format('candidate')} FROM experiments WHERE usage <> '{{}}' UNION ALL "
            f"SELECT 1, {said.format('data')} FROM events WHERE kind = 'refused'"
        )
        for failed, who, usage in rows:
            share = found.get(who, ProposerShare())
            found[who] = replace(share, failed=share.failed + failed, spent=share.spent.plus(json.loads(usage)))
        return found

    def spent(self) -> ProposerUsage:
        """What all turns together took, as far as it was said."""
        return reduce(ProposerUsage.and_also, (share.spent for share in self.shares().values()), ProposerUsage())

    def sources(self) -> UsedSources:
        """Which entries of proposers' queues had their turn; of use until this ledger is closed."""
        if self._sources is None:
            self._sources = UsedSources(self.path)
        return self._sources

    def by_source(self, source: str) -> Experiment | None:
        """The latest experiment that came from this entry of a proposer's queue, if any."""
        row = self._db.execute(
            f"SELECT {COLUMNS} FROM experiments WHERE json_extract(candidate, '$.source') = ? "
            "AND json_extract(candidate, '$.source') <> '' ORDER BY number DESC",
            (source,),
        ).fetchone()
        return experiment_of(row) if row else None

    def refusal(self, source: str) -> str:
        """Why an entry of a proposer's queue was refused; empty if it was not."""
        row = self._db.execute(
            "SELECT json_extract(data, '$.reason') FROM events INDEXED BY events_source WHERE kind = 'refused' "
            "AND json_extract(data, '$.source') = ? AND json_extract(data, '$.source') <> ''",
            (source,),
        ).fetchone()
        return str(row[0]) if row else ""

    def find_tree(self, tree: str) -> Experiment | None:
        """The experiment that tried exactly this genome, if any."""
        row = self._db.execute(f"SELECT {COLUMNS} FROM experiments WHERE tree = ?", (tree,)).fetchone()
        return experiment_of(row) if row else None

    def find_program(self, program: str) -> Experiment | None:
        """The first experiment that tried a program of this hash, in whatever words, if any."""
        hashed = "json_extract(candidate, '$.program')"
        query = f"SELECT {COLUMNS} FROM experiments WHERE {hashed} = ? AND {hashed} <> '' ORDER BY number LIMIT 1"
        row = self._db.execute(query, (program,)).fetchone()
        return experiment_of(row) if row else None

    def by_commit(self, commit: str) -> Experiment | None:
        """The experiment whose candidate is this commit, if any."""
        query = f"SELECT {COLUMNS} FROM experiments WHERE json_extract(candidate, '$.commit') = ? ORDER BY number"
        row = self._db.execute(query, (commit,)).fetchone()
        return experiment_of(row) if row else None

    def trials(
        self, experiment: int | None = None, purpose: Purpose | None = None, since: int = 0, last: int = -1
    ) -> list[tuple[Trial, Measurement | None]]:
        """All trials after the first ``since``, or those of one experiment or purpose, in the order of their starts.

        ``last``: at most this number, the latest ones.
        """
        asked = {"experiment": experiment, "purpose": purpose, "since": since, "last": last}
        names = [name for name in ("experiment", "purpose") if asked[name] is not None]
        where = " AND ".join(["rowid > :since", *(f"{name} = :{name}" for name in names)])
        query = f"SELECT trial, measurement FROM trials WHERE {where} ORDER BY rowid DESC LIMIT :last"
        return [trial_row(row) for row in reversed(self._db.execute(query, asked).fetchall())]

    def attempts(self, experiment: int, purpose: Purpose, seed: int) -> int:
        """How many trials of an experiment have started for a purpose with a seed."""
        query = "SELECT count(*) FROM trials WHERE experiment = ? AND purpose = ? AND seed = ?"
        return int(self._db.execute(query, (experiment, purpose, seed)).fetchone()[0])

    def repeats(self, last: int) -> list[tuple[int, Trial, Measurement | None]]:
        """The ``last`` trials of genomes that had run before, with the first trial of each, and the baseline's.

        Each comes with its place in the order of all starts, from 1. Replays are no repeats.
        """
        rows = self._db.execute(
            "WITH repeats AS (SELECT rowid AS place, genome FROM trials WHERE again = 1 ORDER BY rowid DESC LIMIT ?) "
            "SELECT rowid, trial, measurement FROM trials WHERE rowid IN (SELECT place FROM repeats "
            "UNION SELECT (SELECT min(rowid) FROM trials WHERE genome = found.genome) "
            "FROM (SELECT DISTINCT genome FROM repeats) AS found "
            "UNION SELECT rowid FROM trials WHERE experiment = 0 AND purpose = 'search') ORDER BY rowid",
            (last,),
        )
        return [(place, *trial_row((trial, measurement))) for place, trial, measurement in rows]

    def tells_noise(self, trial_id: str) -> bool:
        """Whether the noise may be known better after a trial: its genome had run before, or is the baseline's."""
        row = self._db.execute("SELECT again OR experiment = 0 FROM trials WHERE id = ?", (trial_id,)).fetchone()
        return bool(row and row[0])

    def trials_before(self, trial_id: str | None = None) -> int:
        """How many trials started before this one, or until now: what ``since`` leaves out."""
        where, args = (" WHERE id = ?", (trial_id,)) if trial_id else ("", ())
        row = self._db.execute(f"SELECT max(rowid) FROM trials{where}", args).fetchone()
        return (row[0] or 0) - (1 if trial_id else 0)

    def open_trials(self) -> list[Trial]:
        """Trials that started and have not been recorded as finished."""
        rows = self._db.execute("SELECT trial, NULL FROM trials WHERE measurement IS NULL ORDER BY rowid")
        return [trial_row(row)[0] for row in rows]
