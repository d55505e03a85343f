"""A session as a pandas frame."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas


def load(path: str | Path, tag: str | None = None) -> pandas.DataFrame:
    """A session's experiments as a pandas frame, one row each.

    ``path``: a lab's folder, of whose sessions the latest is taken if there is no ``tag``; a session's folder, or its
    ``ledger.db``. The session may be running. docs/data.md has the columns.

    Raises NightlabError where there is no session, or pandas is missing.

    Example::

        frame = nightlab.load("my-lab")
        print(frame[frame.status == "keep"][["number", "metric", "hypothesis"]])
    """
    from nightlab.integrations.frame import session_frame

    return session_frame(path, tag)
