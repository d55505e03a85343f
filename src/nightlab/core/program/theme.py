"""The theme of a change: which parts of the genome it is about, so that concurrent trials can differ in theme."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping

from nightlab.core.source import LARGE
from nightlab.core.source_bytes import parse_python


def theme(before: Mapping[str, str], after: Mapping[str, str]) -> frozenset[str]:
    """The parts that differ between two genomes (texts by path).

    For Python, the names assigned or defined at the top level and methods, as ``path:Class.method``; the file's other
    statements count as one part, as do files in other languages: the path.
    """
    found: set[str] = set()
    for path in before.keys() | after.keys():
        old, new = before.get(path), after.get(path)
        if old != new:
            one, two = _parts(path, old), _parts(path, new)
            found |= {name for name in one.keys() | two.keys() if one.get(name) != two.get(name)}
    return frozenset(found)


def _parts(path: str, text: str | None) -> dict[str, list[str]]:
    """The parts of a text, by name; empty for a missing file."""
    parts: dict[str, list[str]] = defaultdict(list)
    if text is None:
        return parts
    try:
        if not path.endswith(".py") or len(text) > LARGE:
            raise SyntaxError
        for name, node in _named(parse_python(text), path, ":"):
            parts[name].append(ast.dump(node))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {path: [text]}
    return parts


def _named(block: ast.Module | ast.ClassDef, inside: str, mark: str) -> Iterator[tuple[str, ast.AST]]:
    for node in block.body:
        if isinstance(node, ast.ClassDef):
            yield from _named(node, f"{inside}{mark}{node.name}", ".")
            yield from ((f"{inside}{mark}{node.name}", each) for each in (*node.bases, *node.decorator_list))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{inside}{mark}{node.name}", node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield f"{inside}{mark}{node.targets[0].id}", node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield f"{inside}{mark}{node.target.id}", node
        else:
            yield inside, node
