"""Set-up of a trial's process before its program starts, and the memory that processes share."""

from __future__ import annotations

import fcntl
import os
import resource
import sys
from collections.abc import Sequence
from typing import IO

from nightlab.engines.local.cgroup import Cgroup
from nightlab.engines.local.usage import tasks_of
from nightlab.sandbox import NOBODY
from nightlab.sandbox.process_tree import die_with_parent, limit_file_size, pin_to_cores

SEALS = (
    0 if sys.platform != "linux" else (fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
)


def tasks_running() -> int:
    """Threads of the user that a trial's processes have, which the kernel's limit on processes counts.

    The limit does not apply to root, but to the `nobody` that a sandbox turns root into.
    """
    return tasks_of(os.geteuid() or NOBODY)


def before_exec(processes: int, file_bytes: int, cores: Sequence[int], cgroup: Cgroup | None, nice: int) -> None:
    """Runs in the child before exec: dies with the supervisor, pinned to its cores, limited processes and files.

    ``processes``: all threads of the user, also those of other programs. ``nice``: added to its niceness.
    """
    if cgroup:
        cgroup.join()
    os.nice(nice)
    pin_to_cores(0, cores)
    die_with_parent()
    limit_file_size(file_bytes)
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    if hard == resource.RLIM_INFINITY or hard > processes:
        resource.setrlimit(resource.RLIMIT_NPROC, (processes, hard))


def shared_memory() -> IO[bytes]:
    """An in-memory file for the arrays of a served model.

    On Linux it is sealed against shrinking (which would crash a process that has it mapped) and further seals.
    """
    if sys.platform != "linux":
        import tempfile

        return tempfile.TemporaryFile()
    fd = os.memfd_create("nightlab", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
    return os.fdopen(fd, "r+b", buffering=0)


def private_memory() -> IO[bytes]:
    """An in-memory file that can be sealed."""
    if sys.platform != "linux":
        import tempfile

        return tempfile.TemporaryFile()
    fd = os.memfd_create("nightlab", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    return os.fdopen(fd, "r+b", buffering=0)


def seal(file: IO[bytes]) -> None:
    """Have the kernel refuse every change of such a file from now on, where it can."""
    if sys.platform == "linux":
        fcntl.fcntl(file.fileno(), fcntl.F_ADD_SEALS, SEALS)
