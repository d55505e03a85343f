"""Finds, reads and changes the named constants of a genome in its text, without running it.

In Python, a constant is a top-level assignment of a literal to an upper-case name, or of a table of literals by
device: ``DEPTH = {"cuda": 9, "mps": 4, "cpu": 2}[DEVICE]``. In WebAssembly text, it is an immutable global with an
upper-case name on its own line: ``(global $DEPTH i32 (i32.const 2))``. Brackets at the end of the comment beside it are
a hint for the tuner: ``[1..12]``, ``[0.001..0.1 log]``, ``[SSSL | SL | L]``, ``[fixed]``. One that ends in ``moves``,
``[0.001..0.1 log, moves]``, says that the constant may change while training goes on: its value may be a tuple, of
values for equally long parts of the training.
"""

from __future__ import annotations

import ast
import io
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from nightlab.core.source import LARGE, same_program
from nightlab.core.source_bytes import BOM, parse_python

LONGEST_COMMENT = 400  # characters at the end of a comment that may hold a hint
MAX_ROW, MAX_TEXT = 64, 200  # most items of a tuple, characters of a string
MOST = 500  # constants of a file: further ones are neither listed nor tuned
HINT = re.compile(r"\[([^\[\]]{1,200})\]\s*$")
WASM_GLOBAL = re.compile(
    r"^\s*\(global\s+\$([A-Z][A-Z0-9_]*)\s+([if](?:32|64))\s+\(\2\.const\s+([-+]?[0-9][0-9.]*(?:e[-+]?[0-9]+)?)\s*\)\s*\)"
    r"\s*(?:;;(.*))?$",
)
MOVES = re.compile(r"(?:^|\s*,\s*|\s+)moves$")
RANGE = re.compile(r"^(-?[\d.eE+-]+?)\s*\.\.\s*(-?[\d.eE+-]+?)(\s+log)?$")

NO_CONSTANT = (
    "the genome has no constant that it can move; it reads only upper-case names that are assigned a literal at the "
    "top level of a file"
)


@dataclass(frozen=True, slots=True)
class Constant:
    """One constant: its value on this device, the position of its literal in the text, and its hint."""

    name: str
    value: Any
    line: int  # counted from 1
    start: int  # columns in UTF-8 bytes, as in ast, without a byte-order mark
    end: int
    hint: str = ""
    moves: bool = False  # whether it may change while training goes on


def find_constants(text: str, device: str) -> dict[str, Constant]:
    """The constants of a genome by name, with their values on ``device``; empty for unknown languages."""
    if len(text) > LARGE:
        return {}
    lines = _lines(text.removeprefix(BOM))
    try:
        module = parse_python(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return _of_wasm(lines)
    found: dict[str, Constant] = {}
    for node in module.body:
        if not (isinstance(node, ast.Assign) and len(node.targets) == 1):
            continue
        target, literal = node.targets[0], _on_device(node.value, device)
        if not (isinstance(target, ast.Name) and target.id.isupper()) or literal is None:
            continue
        if literal.lineno != literal.end_lineno or literal.end_col_offset is None:
            continue
        value = _value(literal)
        if value is None:
            continue
        if len(found) == MOST and target.id not in found:
            break
        hint, moves = _hint(_comment(lines[(node.end_lineno or node.lineno) - 1]))
        found[target.id] = Constant(
            target.id,
            value,
            literal.lineno,
            literal.col_offset,
            literal.end_col_offset,
            hint,
            moves,
        )
    return found


def _of_wasm(lines: list[str]) -> dict[str, Constant]:
    found: dict[str, Constant] = {}
    for number, line in enumerate(lines, 1):
        if len(found) == MOST:
            break
        if match := WASM_GLOBAL.match(line):
            name, kind, literal, comment = match.groups()
            try:
                value = int(literal) if kind.startswith("i") else float(literal)
            except ValueError:
                continue  # e.g. 1.2.3
            start, end = (len(line[:at].encode("utf-8", "surrogatepass")) for at in match.span(3))
            if _storable(value):
                found[name] = Constant(name, value, number, start, end, *_hint(comment or ""))
    return found


def change_constants(text: str, device: str, values: Mapping[str, Any]) -> str:
    """The genome's text with the named constants set to ``values`` on ``device``; all else unchanged."""
    bom = text[: text.startswith(BOM)]
    lines = _lines(text.removeprefix(BOM))
    edits = [(constant, values[name]) for name, constant in find_constants(text, device).items() if name in values]
    for line, here in groupby(sorted(edits, key=lambda edit: (edit[0].line, edit[0].start)), lambda edit: edit[0].line):
        raw, made, at = lines[line - 1].encode("utf-8", "surrogatepass"), list[bytes](), 0
        for constant, value in here:
            made += [raw[at : constant.start], _written(value)]
            at = constant.end
        lines[line - 1] = b"".join([*made, raw[at:]]).decode("utf-8", "surrogatepass")
    return bom + "".join(lines)


def same_moves(path: str, before: str, after: str, now: str, device: str) -> str | None:
    """The text ``now`` with the same constants changed that ``after`` changes in ``before``.

    None when ``after`` differs from ``before`` in more than these and layout, or one of them has a third value now.
    """
    old, new, there = (find_constants(text, device) for text in (before, after, now))
    moves = {name: c.value for name, c in new.items() if name in old and old[name].value != c.value}
    if not moves or not same_program(path, change_constants(before, device, moves), after):
        return None
    if any(name not in there or there[name].value not in (old[name].value, moves[name]) for name in moves):
        return None
    return change_constants(now, device, moves)


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """The differences between the constants of two genomes, as text: ``DEPTH 2 → 1``."""
    words = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name, "nothing"), after.get(name, "nothing")
        if old != new:
            words.append(f"{name} {_shown(old)} → {_shown(new)}")
    return tuple(words)


def resolved(node: ast.expr, device: str) -> Any:
    """The value of a literal, or of a table of literals by device; None for anything else."""
    literal = _on_device(node, device)
    return None if literal is None else _value(literal)


def rounded(value: Any) -> Any:
    """A float rounded to four significant digits; other values unchanged."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _lines(text: str) -> list[str]:
    """The lines as Python counts them: unlike for ``str.splitlines``, a form feed does not end a line."""
    return io.StringIO(text, newline="").readlines()


def _value(node: ast.expr) -> Any:
    """The value of a literal, or of a power of integers such as ``2**18``; None for anything else.

    Only values that ledgers and terminals can hold: finite numbers, booleans, text, and sequences of these.
    """
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        base, exponent = _value(node.left), _value(node.right)
        small = isinstance(base, int) and isinstance(exponent, int) and abs(base) <= 10 and 0 <= exponent <= 40
        return base**exponent if small else None
    try:
        value = ast.literal_eval(node)
        return value if _storable(value) else None
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def _storable(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return len(value) <= MAX_ROW and all(_storable(item) for item in value)
    if isinstance(value, str):
        return len(value) <= MAX_TEXT and value.isprintable()
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and abs(value) < 2**63


def _on_device(node: ast.expr, device: str) -> ast.expr | None:
    """The literal that applies on ``device``: the expression itself, or its entry in a table by device."""
    if not isinstance(node, ast.Subscript):
        return node
    table, index = node.value, node.slice
    if isinstance(table, ast.Dict) and isinstance(index, ast.Name) and index.id == "DEVICE":
        for key, value in zip(table.keys, table.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == device:
                return value
    return None


def _comment(line: str) -> str:
    """The comment at the end of a line: the text after the last ``#``, or the end of it, sufficient for hints."""
    return line[line.rfind("#") + 1 :][-LONGEST_COMMENT:] if "#" in line else ""


def _hint(comment: str) -> tuple[str, bool]:
    """The hint that ends a comment, empty without one; and whether it says that the constant moves."""
    found = HINT.search(comment)
    hint = found[1].strip() if found else ""
    return MOVES.sub("", hint), bool(MOVES.search(hint))


def _written(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(rounded(value))).encode()


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
