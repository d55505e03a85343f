"""WebAssembly's text format as tokens, in one pass whatever the text holds."""

from __future__ import annotations

import re
from collections.abc import Iterator

SUFFIX = ".wat"
_BLANK = re.compile(r"\s*+")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_BRACKETS = re.compile(r"\(;|;\)")
_OTHER = re.compile(r";;[^\n]*|[()]|[^\s()\";]+|\S")


def tokens(text: str) -> Iterator[str]:
    """Strings, brackets and words, without comments. A string or comment that never ends is one last token."""
    return (text[start:end] for start, end, comment in _spans(text) if not comment)


def without_comments(text: str) -> str:
    """The text with each comment taken out, its lines otherwise as they are."""
    kept, at = list[str](), 0
    for start, end, comment in _spans(text):
        if comment:
            kept.append(text[at:start])
            at = end
    return "".join([*kept, text[at:]])


def _spans(text: str) -> Iterator[tuple[int, int, bool]]:
    """Where each token begins and ends, and whether it is a comment."""
    at = _after(_BLANK, text, 0)
    while at < len(text):
        start, comment = at, text.startswith(("(;", ";;"), at)
        if text.startswith("(;", at):
            at = _comment_end(text, at)
            comment = at >= 0
        else:
            at = _after(_STRING if text[at] == '"' else _OTHER, text, at)
        if at < 0:
            at = len(text)
        yield start, at, comment
        at = _after(_BLANK, text, at)


def _after(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else -1


def _comment_end(text: str, at: int) -> int:
    """Where the comment that begins at ``at`` ends, those inside it included; -1 for one that does not."""
    depth = 0
    for mark in _BRACKETS.finditer(text, at):
        depth += 1 if mark[0] == "(;" else -1
        if depth == 0:
            return mark.end()
    return -1
