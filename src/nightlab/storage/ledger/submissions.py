"""Submitted candidates: files beside the ledger, for a session that runs may have one writer only.

A file stays until the ledger knows its candidate, as an experiment or as refused: a kill loses none.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from nightlab.core.files import NotReadable, read_plain, replace_text

PLACE = "tries"
PREFIX = "try-"
LARGEST = 16 * 2**20  # bytes of one: a patch of 2 MB, each byte escaped


@dataclass(frozen=True, slots=True)
class Submission:
    """A patch to the genome at the commit ``base``, to be carried onto the champion, and why it should be better."""

    id: str
    hypothesis: str
    patch: str
    base: str = ""
    proposer: str = "human"


def submit(
    folder: Path, hypothesis: str, patch: str, base: str = "", *, name: str = "", proposer: str = "human"
) -> str:
    """Leave a candidate for the process that runs the session in ``folder``, whole or not at all. Returns its id.

    The id ends in ``name``, by default a random one: with the same name the same candidate is submitted once.
    """
    entry = Submission(f"{PREFIX}{name or secrets.token_hex(4)}", hypothesis, patch, base, proposer)
    path = _path(folder, entry.id)
    path.parent.mkdir(exist_ok=True)
    replace_text(path, json.dumps(asdict(entry)))
    return entry.id


def pending_submissions(folder: Path) -> list[Submission]:
    """What waits in the session's folder, oldest first. What ``submit`` can't have left there is passed over."""
    found = []
    for path in _path(folder, "").parent.glob(f"{PREFIX}*.json"):
        with contextlib.suppress(OSError, NotReadable, ValueError, TypeError):
            entry = Submission(**json.loads(read_plain(path, LARGEST, folder)))
            found.append((path.stat().st_mtime_ns, entry))
    return [entry for _, entry in sorted(found, key=lambda one: one[0])]


def waits(folder: Path, name: str) -> bool:
    return _path(folder, name).exists()


def remove_submission(folder: Path, name: str) -> None:
    """Remove what the ledger knows by now."""
    _path(folder, name).unlink(missing_ok=True)


def _path(folder: Path, name: str) -> Path:
    return folder / PLACE / f"{name}.json"
