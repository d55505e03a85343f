"""The staircase of kept values as lines of text, redrawn only when it changes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.text import Text

from nightlab.ui.snapshot import ChampionStep, SessionSnapshot
from nightlab.ui.terminal.braille import PART, Canvas, extent
from nightlab.ui.terminal.rows import heading, value_of, words_of

PARTS = 512  # bins of the experiments; of each only the first and last step are drawn
MARGIN = 0.12  # share of the height left free above and below


class Staircase:
    """One session's chart for a terminal. Caches the last drawing."""

    def __init__(self) -> None:
        self._seen: tuple[object, ...] = ()
        self._lines: list[Text] = []
        self._steps: Sequence[ChampionStep] = ()
        self._outline: list[ChampionStep] = []

    def lines(self, snapshot: SessionSnapshot, width: int, height: int) -> list[Text]:
        """The staircase with the latest other experiments as points, below a heading. Don't modify the result."""
        seen = snapshot.points, snapshot.steps, width, height
        if not self._seen or any(one is not other for one, other in zip(seen, self._seen, strict=True)):
            self._seen, self._lines = seen, self._draw(snapshot, width, height)
        return self._lines

    def _draw(self, snapshot: SessionSnapshot, width: int, height: int) -> list[Text]:
        if snapshot.steps is not self._steps:
            self._steps, self._outline = snapshot.steps, outline(snapshot.steps)
        metric, steps, rows = snapshot.about.metric, self._outline, height - 1
        last = max([*(point.number for point in snapshot.points), *(step.number for step in steps)], default=0)
        arrow = "lower is better" if metric.goal == "minimise" else "higher is better"
        title = f"best so far · {words_of(metric.name, 24)}, {arrow} · 0 to {last:,}"
        lines = [heading(title if width >= 60 else "best so far", width)]
        values = [step.value for step in steps]
        if rows < 1 or not values:
            return [*lines, Text(" nothing yet", "dim")] if rows >= 1 else []
        low, high = extent(PART * value for value in values)
        margin = (high - low) * MARGIN
        low, high = low - margin, high + margin
        labels = value_of(max(values)), value_of(min(values))
        gutter = max(map(len, labels)) + 2
        canvas = Canvas(max(width - gutter - 2, 4), rows)

        def place(number: int, value: float) -> tuple[float, float]:
            return number / max(1.04 * last, 1), (PART * value - low) / (high - low)

        for point in snapshot.points:
            if point.status == "discard" and point.metric is not None and low <= PART * point.metric <= high:
                canvas.dot(*place(point.number, point.metric), "dim")
        canvas.stairs([place(step.number, step.value) for step in steps], "green")
        top, bottom = (round((1 - place(0, value)[1]) * (rows - 1)) for value in (max(values), min(values)))
        for row, line in enumerate(canvas.lines()):
            label = labels[0] if row == top else labels[1] if row == bottom else ""
            lines.append(Text.assemble((f"{label:>{gutter}} ", "dim"), line))
        return lines


def outline(steps: Sequence[ChampionStep]) -> list[ChampionStep]:
    """The steps that a terminal can resolve: the first and last of each bin."""
    known = [step for step in steps if math.isfinite(step.value)]
    size = max((step.number for step in known), default=0) // PARTS + 1
    parts: dict[int, list[ChampionStep]] = {}
    for step in known:
        part = parts.setdefault(step.number // size, [])
        part[1:] = [step]
    return [step for part in parts.values() for step in part]
