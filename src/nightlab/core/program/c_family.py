"""C and its relatives without what does nothing: comments and blank lines, in one pass whatever the text holds."""

from __future__ import annotations

import re
from pathlib import PurePath

SUFFIXES = {".c", ".h", ".cc", ".cpp", ".cxx", ".hh", ".hpp", ".hxx", ".cl", ".cu", ".cuh", ".java"}
_COMMENT = r"//(?:[^\\\n]|\\\n|\\.)*+|/\*(?s:.*?)(?:\*/|\Z)"
_LITERAL = r'"(?:[^"\\\n]|\\[\s\S])*+"?|(?<![0-9a-fA-F])\'(?:[^\'\\\n]|\\[\s\S])*+\'?'
_TOKEN = re.compile(f"({_COMMENT})|{_LITERAL}")
_RAW = re.compile(r'R"|"""')  # strings of another grammar


def is_one(path: str) -> bool:
    """Whether a file is of this family, by its name."""
    return PurePath(path).suffix in SUFFIXES


def without_comments(text: str) -> str:
    """The text with a space for each comment; as it is where it has strings whose end is not told as in C."""
    return text if _RAW.search(text) else _TOKEN.sub(lambda found: " " if found[1] else found[0], text)


def bare(text: str) -> str:
    """The text without comments, blank lines and spaces at the end of lines."""
    text = without_comments(text)
    if "\\\n" in text:  # where lines are continued, an empty one may end a macro
        return text
    return "\n".join(line.rstrip() for line in text.splitlines() if line.strip())
