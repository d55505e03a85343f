"""How much information a genome carries: the bytes that are left of it after compression.

A genome can hold data instead of a program: phrases of the validation text, weights that were trained elsewhere.
Nothing that it computes from its own files is more than what they compress to, so that is bounded.
"""

from __future__ import annotations

import ast
import lzma
from collections.abc import Collection, Iterator, Mapping

from nightlab.core.source import TOO_MUCH, parsed, syntax_tree

LONGEST_LITERAL = 2048  # bytes from which on a literal has to look like text
LONGEST_TABLE = 512  # numbers or texts in one list, tuple, set or dictionary
TEXT = 0.65  # of its bytes, what text of that length compresses to at most: code 0.44, English 0.57, base64 0.77
TABLES = (ast.List, ast.Tuple, ast.Set, ast.Dict)
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 22}]


def compressed(text: str) -> int:
    """The bytes that a text compresses to."""
    return len(lzma.compress(text.encode(errors="surrogatepass"), lzma.FORMAT_RAW, filters=FILTERS))


def joined(genome: Mapping[str, str]) -> str:
    """The texts of a genome as one, with their names."""
    return "".join(f"{path}\n{text}\n" for path, text in sorted(genome.items()))


def new_information(genome: Mapping[str, str], baseline: Mapping[str, str]) -> int:
    """The bytes of information in a genome that are not in the baseline's. Comments count: a program can read them."""
    before = joined(baseline)
    return max(compressed(before + joined(genome)) - compressed(before), 0)


def program_information(path: str, text: str) -> int:
    """The bytes of information in one file's program; of Python without comments, layout and docstrings."""
    try:
        tree = parsed(path, text)
        return compressed(ast.unparse(tree) if tree else text)
    except TOO_MUCH:
        return compressed(text)


def find_data(genome: Mapping[str, str], baseline: Mapping[str, str]) -> str:
    """Where a genome's Python holds a literal that looks like data, and is not the baseline's, in words; or empty."""
    known = {key for path, text in baseline.items() for _, _, key in _data(path, text)}
    for path, text in sorted(genome.items()):
        if text != baseline.get(path):
            for line, what, key in _data(path, text, known):
                if key not in known:
                    return f"{path}, line {line}: {what}"
    return ""


def _data(path: str, text: str, known: Collection[object] = ()) -> Iterator[tuple[int, str, object]]:
    """The line, a description and the content of each literal that looks like data."""
    if not path.endswith(".py"):
        return
    if not (tree := syntax_tree(text)):
        yield 1, "a program too deep to be searched for data", text
        return
    inside: set[ast.AST] = set()  # tables that are a part of one
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes | int):
            raw = _bytes_of(node.value)
            if len(raw) >= LONGEST_LITERAL and raw not in known and (isinstance(node.value, int) or not _is_text(raw)):
                yield node.lineno, f"a literal of {len(raw):,} bytes that looks like data, not like text", raw
        elif isinstance(node, TABLES) and node not in inside:
            values = list(_values(node, inside))
            if len(values) > LONGEST_TABLE:
                yield node.lineno, f"a table of {len(values):,} values", tuple((type(value), value) for value in values)


def _values(table: ast.AST, inside: set[ast.AST]) -> Iterator[object]:
    """The constants in a table, in those within it, and with their signs. Notes which tables are ``inside``."""
    rest = [table]
    while rest:
        node = rest.pop()
        if isinstance(node, ast.Constant):
            yield node.value
        elif isinstance(node, (*TABLES, ast.UnaryOp, ast.BinOp)):
            rest += ast.iter_child_nodes(node)
            inside.add(node)


def _bytes_of(value: str | bytes | int) -> bytes:
    if isinstance(value, int):
        return value.to_bytes(value.bit_length() // 8 + 1, "big") if value.bit_length() >= 8 * LONGEST_LITERAL else b""
    return value if isinstance(value, bytes) else value.encode(errors="surrogatepass")


def _is_text(raw: bytes) -> bool:
    return len(lzma.compress(raw, lzma.FORMAT_RAW, filters=FILTERS)) <= TEXT * len(raw)
