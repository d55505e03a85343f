"""The lock of the one process that may write a session."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from nightlab.core.types import NightlabError


class SessionBusy(NightlabError):
    """Another process runs the session ``tag``."""

    def __init__(self, tag: str, holder: str) -> None:
        super().__init__(
            f"session {tag} is already running, as process {holder or 'unknown'}",
            "look at it with nightlab log, stop it with Ctrl-C, or start another with --tag NAME",
        )
        self.tag = tag


def lock_session(folder: Path, tag: str) -> int:
    """The one writer's lock on a session. Raises Busy when another process holds it."""
    try:
        handle = os.open(folder / "writer", os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise NightlabError(
            f"{folder} can't be written: {error.strerror or error}", "fix the folder's permissions"
        ) from error
    if not (_locks(handle, fcntl.LOCK_EX) or _locks(handle, fcntl.LOCK_EX, after=0.1)):  # not for one who only looks
        holder = os.read(handle, 32).decode(errors="replace").strip()
        os.close(handle)
        raise SessionBusy(tag, holder)
    os.ftruncate(handle, 0)
    os.pwrite(handle, str(os.getpid()).encode(), 0)
    return handle


def is_running_now(folder: Path) -> bool:
    """Whether some process runs the session in ``folder``."""
    try:
        handle = os.open(folder / "writer", os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _locks(handle, fcntl.LOCK_SH)
    finally:
        os.close(handle)


def _locks(handle: int, how: int, after: float = 0.0) -> bool:
    time.sleep(after)
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
