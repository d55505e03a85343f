"""Which entries of proposers' queues had their turn, asked one by one, and from any thread: proposers have theirs."""

from __future__ import annotations

import sqlite3
from pathlib import Path

EXPERIMENT, REFUSED = "json_extract(candidate, '$.source')", "json_extract(data, '$.source')"
HAD = (
    f"SELECT EXISTS (SELECT 1 FROM experiments WHERE {EXPERIMENT} = ?1 AND {EXPERIMENT} <> '') OR EXISTS "
    f"(SELECT 1 FROM events INDEXED BY events_source WHERE kind = 'refused' AND {REFUSED} = ?1 AND {REFUSED} <> '')"
)


class UsedSources:
    """The entries that the ledger at ``path`` knows, as experiments or refused, and those that were added here.

    Only what is asked for is read, for a long session had very many. An entry that had its turn has had it for good.
    """

    def __init__(self, path: Path) -> None:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        self._db = sqlite3.connect(uri, uri=True, timeout=30, isolation_level=None, check_same_thread=False)
        self._had: set[str] = set()

    def __contains__(self, source: str) -> bool:
        said = source.encode(errors="replace").decode()  # the name of a file may be no text
        if source not in self._had and self._db.execute(HAD, (said,)).fetchone()[0]:
            self._had.add(source)
        return source in self._had

    def add(self, source: str) -> None:
        self._had.add(source)

    def close(self) -> None:
        self._db.close()
