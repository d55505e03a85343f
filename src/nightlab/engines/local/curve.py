"""A trial's loss curve, as reported by its candidate, and the request to end the trial early.

The curve is only a claim: it is plotted and may end the candidate's own trial, but nothing is kept because of it.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from pathlib import Path

CURVE, UNPROMISING = "curve.jsonl", "hopeless"
REPORT = b"report "  # followed by progress and loss
MOST = 400  # points per curve; points in between are dropped
LONGEST = 64  # bytes of a point in the file
PARTS = 10  # parts of the budget; after each but the last a trial may be stopped

Points = list[tuple[float, float]]


class Curve:
    """Records what a candidate reports: at most ``MOST`` points, with increasing progress."""

    def __init__(self, folder: Path) -> None:
        self.path, self.progress = folder / CURVE, 0.0

    def add_report(self, line: bytes) -> None:
        """Process a line of the control pipe that starts with ``REPORT``; anything but a new valid point is ignored."""
        if point := _point(line[len(REPORT) :].split(), self.progress):
            self.progress = point[0]
            with self.path.open("a", encoding="utf-8") as out:
                out.write(f"{json.dumps(point)}\n")


def load_curve(folder: Path) -> Points:
    """The curve of the trial in ``folder``, as (progress, loss) pairs; empty without reports."""
    found: Points = []
    for line in raw_curve(folder).splitlines():
        if point := _point(line.strip(b"[]").split(b","), found[-1][0] if found else 0.0):
            found.append(point)
    return found


def raw_curve(folder: Path) -> bytes:
    """The bytes of the curve's file so far; empty without reports."""
    with contextlib.suppress(OSError), (folder / CURVE).open("rb") as lines:
        return lines.read(MOST * LONGEST)
    return b""


def _point(words: list[bytes], after: float) -> tuple[float, float] | None:
    """Progress (in (``after``, 1]) and loss, if the fields are valid; else None."""
    with contextlib.suppress(ValueError):
        progress, loss = map(float, words)
        if after + 1 / MOST <= progress <= 1 and math.isfinite(loss):
            return progress, loss
    return None


def part_losses(curve: Points) -> list[float]:
    """The mean loss in each completed part of the budget but the last; NaN where nothing was reported."""
    found: list[list[float]] = [[] for _ in range(PARTS)]
    for progress, loss in curve:
        found[math.ceil(progress * PARTS) - 1].append(loss)
    over = min(int(curve[-1][0] * PARTS), PARTS - 1) if curve else 0
    return [math.fsum(value / len(part) for value in part) if part else math.nan for part in found[:over]]


def request_stop(folder: Path, why: str) -> None:
    """Ask the supervisor of the trial in ``folder`` to end it as unpromising, if it is still training."""
    draft = folder / f"{UNPROMISING}.tmp"
    draft.write_text(why, encoding="utf-8")
    os.replace(draft, folder / UNPROMISING)


def stop_reason(folder: Path) -> str | None:
    """The reason given to ``request_stop`` for the trial in ``folder``; None without one."""
    try:
        return (folder / UNPROMISING).read_text(encoding="utf-8")
    except OSError:
        return None
