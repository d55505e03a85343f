"""A source file's bytes as text, and back: the same bytes for all that was not edited.

The encoding follows from the text itself, so nothing has to be remembered beside it: the one that its first two lines
declare, as for Python (PEP 263), if that is a single-byte encoding; else UTF-8. Bytes that the encoding lacks become
lone surrogates and are written back as they were (PEP 383). A byte-order mark stays the first character.
"""

from __future__ import annotations

import ast
import codecs
import re
from functools import cache

BOM = "\ufeff"
DECLARED = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
NO_CODE = re.compile(rb"^[ \t\f]*(?:#[^\r\n]*)?$")  # a line after which the declaration may still follow
LINE_END, BYTE_LINE_END = re.compile("\r\n|\r|\n"), re.compile(b"\r\n|\r|\n")
SINGLE_BYTE = re.compile("ascii|iso8859-|cp|koi8-|mac-|tis-620|hp-roman8|kz1048|ptcp154")
UNDECODABLE = re.compile("[\udc80-\udcff]")
SURROGATE = re.compile("[\ud800-\udfff]")


def decode_source(raw: bytes) -> str:
    """A file's text. ``encode_source`` gives exactly its bytes back, whatever they are."""
    encoding = "utf-8" if raw.startswith(codecs.BOM_UTF8) else _encoding(BYTE_LINE_END.split(raw, 2)[:2])
    return raw.decode(encoding, "surrogateescape")


def encode_source(text: str) -> bytes:
    """A text's bytes. Raises ValueError naming the line and the character that its encoding lacks."""
    encoding = _encoding([line.encode("ascii", "replace") for line in LINE_END.split(text, 2)[:2]])
    try:
        return text.encode("utf-8" if text.startswith(BOM) else encoding, "surrogateescape")
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        raise ValueError(f"line {line}: {encoding} has no {text[error.start]!a}") from None


def decode_patch(raw: bytes) -> str:
    """A patch's text: it may hold lines of files in several encodings. ``encode_patch`` gives its bytes back."""
    return raw.decode("utf-8", "surrogateescape")


def encode_patch(text: str) -> bytes:
    """A patch's bytes. Raises ValueError where the text has none."""
    return text.encode("utf-8", "surrogateescape")


def undecodable(text: str) -> tuple[int, str] | None:
    """The line of the first byte that a text's encoding lacks, and that byte in words; None without one."""
    found = UNDECODABLE.search(text)
    return found and (text.count("\n", 0, found.start()) + 1, f"byte 0x{ord(found[0]) - 0xDC00:02x}")


def declares_encoding(raw: bytes) -> bool:
    """Whether a file's first two lines declare its encoding."""
    return bool(_declared(BYTE_LINE_END.split(raw, 2)[:2]))


def read_otherwise(raw: bytes) -> str:
    """The encoding that a file declares, where Python finds other ASCII characters in it than these bytes; or empty."""
    name = _declared(BYTE_LINE_END.split(raw, 2)[:2])
    try:
        text = raw.decode(name or "ascii", "ignore")
    except (LookupError, ValueError):
        return ""  # Python refuses it
    return name if text.encode("ascii", "ignore") != raw.decode("ascii", "ignore").encode() else ""


def parse_python(text: str) -> ast.Module:
    """The syntax tree. Columns are those of the text in UTF-8 without its byte-order mark, as ``utf8`` gives it.

    Raises what ``ast.parse`` raises.
    """
    return ast.parse(SURROGATE.sub("\ufffd", text.removeprefix(BOM)))


def _encoding(head: list[bytes]) -> str:
    """The encoding of a file with these first two lines."""
    name = _declared(head)
    return name if name and _is_single_byte(name) else "utf-8"


def _declared(head: list[bytes]) -> str:
    """The encoding that two lines declare; empty if they declare none."""
    for line in head:
        if found := DECLARED.match(line):
            return found[1].decode()
        if not NO_CODE.match(line):
            break
    return ""


@cache
def _is_single_byte(encoding: str) -> bool:
    """Whether an encoding extends ASCII and gives each byte a character, to and fro."""
    every = bytes(range(256))
    try:
        text = every.decode(encoding, "surrogateescape")
        same = text[:128].encode("ascii") == every[:128] and text.encode(encoding, "surrogateescape") == every
        return len(text) == 256 and same and bool(SINGLE_BYTE.match(codecs.lookup(encoding).name))
    except (LookupError, ValueError):
        return False


def changed_lines(patch: str) -> int:
    """The number of lines that a patch removes and adds."""
    count, inside = 0, False
    for line in patch.split("\n"):
        inside = (inside or line.startswith("@@")) and not line.startswith("diff ")
        count += inside and line[:1] in ("+", "-")
    return count
