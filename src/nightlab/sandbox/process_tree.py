"""A process and all that descends from it, daemons included: adopted, and ended for certain."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path

import psutil

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
PATIENCE = 20.0  # seconds until what can't be ended is given up
LISTED = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").exists()  # whether the kernel lists children
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def adopt_orphans() -> None:
    """From now on, what loses its parent below this process becomes its child."""
    if _libc is not None:
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """From now on, this process is killed when the thread that started it ends."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def bound_files(most: int) -> None:
    """From now on this process, and what it starts, leaves no core files and writes no file of more bytes than that."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def below(pid: int, but: Collection[int] = ()) -> list[psutil.Process]:
    """What descends from a process, as it stands, less some of its children and what is below those.

    By the kernel's own lists, where it keeps them: psutil reads every process of the machine, and when each of 64
    trials does that twice a second, nothing else is done on two cores. What begins or ends meanwhile may be missing.
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


def end_tree(reap: Callable[[], object]) -> bool:
    """End everything below this process; False when that did not work. ``reap`` collects what has ended.

    Stopped first, so that nothing re-forks its way out.
    """
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        reap()
        left = psutil.Process().children(recursive=True)  # all there are, for certain
        if not left:
            return True
        for stop in (signal.SIGSTOP, signal.SIGKILL):
            for process in left:
                with contextlib.suppress(psutil.Error, ProcessLookupError):
                    os.kill(process.pid, stop)
        time.sleep(0.005)
    return False
