"""Ends a process with all its descendants, daemons included."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import psutil

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
PATIENCE = 20.0  # seconds to try to end a tree
LISTED = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").exists()  # whether the kernel lists a task's children
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def adopt_orphans() -> None:
    """Make this process a subreaper: orphans among its descendants become its children. No effect outside Linux."""
    if _libc is not None:
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 1)


def pin_to_cores(pid: int, cores: Sequence[int]) -> None:
    """Pin a process, and what it starts, to these cores, where the system supports it."""
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(pid, cores)


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends. No effect outside Linux."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def limit_file_size(most: int) -> None:
    """Limit the files that this process and its children write to ``most`` bytes each; no core dumps."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def descendants(pid: int, but: Collection[int] = ()) -> list[psutil.Process]:
    """The current descendants of a process, without the children ``but`` and their descendants.

    Reads the kernel's lists of children where they exist: psutil reads every process of the machine, which would
    saturate two cores when each of 64 trials does it twice a second. Processes that start or end meanwhile may be
    missing.
    """
    found, rest = [], [child for child in _children(pid) if child not in but]
    while rest:
        child = rest.pop()
        with contextlib.suppress(psutil.Error):  # it ended
            found.append(psutil.Process(child))
            rest += _children(child)
    return found


def _children(pid: int) -> list[int]:
    if not LISTED:
        with contextlib.suppress(psutil.Error):
            return [child.pid for child in psutil.Process(pid).children()]
        return []
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):  # a thread that ended
                found += map(int, (task / "children").read_bytes().split())
    return found


def end_tree(reap: Callable[[], object], keep: Collection[int] = ()) -> bool:
    """End every descendant of this process but the children ``keep`` and theirs; False if that failed.

    ``reap`` collects exited children. They are stopped first, so that none can fork its way out.
    """
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        reap()
        left = _all_descendants(keep)
        if not left:
            return True
        for stop in (signal.SIGSTOP, signal.SIGKILL):
            for process in left:
                with contextlib.suppress(psutil.Error, ProcessLookupError):
                    os.kill(process.pid, stop)
        time.sleep(0.005)
    return False


def _all_descendants(but: Collection[int]) -> list[psutil.Process]:
    """Like ``descendants``, but complete. Reads every process of the machine, once."""
    found, spared = [], set(but)
    for process in psutil.Process().children(recursive=True):  # a parent before its children
        parent = 0
        with contextlib.suppress(psutil.Error):  # it ended
            parent = process.ppid()
        if process.pid in spared or parent in spared:
            spared.add(process.pid)
        else:
            found.append(process)
    return found
