"""The curve of a trial: what its candidate said of its training loss on the way, and the word that ends it early.

A claim of the candidate. It is drawn, and may end the candidate's own trial; nothing is ever kept for it.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from pathlib import Path

from nightlab.core.types import average

CURVE, HOPELESS = "curve.jsonl", "hopeless"
REPORT = b"report "  # and then the progress and the loss
MOST = 400  # points of a curve; what comes in between is dropped
LONGEST = 64  # bytes of a point, as written
PARTS = 10  # of the budget: after each but the last a trial may be given up

Points = list[tuple[float, float]]


class Curve:
    """Writes down what a candidate reports. Whatever it sends, that is at most ``MOST`` points, in order."""

    def __init__(self, folder: Path) -> None:
        self.path, self.progress = folder / CURVE, 0.0

    def hear(self, line: bytes) -> None:
        """Take a line of the control pipe that begins with ``REPORT``; what is no point further on is ignored."""
        if point := _point(line[len(REPORT) :].split(), self.progress):
            self.progress = point[0]
            with self.path.open("a") as out:
                out.write(f"{json.dumps(point)}\n")


def points(folder: Path) -> Points:
    """The curve of the trial in ``folder``, as (progress, loss); empty if it reported nothing."""
    found: Points = []
    for line in written(folder).splitlines():
        if point := _point(line.strip(b"[]").split(b","), found[-1][0] if found else 0.0):
            found.append(point)
    return found


def written(folder: Path) -> bytes:
    """The curve of the trial in ``folder`` as its file has it so far; empty if it reported nothing."""
    with contextlib.suppress(OSError), (folder / CURVE).open("rb") as lines:
        return lines.read(MOST * LONGEST)
    return b""


def _point(words: list[bytes], after: float) -> tuple[float, float] | None:
    """A progress and a loss, if that is what the words are, and the progress is one."""
    with contextlib.suppress(ValueError):
        progress, loss = map(float, words)
        if after + 1 / MOST <= progress <= 1 and math.isfinite(loss):
            return progress, loss
    return None


def parts(curve: Points) -> list[float]:
    """The mean loss in each part of the budget that is over, but the last; not a number where nothing was reported."""
    found: list[list[float]] = [[] for _ in range(PARTS)]
    for progress, loss in curve:
        found[math.ceil(progress * PARTS) - 1].append(loss)
    over = min(int(curve[-1][0] * PARTS), PARTS - 1) if curve else 0
    return [average(part) if part else math.nan for part in found[:over]]


def give_up(folder: Path, why: str) -> None:
    """Have the supervisor of the trial in ``folder`` end it as hopeless, if it still trains."""
    draft = folder / f"{HOPELESS}.tmp"
    draft.write_text(why)
    os.replace(draft, folder / HOPELESS)


def given_up(folder: Path) -> str | None:
    """Why the trial in ``folder`` is to end now, if it is."""
    try:
        return (folder / HOPELESS).read_text()
    except OSError:
        return None
