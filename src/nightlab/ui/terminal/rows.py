"""Experiments as one line each, and the formats of numbers, times and text on a screen."""

from __future__ import annotations

import math
from functools import lru_cache

from rich.text import Text

from nightlab.core.session_state import HOUR
from nightlab.core.text import one_line
from nightlab.ui.snapshot import ExperimentPoint, SessionSnapshot
from nightlab.ui.terminal.lines import STYLES

EVIDENCE, SHORT_EVIDENCE = 19, 14  # columns for "claim, transferred", and where there is little room for "transferred"
ENDLESS = 200  # columns that a line in a pipe may use at least
MARKS = {"keep": "✓", "discard": "·", "crash": "✗", None: "▸"}


def latest(snapshot: SessionSnapshot, width: int, height: int, selected: int | None) -> list[Text]:
    """The experiments, latest first, scrolled so that the selected one is visible."""
    if height < 2:
        return []
    lines = [columns(snapshot, width)]
    rows = list(reversed(snapshot.points))
    place = next((n for n, point in enumerate(rows) if point.number == selected), 0)
    begin = max(min(place - (height - 1) // 2, len(rows) - (height - 1)), 0)
    for point in rows[begin : begin + height - 1]:
        line = row(snapshot, point, width)
        if point.number == selected:
            line.pad_right(width - line.cell_len)
            line.stylize("reverse")
        lines.append(line)
    return lines


def columns(snapshot: SessionSnapshot, width: int | None) -> Text:
    """The table's header."""
    room = width if width is not None else ENDLESS
    titles = [f"{'#':>6} {'verdict':<9}"]
    if room >= 60:
        titles.append(f"{words_of(snapshot.about.metric.name, 12):>12} ")
    titles.append(f"{'sigma':>8}  ")
    if room >= 72:
        titles.append(f"{'evidence':<{_evidence_width(room)}}")
    if room >= 100:
        titles.append(f"{'by':<11}")
    return Text(f"{''.join(titles)}what".ljust(width or 0), "dim underline")


def row(snapshot: SessionSnapshot, point: ExperimentPoint, width: int | None) -> Text:
    """One experiment in a line: verdict, metric, gain in units of noise, evidence, and hypothesis.

    Without a width it is not cut.
    """
    style = STYLES.get(point.status or "", "cyan")
    sigmas, room = snapshot.sigmas(point), width if width is not None else ENDLESS
    gain = "" if sigmas is None else f"{sigmas:+.1f}σ" if abs(sigmas) < 1000 else f"{sigmas:+.0e}σ"
    line = Text(f"{point.number:>6} ", "dim")
    line.append(f"{MARKS[point.status]} {point.status or 'running':<7}"[: 9 if room >= 40 else 3], style)
    if room >= 60:
        line.append(f"{value_of(point.metric):>12} ", "bold" if point.status == "keep" else "")
    line.append(f"{gain:>8}  ", style if sigmas is not None and abs(sigmas) >= 1 else "dim")
    if room >= 72:
        wide, evidence = _evidence_width(room), point.level or point.reason
        evidence = evidence if len(evidence) < wide else evidence.split(",")[0][: wide - 1]
        line.append(f"{evidence:<{wide}}", "bold green" if point.level not in ("", "measured") else "dim")
    if room >= 100:
        line.append(f"{words_of(point.proposer, 10):<11}", "dim")
    if point.status == "discard" and (point.gain or 0.0) > 0:  # better than its parent, which was not the champion
        line.append(f"on #{point.parent}: ", "dim")
    line.append(words_of(point.hypothesis), "dim" if point.status == "discard" else "")
    if point.detail and point.status == "crash":
        line.append(f" · {words_of(point.detail)}", "red")
    if width is not None:
        line.truncate(width, overflow="ellipsis")
    return line


def _evidence_width(room: int) -> int:
    return EVIDENCE if room >= 100 else SHORT_EVIDENCE


def heading(words: str, width: int) -> Text:
    """A heading of a part of the screen."""
    return Text(f"── {words} {'─' * width}"[:width], "dim")


def value_of(value: float | None) -> str:
    """A value of the metric, with the same number of decimals for all similar values of a session."""
    if value is None or not math.isfinite(value):
        return "-"
    size = abs(value)
    if size and not 1e-3 <= size < 1e7:
        return f"{value:.4e}"
    return f"{value:,.{6 if size < 100 else 4 if size < 10_000 else 1}f}"


def seconds_words(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / HOUR:.1f} h" if seconds < 48 * HOUR else f"{seconds / HOUR / 24:.0f} days"


@lru_cache(maxsize=2048)
def words_of(words: str, most: int = 300) -> str:
    """Untrusted text, sanitised."""
    return one_line(words, most)
