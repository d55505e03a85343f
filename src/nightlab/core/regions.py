"""Regions: the lines of a genome file between two markers, which alone may change.

A marker is a comment that begins with the marker's text, in the comment syntax of any language, alone on a line or
after code: ``# EVOLVE-BLOCK-START``, ``// --- EVOLVE-BLOCK-START ---``, ``x = 1  /* EVOLVE-BLOCK-START */``. The marker
lines are frozen too. A file without markers may change as a whole.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

EVOLVE_BLOCK = ("EVOLVE-BLOCK-START", "EVOLVE-BLOCK-END")
WORDS = {"REM", "rem", "dnl", "C", "c", '"', "'"}  # that begin a comment line, with a blank after them
DECORATION = re.compile(r"[^\w\"'`]*")
TRAILING = re.compile(r"\s(?:#|//|/\*|--|;|%|!|<!--|\(\*)")  # what begins a comment after code
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
    frozen, free, opened = [], set(), 0
    found, fault = False, ""
    for number, line in enumerate(text.split("\n"), 1):
        begins, ends = (_marks(line, marker) for marker in between)
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


def _marks(line: str, marker: str) -> bool:
    """Whether a marker begins a comment in a line."""
    before, there, after = line.partition(marker)
    if not there or re.match(r"-?\w", after):
        return False
    found = DECORATION.match(before[::-1])
    code = before[: len(before) - found.end()] if found else before
    decoration = before[len(code) :]
    if not code:
        return bool(decoration.strip())
    if code.strip() in WORDS:
        return decoration[:1].isspace() and not (code.strip() in "\"'" and code.strip() in after)
    if _opens_a_string(code):
        return False
    return bool(TRAILING.search(decoration)) and not re.search(r"[\w\"'`]", after)


def _opens_a_string(code: str) -> bool:
    """Whether a string of a line is open at its end; a line that begins with three quotes may close one instead."""
    if code.lstrip().startswith(('"""', "'''")):
        return False
    return bool(code.replace('\\"', "").replace("'\"'", "").count('"') % 2 or code.count("'''") % 2)


def unread(path: str, text: str, between: Between) -> str:
    """A sentence on the lines that have a marker's text, and not as a marker; empty without any."""
    lines = [
        str(number)
        for number, line in enumerate(text.split("\n"), 1)
        if between and any(marker in line and not _marks(line, marker) for marker in between)
    ]
    if not lines or between is None:
        return ""
    which = f"line{'s' if len(lines) > 1 else ''} {', '.join(lines[:5])}{', …' if len(lines) > 5 else ''}"
    free = "" if regions(text, between) else ", and all of the file may change"
    return f"{path}, {which}: {between[0]} or {between[1]} stands there, but begins no comment: it is no marker{free}"


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
