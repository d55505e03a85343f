"""A ledger as windows read it: while it is written, in short looks, and never as a whole when a part will do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nightlab.storage.ledger.ledger import Ledger


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

    def numbered(self, commit: str) -> int | None:
        """The number of the experiment whose candidate is this commit, if any."""
        query = "SELECT number FROM experiments WHERE json_extract(candidate, '$.commit') = ? ORDER BY number"
        row = self._db.execute(query, (commit,)).fetchone()
        return int(row[0]) if row else None
