"""Regions: the lines of a genome file between two markers, which alone may change.

A marker is a comment line that begins with the marker's text, in the comment syntax of any language: ``#
EVOLVE-BLOCK-START``, ``// EVOLVE-BLOCK-START``, ``/* EVOLVE-BLOCK-START */``. The marker lines are frozen too. A file
without markers may change as a whole.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

EVOLVE_BLOCK = ("EVOLVE-BLOCK-START", "EVOLVE-BLOCK-END")
COMMENT = r"\s*(?:[^\w\s\"'`]+|REM|rem|dnl)\s*"  # what stands before a marker
Between = tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class Regions:
    """A file's lines, those that are frozen in order, and the numbers (from 1) of those that may change."""

    frozen: tuple[str, ...]
    free: frozenset[int]
    fault: str = ""
    """What is wrong with the markers, with the line; empty if nothing is."""


def regions(text: str, between: Between) -> Regions | None:
    """The regions of a file; None when there are no markers in it, so that all of it may change."""
    if between is None:
        return None
    start, end = (re.compile(rf"{COMMENT}{re.escape(marker)}(?![\w-])") for marker in between)
    frozen, free, opened = [], set(), 0
    found, fault = False, ""
    for number, line in enumerate(text.split("\n"), 1):
        begins, ends = bool(start.match(line)), bool(end.match(line))
        found = found or begins or ends
        if begins and opened:
            fault = fault or f"line {number}: a second {between[0]}, before the {between[1]} of line {opened}"
        if ends and not opened:
            fault = fault or f"line {number}: {between[1]} without a {between[0]} before it"
        if opened and not (begins or ends):
            free.add(number)
        else:
            frozen.append(line)
        opened = number if begins else 0 if ends else opened
    if opened:
        fault = fault or f"line {opened}: {between[0]} without a {between[1]} after it"
    return Regions(tuple(frozen), frozenset(free), fault) if found else None


def frozen_change(path: str, before: str, after: str, between: Between) -> str:
    """How a change of a file goes outside its regions, as text; empty if it does not."""
    old = regions(before, between)
    if old is None:
        return ""
    assert between is not None
    new = regions(after, between)
    lines = new.frozen if new else tuple(after.split("\n"))
    if lines == old.frozen:
        return ""
    at = next((n for n, pair in enumerate(zip(old.frozen, lines, strict=False)) if pair[0] != pair[1]), None)
    line = (old.frozen[at] if at is not None else "").strip()
    shown = f" ({line[:60]!r})" if line else ""
    return f"{path}: it changes a frozen line{shown}: only lines between {between[0]} and {between[1]} may change"
