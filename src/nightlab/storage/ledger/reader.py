"""A ledger as windows read it: while it is written, in short looks, and never as a whole when a part will do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nightlab.storage.ledger.ledger import Event, Ledger


class LedgerReader(Ledger):
    """The ledger at ``path``, for looking at only. Its connection belongs to the thread that opened it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, read_only=True)

    @contextmanager
    def moment(self) -> Iterator[None]:
        """Whatever is read in here is of one moment; the writer goes on meanwhile."""
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("COMMIT")

    def latest(self, kind: str) -> Event | None:
        """The last event of a kind."""
        query = "SELECT seq, at, kind, data FROM events WHERE kind = ? ORDER BY seq DESC LIMIT 1"
        row = self._db.execute(query, (kind,)).fetchone()
        return Event(row[0], row[1], row[2], json.loads(row[3])) if row else None

    def count(self, kind: str) -> int:
        return int(self._db.execute("SELECT count(*) FROM events WHERE kind = ?", (kind,)).fetchone()[0])

    def keeps(self) -> list[tuple[int, float]]:
        """Every kept experiment that has a number, in the order of the verdicts: which one, and its bar (or metric)."""
        value = "coalesce(bar, metric)"
        return self._db.execute(
            f"SELECT number, {value} FROM experiments WHERE status = 'keep' AND {value} IS NOT NULL "
            "ORDER BY judged_at, number"
        ).fetchall()

    def numbered(self, commit: str) -> int | None:
        """The number of the experiment whose candidate is this commit, if any."""
        query = "SELECT number FROM experiments WHERE json_extract(candidate, '$.commit') = ? ORDER BY number"
        row = self._db.execute(query, (commit,)).fetchone()
        return int(row[0]) if row else None

    def trained(self, after: int) -> list[tuple[float, float]]:
        """When each trial ended that was recorded after an event, and how many seconds it had trained."""
        return self._db.execute(
            "SELECT at, json_extract(data, '$.measurement.training_seconds') FROM events "
            "WHERE kind = 'finished' AND seq > ? ORDER BY seq",
            (after,),
        ).fetchall()

    def verdict_times(self, since: float) -> list[float]:
        """When experiments were judged, from a time on."""
        query = "SELECT judged_at FROM experiments WHERE judged_at >= ? ORDER BY judged_at"
        return [at for (at,) in self._db.execute(query, (since,))]

    def self_tests(self) -> tuple[int, int, int, int]:
        """How often the rule was asked of an unchanged champion, and kept it; held-out looks, and how many parted."""
        would, look = "json_extract(data, '$.would')", "json_extract(data, '$.look.parted')"
        row = self._db.execute(
            f"SELECT coalesce(sum({would} <> 'not asked'), 0), coalesce(sum({would} = 'keep'), 0), count({look}), "
            f"coalesce(sum({look}), 0) FROM events WHERE kind = 'upkeep'"
        ).fetchone()
        return int(row[0]), int(row[1]), int(row[2]), int(row[3])
