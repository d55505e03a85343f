"""When a lab was last attacked by ``nightlab redteam``, and what came of it: a small file beside its sessions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from nightlab.core.files import replace_text
from nightlab.storage.ledger.paths import make_state_folder, state_folder

NAME = "redteam.json"


@dataclass(frozen=True, slots=True)
class RedteamRecord:
    """``at``: seconds since the epoch. ``kept``: the attacks that would be kept, out of ``attacks`` run."""

    commit: str
    at: float
    kept: tuple[str, ...]
    attacks: int


def record_redteam(lab: Path, commit: str, at: float, kept: Sequence[str], attacks: int) -> None:
    """Write down what came of the attacks on a lab."""
    record = RedteamRecord(commit, at, tuple(kept), attacks)
    replace_text(make_state_folder(lab) / NAME, json.dumps(asdict(record)))


def read_redteam(lab: Path) -> RedteamRecord | None:
    """What came of the last attacks on a lab; None if there were none."""
    try:
        found = json.loads((state_folder(lab) / NAME).read_text(encoding="utf-8"))
        return RedteamRecord(found["commit"], found["at"], tuple(found["kept"]), found["attacks"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
