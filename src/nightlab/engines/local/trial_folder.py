"""A trial's folder: the names in it that several of us use, which processes are of it, and what they printed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from pathlib import Path

import psutil

from nightlab.core.text import plain

MARK = "NIGHTLAB_TRIAL"  # names the trial's folder in the environment of each of its processes
BORN = "born"  # a file in the folder of a trial whose supervisor stood by: what the folder was called then


def printed(folder: Path, role: str = "candidate") -> str:
    """What a process of the trial in ``folder`` printed, made harmless; empty when it left no log."""
    return plain(_read_bytes(folder / f"{role}.log"), limit=20_000)


def end_leftovers(folder: Path) -> int:
    """End every process that still runs in the name of the trial in this folder, or below it. Returns how many."""
    left = marked(folder)
    for process in left:
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    return len(left)


def marked(folder: Path) -> list[psutil.Process]:
    """Processes whose environment says that they belong to a trial at or below ``folder``."""
    found, marks = [], {str(folder), str(folder.with_name(born(folder)))}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            mark = process.environ().get(MARK, "")
            if mark in marks or mark.startswith(f"{folder}{os.sep}"):
                found.append(process)
    return found


def born(folder: Path) -> str:
    """What a trial's folder was called when its processes were started: an environment can't be changed later."""
    return read(folder / BORN) or folder.name


def locked(folder: Path) -> bool:
    """Whether a living supervisor holds the folder's lock."""
    try:
        handle = os.open(folder / "lock", os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def read(path: Path) -> str:
    """A file's text, whatever is in it; empty when there is none."""
    return _read_bytes(path).decode("utf-8", errors="replace")


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
