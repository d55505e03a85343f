"""Notices that a running session's ledger was removed, as ``git clean -fdx`` does, and writes it back."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from nightlab.core.text import counted
from nightlab.core.types import NightlabError
from nightlab.storage.ledger.ledger import Ledger
from nightlab.storage.ledger.paths import make_state_folder


def require_kept(ledger: Ledger, lab: Path) -> None:
    """Raise NightlabError where the file of an open ledger was removed or replaced; it is written back where it can be.

    The open database still holds everything, though its file has no name any more.
    """
    if ledger.is_there():
        return
    folder, tag = ledger.path.parent, ledger.path.parent.name
    what = f"{folder} was removed while session {tag} ran (git clean -fdx does that)"
    if ledger.path.exists():
        raise NightlabError(
            f"the ledger {ledger.path} was replaced while session {tag} ran",
            f"nothing was written into the other one; to go on with it: nightlab run --tag {tag}",
        )
    try:
        make_state_folder(lab)
        folder.mkdir(exist_ok=True)
        ledger.write_back()
    except (OSError, sqlite3.Error, NightlabError) as error:
        kept = f"its candidates are still commits, in refs/nightlab/{tag}/, and the champion is nightlab/{tag}"
        raise NightlabError(
            f"{what}, and its ledger can't be written back: {error}; {kept}",
            "the session can't go on: start another, nightlab run --tag NEW",
        ) from error
    held = counted(ledger.next_number(), "experiment")
    raise NightlabError(
        f"{what}; its ledger was written back ({held}), the logs of its trials are gone",
        "run the same command: the session goes on, and what was running runs again",
    )
