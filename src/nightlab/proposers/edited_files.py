"""What a program left of a copy of the lab: the genome's files that it edited, and words for edits that are lost."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from nightlab.core.source_bytes import decode_source, undecodable
from nightlab.core.text import one_line
from nightlab.proposers.proposer import NoProposal
from nightlab.storage import checkouts
from nightlab.storage.git import in_genome
from nightlab.storage.git.limits import MAX_GENOME_BYTES

BRIEFING, HYPOTHESIS = "nightlab-briefing.md", "hypothesis.txt"
USAGE, TURN = "nightlab-usage.json", "nightlab-turn.json"
MOST_FILES = 50_000
MOST_PAIRS = 10_000_000  # of lines of two texts that are compared: some 3,000 of each
HUNK = re.compile(r"^(@@ -)(\d+)([\d,]* \+)(\d+)")  # the numbers of a hunk's first lines
MOST_LOST = 160  # characters that say what a failed turn had edited


def edited_files(
    work: Path, ids: Mapping[str, str], genome: tuple[str, ...], before: Mapping[str, str]
) -> dict[str, str]:
    """The genome files that were changed or created; ``before``: their texts until then.

    Raises NoProposal for changes outside the genome.
    """
    frozen = {path: name for path, name in ids.items() if not in_genome(path, genome)}
    if fault := checkouts.find_change(work, frozen, whole=False):
        raise NoProposal(f"out of scope: {fault}; only the genome may change")
    found = _files(work)
    edited: dict[str, str] = {}
    for path, name in ids.items():
        if path not in frozen and path not in found and not name.startswith("link "):
            raise NoProposal(f"it removed {path} or replaced it by something other than a plain file")
    for path in sorted(found):
        if in_genome(path, genome) and (path in ids or not _scratch(path)):
            like = ids.get(path, next(iter(ids.values())).split()[-1])
            if checkouts.file_id(work / path, like) != ids.get(path):
                edited[path] = _text(work / path, path, before.get(path, ""))
    return edited


def line_diff(before: str, after: str, path: str = "", context: int = 0) -> list[str]:
    """The lines of a unified diff of two texts; one line that says so where too many are changed to be compared."""
    old, new = before.splitlines(), after.splitlines()
    begin = _alike(old, new)
    end = _alike(old[begin:][::-1], new[begin:][::-1])
    rows, others = len(old) - begin - end, len(new) - begin - end
    if rows * others > MOST_PAIRS:  # the time grows with the third power where many lines are alike
        return [f"{path}: {rows:,} and {others:,} lines from the first change to the last, too many to be compared"]
    first, last = max(begin - context, 0), max(end - context, 0)
    old, new = old[first : len(old) - last], new[first : len(new) - last]
    diff = difflib.unified_diff(old, new, path, path, n=context, lineterm="")
    return [HUNK.sub(lambda at: f"{at[1]}{int(at[2]) + first}{at[3]}{int(at[4]) + first}", line) for line in diff]


def _alike(old: list[str], new: list[str]) -> int:
    """How many lines two texts begin with alike."""
    pairs = zip(old, new, strict=False)
    return next((n for n, (one, other) in enumerate(pairs) if one != other), min(len(old), len(new)))


def lost_edits(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """What a failed turn had edited, for its reason: the first changed lines; empty if it had edited nothing."""
    lines = []
    for path, text in after.items():
        diff = line_diff(before.get(path, ""), text, path)
        lines += [line for line in diff[2:] if line[:1] in "+-" and line[1:].strip()] if len(diff) > 1 else diff
    return f"; its edits are lost: {one_line(' '.join(lines), MOST_LOST)}" if lines else ""


def _files(work: Path) -> set[str]:
    """The plain files below a folder, by path, without following links. Raises NoProposal for unreadable folders."""
    found: set[str] = set()
    rest = [work]
    while rest:
        try:
            with os.scandir(rest.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        rest.append(Path(entry.path))
                    elif entry.is_file(follow_symlinks=False):
                        found.add(Path(entry.path).relative_to(work).as_posix())
        except OSError as error:
            raise NoProposal(f"it left an unreadable folder: {error.strerror}") from None
        if len(found) > MOST_FILES:
            raise NoProposal(f"it left more than {MOST_FILES:,} files")
    return found


def _scratch(path: str) -> bool:
    """Whether a new file is temporary (an agent's or ours), although it matches the genome's globs."""
    parts = path.split("/")
    ours = path in (BRIEFING, HYPOTHESIS, USAGE, TURN)
    return ours or "__pycache__" in parts or any(part.startswith(".") for part in parts)


def _text(path: Path, name: str, before: str) -> str:
    """The text that was left in a file. Raises NoProposal if that is too long, or is no text and was before."""
    with path.open("rb") as file:
        raw = file.read(MAX_GENOME_BYTES + 1)
    if len(raw) > MAX_GENOME_BYTES:
        raise NoProposal(f"{name} has more than {MAX_GENOME_BYTES:,} bytes")
    text = decode_source(raw)
    if undecodable(text) and not undecodable(before):
        raise NoProposal(f"{name} is no longer text in UTF-8, or in the encoding that it declares")
    return text
