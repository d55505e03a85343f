"""The tags of a lab's sessions, for completion in a shell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer


def complete_tag(ctx: typer.Context, incomplete: str) -> list[str]:
    """The tags of the lab's sessions that begin with ``incomplete``, the latest used first."""
    from nightlab.storage.ledger import tags

    return [tag for tag in tags(Path(_lab(ctx.params))) if tag.startswith(incomplete)]


def _lab(given: dict[str, Any]) -> Any:
    lab = given.get("lab") or given.get("labs") or Path()
    return lab[0] if isinstance(lab, (list, tuple)) else lab
