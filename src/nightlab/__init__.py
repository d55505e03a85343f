"""nightlab: the lab that runs while you sleep."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas

__version__ = "0.1.0"


def load(path: str | Path, tag: str | None = None) -> pandas.DataFrame:
    """A session's experiments as a pandas frame, one row each: ``nightlab.load("my-lab")``.

    ``path``: a lab's folder, of whose sessions the latest is taken if there is no ``tag``; a session's folder, or its
    ``ledger.db``. docs/data.md has the columns. Raises NightlabError where there is no session, or no pandas.
    """
    from nightlab.integrations.frame import load

    return load(path, tag)
