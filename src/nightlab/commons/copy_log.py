"""What a copy of the commons keeps beside the records: who came when, and what was refused."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nightlab.commons.record import Category, Rejected
from nightlab.core.files import NotReadable, read_plain
from nightlab.core.text import one_line

KEPT_REJECTIONS = 2000
LARGEST_COUNTS = 4 * 2**20  # bytes of these
ARRIVED = "arrived"  # file of the authors in the order in which they were accepted; an empty line after the first ones
LARGEST_ARRIVED = 64 * 2**20  # bytes

Refused = tuple[str, str, Rejected]  # the author, the commit or empty, and the reason


@dataclass(frozen=True, slots=True)
class Rejection:
    """Something rejected from a remote. ``what`` is a commit, or empty for a whole chain."""

    author: str
    what: str
    category: Category
    detail: str
    times: int = 1


class CopyLog:
    """The log of the copy of the commons in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def order_of_arrival(self, known: Iterable[str]) -> tuple[list[str], int]:
        """The authors in the order in which they were first received, and how many of these came at once at first.

        Where that is not known, as in an older copy or one without a sync: the ``known`` ones."""
        try:
            text = read_plain(self.folder / ARRIVED, LARGEST_ARRIVED, self.folder).decode()
        except (OSError, ValueError, NotReadable):
            names = sorted(known)
            return names, len(names)
        first, _, later = text.partition("\n\n")
        return [*first.split(), *later.split()], len(first.split())

    def note_arrivals(self, before: Collection[str], new: Iterable[str]) -> None:
        """Add the ``new`` authors; the first time, with those from ``before``."""
        path, names = self.folder / ARRIVED, sorted(new)
        if not path.exists():
            names = [*sorted(before), *names, ""]
        if names:
            with path.open("a", encoding="ascii") as file:
                file.write("".join(f"{name}\n" for name in names))

    def rejections(self) -> list[Rejection]:
        """What has been rejected so far, with counts."""
        try:
            raw = read_plain(self.folder / "rejected.json", LARGEST_COUNTS, self.folder)
            return [Rejection(**each) for each in json.loads(raw)]
        except (OSError, ValueError, NotReadable):
            return []

    def note_rejections(self, refused: Sequence[Refused]) -> None:
        """Add to the counts of rejections."""
        if not refused:
            return
        known = {(each.author, each.what, each.category): each for each in self.rejections()}
        for author, what, error in refused:
            key = author, what, error.category
            times = known.pop(key).times + 1 if key in known else 1
            known[key] = Rejection(author, what, error.category, one_line(str(error), 300), times)
        rows = [_row(each) for each in known.values()][-KEPT_REJECTIONS:]
        draft = self.folder / f"rejected.{os.getpid()}"
        draft.write_text(json.dumps(rows, indent=0), encoding="utf-8")
        draft.replace(self.folder / "rejected.json")


def _row(rejection: Rejection) -> dict[str, Any]:
    return {name: getattr(rejection, name) for name in Rejection.__dataclass_fields__}
