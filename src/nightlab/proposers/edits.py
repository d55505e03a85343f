"""Parses and applies edits written by a language model: search-and-replace blocks in plain text.

The format is the one made common by aider. The text to search for must occur exactly once, verbatim: a guess at what
was meant would measure something that the model did not propose.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nightlab.core.source_bytes import BOM
from nightlab.proposers.finished import ASKED

SEARCH, MIDDLE, REPLACE = "<<<<<<< SEARCH", "=======", ">>>>>>> REPLACE"
STARTS = ("\n", BOM)  # after which a line starts
MOST = 100  # edits in one answer
FORMAT = f"""\
Answer with one or more edits, and nothing between them. Each edit is the file's path alone on a line, then the lines to
find and the lines to put there:

path/of/the/file.py
{SEARCH}
exactly the lines as they stand now, enough of them to occur only once
{MIDDLE}
the lines that take their place
{REPLACE}

End with one line: `{ASKED}`. It says that your answer is whole: without it nothing is applied.
"""


class BadEdit(ValueError):
    """An answer that can't be applied; ``str(error)`` tells the model how to fix it."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace the lines ``old`` by ``new`` in the file ``path``; an empty ``old`` creates the file."""

    path: str
    old: str
    new: str


def parse_edits(text: str, genome: Mapping[str, str]) -> tuple[Edit, ...]:
    """The edits in an answer. Raises BadEdit if there are none, one is incomplete, or there is text between them."""
    edits = tuple(_edits(text.replace("\r\n", "\n").split("\n"), genome))
    if not edits:
        raise BadEdit(f"there is no edit in the answer: give at least one block from {SEARCH} to {REPLACE}")
    if len(edits) > MOST:
        raise BadEdit(f"there are {len(edits)} edits; at most {MOST} are allowed: propose one change")
    return edits


def apply_edits(genome: Mapping[str, str], edits: tuple[Edit, ...]) -> dict[str, str]:
    """The new texts of the files that the edits change, by path.

    Raises BadEdit naming each edit that does not fit; then no edit is applied.
    """
    unended = {path: _line_end(text) for path, text in genome.items() if not text.endswith("\n")}
    texts = {path: text + unended.get(path, "") for path, text in genome.items()}
    edited, faults = set(), []
    for number, edit in enumerate(edits, 1):
        text = texts.get(edit.path)
        if text is None:
            if edit.old:
                faults.append(f"edit {number}: there is no file {edit.path!r} in the genome ({', '.join(genome)})")
            else:
                texts[edit.path] = edit.new
                edited.add(edit.path)
            continue
        old, new = (lines.replace("\n", _line_end(text)) for lines in (edit.old, edit.new))
        at = _find(text, old) if old.strip() else -1
        again = at >= 0 and _find(text, old, at + 1) >= 0
        if at >= 0 and not again:
            texts[edit.path] = text[:at] + new + text[at + len(old) :]
            edited.add(edit.path)
        else:
            how = "more than once, it must occur once: give more lines around it" if again else "nowhere"
            faults.append(f"edit {number}: its text to search for occurs in {edit.path} {how}: {edit.old[:200]!r}")
    if faults:
        raise BadEdit("; ".join(faults))
    made = {path: texts[path].removesuffix(unended.get(path, "")) for path in sorted(edited)}
    return {path: text for path, text in made.items() if text != genome.get(path)}


def _edits(lines: list[str], genome: Mapping[str, str]) -> Iterator[Edit]:
    path, at, between, first = "", 0, "", True
    while at < len(lines):
        line = lines[at].rstrip()
        at += 1
        if line != SEARCH:
            between = between or (line.strip() if _prose(line) else "")
            path = line.strip(" `*#:\"'") or path if not line.lstrip().startswith("```") else path
            continue
        if between and not first:
            raise BadEdit(f"there is text between the edits ({between[:80]!r}): give only those that you want applied")
        between, first = "", False
        try:
            middle = next(n for n in range(at, len(lines)) if lines[n].rstrip() == MIDDLE)
            end = next(n for n in range(middle, len(lines)) if lines[n].rstrip() == REPLACE)
        except StopIteration:
            raise BadEdit(f"a block that begins with {SEARCH} does not end with {MIDDLE} and {REPLACE}") from None
        old, new = lines[at:middle], lines[middle + 1 : end]
        name = next(iter(genome)) if len(genome) == 1 and path not in genome and any(old) else path
        yield Edit(name, "".join(f"{line}\n" for line in old), "".join(f"{line}\n" for line in new))
        at = end + 1


def _line_end(text: str) -> str:
    """How the lines of a text end; "\\n" where they end differently."""
    return "\r\n" if 0 < text.count("\n") == text.count("\r\n") else "\n"


def _prose(line: str) -> bool:
    """Whether a line outside the edits is neither a path nor a fence: what it says may take an edit back."""
    return len(line.split()) > 1 and not line.lstrip().startswith("```")


def _find(text: str, old: str, start: int = 0) -> int:
    """Where whole lines stand in a text, from ``start`` on; -1 where they do not."""
    at = text.find(old, start)
    while at > 0 and text[at - 1] not in STARTS:
        at = text.find(old, at + 1)
    return at
