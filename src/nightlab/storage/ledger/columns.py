"""All experiments as columns: for a page that draws a hundred thousand of them, and would wait for their records."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from nightlab.core.text import one_line
from nightlab.storage.ledger.reader import LedgerReader

Columns = dict[str, list[Any]]

STATUS = "CASE status WHEN 'keep' THEN 0 WHEN 'discard' THEN 1 WHEN 'crash' THEN 2 ELSE -1 END"
PARENT = (
    "(SELECT max(parent.number) FROM experiments AS parent WHERE parent.number < experiments.number "
    "AND json_extract(parent.candidate, '$.commit') = json_extract(experiments.candidate, '$.parent'))"
)
POINT = {
    "number": "number",
    "status": STATUS,
    "metric": "metric",
    "bar": "bar",
    "gap": "gap",
    "parent": PARENT,
    "proposed_at": "round(proposed_at, 1)",
    "judged_at": "round(judged_at, 3)",
    "reason": "coalesce(json_extract(verdict, '$.reason'), '')",
    "proposer": "json_extract(candidate, '$.proposer')",
    "evidence": "evidence",
}
NAMES = "reason", "proposer"  # few different words, each told once
WORDS = ("hypothesis", "changes", "theme")
TOUCH = "('proposed', 'judged', 'upkeep', 'evidence')"


class ColumnReader(LedgerReader):
    """A ledger as columns, each a list as long as there are experiments in it."""

    def points(self, numbers: Iterable[int] | None = None) -> Columns:
        """The numbers of all experiments, or of some, without anybody's words.

        ``status`` is 0 for a keep, 1 discard, 2 crash, -1 for none yet. ``reason`` and ``proposer`` are places in the
        lists ``reasons`` and ``proposers``. ``evidence`` has an entry for each experiment that has some.
        """
        rows = self._of(", ".join(POINT.values()), numbers)
        told: Columns = (
            dict(zip(POINT, map(list, zip(*rows, strict=True)), strict=True)) if rows else {n: [] for n in POINT}
        )
        for name in NAMES:
            places: dict[str, int] = {}
            told[name] = [places.setdefault(word, len(places)) for word in told[name]]
            told[f"{name}s"] = [one_line(word, 80) for word in places]
        shown = zip(told["number"], told["evidence"], strict=True)
        told["evidence"] = [{"number": number, "all": json.loads(found)} for number, found in shown if found]
        return told

    def words(self, numbers: Iterable[int]) -> Columns:
        """What was proposed, in words that are made harmless: hypotheses, resolved changes, and what they are about.

        ``theme`` has places in the list ``themes``.
        """
        told: Columns = {name: [] for name in ("number", *WORDS)}
        places: dict[str, int] = {}
        said = (f"json_extract(candidate, '$.{name}')" for name in WORDS)
        for number, hypothesis, changes, theme in self._of(", ".join(["number", *said]), numbers):
            told["number"].append(number)
            told["hypothesis"].append(one_line(hypothesis, 300))
            told["changes"].append([one_line(change, 120) for change in json.loads(changes)])
            told["theme"].append([places.setdefault(name, len(places)) for name in json.loads(theme or "[]")])
        return {**told, "themes": [one_line(name, 120) for name in places]}

    def touched(self, after: int) -> list[int]:
        """The experiments that something happened to after event ``after``."""
        rows = self._db.execute(
            f"SELECT DISTINCT json_extract(data, '$.number') FROM events WHERE seq > ? AND kind IN {TOUCH}", (after,)
        )
        return sorted(number for (number,) in rows)

    def _of(self, columns: str, numbers: Iterable[int] | None) -> list[tuple[Any, ...]]:
        if numbers is None:
            return self._db.execute(f"SELECT {columns} FROM experiments ORDER BY number").fetchall()
        some = "WHERE number IN (SELECT value FROM json_each(?))"
        query = f"SELECT {columns} FROM experiments {some} ORDER BY number"
        return self._db.execute(query, (json.dumps(list(numbers)),)).fetchall()
