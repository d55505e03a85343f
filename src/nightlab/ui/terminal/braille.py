"""Small charts made of Braille characters: a staircase with points, and a curve in one line."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

from rich.text import Text

DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # bits of a Braille character, by row and column
BLOCKS = "▁▂▃▄▅▆▇█"
PART = 0.25  # factor on values in computations, because sums and differences of the largest ones would overflow

Pairs = Sequence[tuple[float, float]]


class Canvas:
    """A grid of ``width`` by ``height`` characters, each two by four dots; both axes from 0 to 1, y upwards."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._dots: list[dict[int, int]] = [{} for _ in range(height)]
        self._styles: dict[tuple[int, int], str] = {}

    def dot(self, x: float, y: float, style: str) -> None:
        """Draw a dot."""
        self._set(*self._place(x, y), style)

    def stairs(self, steps: Pairs, style: str) -> None:
        """Draw steps: from each point horizontally to the next x, then vertically; the last extends to the edge."""
        right, places = 2 * self.width - 1, [self._place(x, y) for x, y in steps]
        for (x, y), (to, level) in pairwise([*places, (right, places[-1][1])] if places else []):
            for column in range(x, to + 1):
                self._set(column, y, style)
            for row in range(min(y, level), max(y, level) + 1):
                self._set(to, row, style)

    def lines(self) -> list[Text]:
        found = []
        for row, dots in enumerate(self._dots):
            line = Text("".join(chr(0x2800 + dots[x]) if x in dots else " " for x in range(self.width)))
            for x in sorted(dots):
                line.stylize(self._styles[row, x], x, x + 1)
            found.append(line)
        return found

    def _place(self, x: float, y: float) -> tuple[int, int]:
        """A dot's column and row, clamped to the grid."""
        x, y = (min(max(part, 0.0), 1.0) if math.isfinite(part) else 0.0 for part in (x, y))
        return round(x * (2 * self.width - 1)), round((1 - y) * (4 * self.height - 1))

    def _set(self, column: int, row: int, style: str) -> None:
        x, y = column // 2, row // 4
        if self._styles.get((y, x)) != style:  # a character has one style: later dots replace those in another style
            self._dots[y][x], self._styles[y, x] = 0, style
        self._dots[y][x] |= DOTS[row % 4][column % 2]


def curve(points: Pairs, width: int) -> str:
    """A curve over 0 to 1 as one line of characters: the mean of the values in each part, blank after its end."""
    parts: list[list[float]] = [[] for _ in range(width)]
    for x, y in points:
        parts[min(int(x * width), width - 1)].append(PART * y)
    known = [math.fsum(value / len(part) for value in part) if part else None for part in parts]
    last: float | None = None
    for n in range(max((n for n, value in enumerate(known) if value is not None), default=-1) + 1):
        last = known[n] = known[n] if known[n] is not None else last  # repeat the last value in empty parts
    low, high = extent(value for value in known if value is not None)
    return "".join(
        " " if value is None else BLOCKS[round((value - low) / (high - low) * (len(BLOCKS) - 1))] for value in known
    )


def extent(values: Iterable[float]) -> tuple[float, float]:
    """The smallest and largest finite value, never equal.

    For values times ``PART``: the distance of the largest floats, or the room around them, would overflow.
    """
    known = [value for value in values if math.isfinite(value)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    room = max(abs(low), abs(high), 1e-300) * 1e-9
    return (low, high) if high - low > room else (low - max(room, 1e-300), high + max(room, 1e-300))
