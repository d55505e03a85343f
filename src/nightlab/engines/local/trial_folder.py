"""A trial's folder: shared file names, its processes, and their output."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import psutil

from nightlab.core.text import plain

MARK = "NIGHTLAB_TRIAL"  # environment variable with the trial's folder, set in each of its processes
PROXY = "proxy"  # the socket of the proxy to the evaluator's gateways
ANSWER = "answer"  # a copy of the file that the candidate left for later trials to start from
SAVED = "saved"  # a file with the arrays that a member of a population handed over to go on from
ORIGINAL_NAME = "born"  # a file with the original name of a folder whose supervisor stood by


def trial_output(folder: Path, role: str = "candidate") -> str:
    """What a process of the trial in ``folder`` printed, sanitised, at most 20,000 characters; empty without a log."""
    return plain(_read_bytes(folder / f"{role}.log"), limit=20_000)


def kill_leftovers(folder: Path) -> int:
    """Kill every process that belongs to a trial in or below ``folder``. Returns their number."""
    left = trial_processes(folder)
    for process in left:
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    return len(left)


def trial_processes(folder: Path) -> list[psutil.Process]:
    """Processes that belong to a trial in or below ``folder``: supervisors, and what their environment marks."""
    marks, found = {str(folder), str(folder.with_name(original_name(folder)))}, []
    pids = {pid for lock in (folder / "lock", *folder.glob("*/lock")) if (pid := supervisor_of(lock.parent))}
    for pid in psutil.pids():
        with contextlib.suppress(psutil.Error, OSError):
            if pid in pids or (mark := _mark(pid)) in marks or mark.startswith(f"{folder}{os.sep}"):
                found.append(psutil.Process(pid))
    return found


def _mark(pid: int) -> str:
    """The trial's folder that a process's environment names; empty if none."""
    if sys.platform != "linux":
        return str(psutil.Process(pid).environ().get(MARK, ""))
    with open(f"/proc/{pid}/environ", "rb", buffering=0) as environ:  # noqa: PTH123 -- psutil takes ten times as long
        names = environ.read()
    _, _, found = (b"\0" + names).partition(f"\0{MARK}=".encode())
    return os.fsdecode(found.partition(b"\0")[0])


def supervisor_of(folder: Path) -> int | None:
    """The process id of the running supervisor of a trial; None if there is none."""
    with contextlib.suppress(ValueError):
        return int(read_text(folder / "lock")) if locked(folder) else None
    return None  # it has only just locked it


def original_name(folder: Path) -> str:
    """The folder's name when its processes started: their environment still contains that name."""
    return read_text(folder / ORIGINAL_NAME) or folder.name


def compiled_folder(trial: Path, role: str) -> Path:
    """The folder of the compilers' caches of one of a trial's processes."""
    return trial / ("compiled" if role == "candidate" else f"compiled-{role}")


def locked(folder: Path) -> bool:
    """Whether a running supervisor holds the folder's lock."""
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


def read_text(path: Path) -> str:
    """A file's text, with undecodable bytes replaced; empty if it does not exist."""
    return _read_bytes(path).decode("utf-8", errors="replace")


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def write_atomically(path: Path, data: dict[str, Any], *, lasting: bool = True) -> None:
    """Write a file of JSON whole or not at all. ``lasting``: also if the machine fails."""
    draft = path.with_name(path.name + ".tmp")
    with draft.open("w", encoding="utf-8") as out:
        json.dump(data, out)
        out.flush()
        if lasting:
            os.fsync(out.fileno())
    os.replace(draft, path)
