"""What is wrong in a TOML file, with the line of each key: the parser does not say on which line one stands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from nightlab.core.config_model import faults

TABLE = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
PART = r"""(?:"[^"]*"|'[^']*'|[\w-]+)"""
KEY = re.compile(rf"\s*({PART}(?:\s*\.\s*{PART})*)\s*=")
LONG = re.compile(r'"""|\'\'\'')


def located(error: ValidationError, model: type[BaseModel], text: str, where: str) -> str:
    """All that ``model`` finds wrong in a file, each with its line: ``lab.toml, line 3: metric.goal: …``."""
    said: list[str] = []
    for _, words in faults(error.errors(), model):
        line = line_of(text, _named(words))
        place = f"line {line}: " if line else ""
        said.append(place + words if said else f"{where}{', ' if line else ': '}{place}{words}")
    return "; ".join(said)


def _named(words: str) -> list[Any]:
    """The key that a fault names, and the one in that table with which its words begin."""
    key, _, rest = words.partition(": ")
    parts = [*key.split("."), *(part.rstrip(":") for part in rest.split()[:1])]
    return [int(part) if part.isdigit() else part for part in parts]


def line_of(text: str, loc: Sequence[Any]) -> int | None:
    """The line, from 1, of the key at ``loc``, or of the innermost table on the way to it; None where none is found.

    ``loc``: names, and numbers of tables in a list, as pydantic gives them. A name that is no key, such as the kind of
    a proposer, is passed over.
    """
    lines = _lines(text)
    path: tuple[Any, ...] = ()
    found = None
    for part in loc:
        if (*path, part) in lines:
            path = (*path, part)
            found = lines[path]
    return found


def _lines(text: str) -> dict[tuple[Any, ...], int]:
    found: dict[tuple[Any, ...], int] = {}
    counts: dict[tuple[Any, ...], int] = {}
    table: tuple[Any, ...] = ()
    inside = ""  # the quotes that a text of several lines began with
    for number, line in enumerate(text.split("\n"), 1):
        if not inside and (heading := TABLE.match(line)):
            table = _within(_names(heading[2]), counts)
            if heading[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                found.setdefault(table, number)
                table = (*table, counts[table])
            for end in range(1, len(table) + 1):
                found.setdefault(table[:end], number)
        elif not inside and (key := KEY.match(line)):
            path = (*table, *_names(key[1]))
            for end in range(len(table) + 1, len(path) + 1):
                found.setdefault(path[:end], number)
        for quotes in LONG.findall(line):
            inside = "" if inside == quotes else inside or quotes
    return found


def _within(names: Sequence[str], counts: dict[tuple[Any, ...], int]) -> tuple[Any, ...]:
    """A table's path; below a list of tables it belongs to the latest of them."""
    path: tuple[Any, ...] = ()
    for place, name in enumerate(names):
        path = (*path, name)
        if path in counts and place < len(names) - 1:
            path = (*path, counts[path])
    return path


def _names(dotted: str) -> list[str]:
    return [part.strip("\"'") for part in re.findall(PART, dotted)]
