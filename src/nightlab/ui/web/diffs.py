"""A unified diff as lines that a page can colour: the kind of each line, and its tokens' kinds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pygments.lexers import get_lexer_for_filename
from pygments.token import Comment, Keyword, Name, Number, String
from pygments.util import ClassNotFound

from nightlab.core.text import plain

LONGEST = 2000  # lines of a diff that are shown
WIDEST = 400  # characters of a line
SIGNS = {"+": "added", "-": "removed", " ": "same", "\\": "note"}
KINDS = [(Comment, "comment"), (String, "string"), (Keyword, "keyword"), (Number, "number"), (Name.Builtin, "builtin")]
KINDS += [(Name.Function, "name"), (Name.Class, "name"), (Name.Decorator, "name")]
Span = tuple[str, str]


def shown(diff: str) -> list[dict[str, Any]]:
    """Each line: its ``kind`` (file, hunk, added, removed, same, note), ``old`` and ``new`` number, coloured ``spans``.

    Both sides of a file are lexed as a whole, so that multi-line strings are recognised.
    """
    found: list[dict[str, Any]] = []
    lines = [line if len(line) <= WIDEST else f"{line[:WIDEST]}…" for line in plain(diff, 400_000).split("\n")]
    for name, part in _files(lines[:LONGEST]):
        found.append({"kind": "file", "spans": [("", name)]})
        found += _coloured(name, part)
    if len(lines) > LONGEST:
        words = f"… {len(lines) - LONGEST:,} more lines: nightlab diff shows all"
        found.append({"kind": "note", "spans": [("", words)]})
    return found


def _files(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Each file of a diff: its name, and the lines of its hunks."""
    name, part = "", list[str]()
    inside = 0, 0  # remaining lines of the hunk, on the old and the new side
    for line in lines:
        if max(inside) > 0:
            old, new = inside
            inside = old - (line[:1] in ("-", " ", "")), new - (line[:1] in ("+", " ", ""))
            part.append(line)
        elif line.startswith("diff --git "):
            if name:
                yield name, part
            name, part = line.rpartition(" b/")[2], []
        elif line.startswith("@@ "):
            inside = _counts(line)
            part.append(line)
        elif line.startswith("\\") or line.startswith("Binary files"):
            part.append(line)
    if name:
        yield name, part


def _counts(hunk: str) -> tuple[int, int]:
    """The number of lines of a hunk on either side, from its heading: ``@@ -12,3 +12,4 @@``."""
    old, new = ((*side.split(","), "1") for side in hunk.split()[1:3])
    return int(old[1]), int(new[1])


def _coloured(name: str, lines: list[str]) -> Iterator[dict[str, Any]]:
    sides = {sign: _lexed(name, [line[1:] for line in lines if line[:1] in (sign, " ", "")]) for sign in "-+"}
    old = new = 0
    for line in lines:
        sign = line[:1] or " "
        if line.startswith("@@ "):
            old, new = (abs(int(side.split(",")[0])) for side in line.split()[1:3])
            yield {"kind": "hunk", "spans": [("", line)]}
            continue
        told: dict[str, Any] = {"kind": SIGNS.get(sign, "note")}
        if sign in "- ":
            told["old"], old = old, old + 1
            told["spans"] = next(sides["-"], [("", line[1:])])
        if sign in "+ ":
            told["new"], new = new, new + 1
            told["spans"] = next(sides["+"], [("", line[1:])])
        yield told if "spans" in told else {**told, "spans": [("", line)]}


def _lexed(name: str, lines: list[str]) -> Iterator[list[Span]]:
    """The lines with their tokens' kinds; unchanged for unknown languages."""
    try:
        lexer = get_lexer_for_filename(name, stripnl=False, ensurenl=False)
    except ClassNotFound:
        yield from ([("", line)] for line in lines)
        return
    spans: list[Span] = []
    for token, text in lexer.get_tokens("\n".join(lines)):
        first, *more = text.split("\n")
        spans += [(_kind(token), first)] if first else []
        for rest in more:
            yield spans
            spans = [(_kind(token), rest)] if rest else []
    yield spans


def _kind(token: Any) -> str:
    return next((name for kind, name in KINDS if token in kind), "")
