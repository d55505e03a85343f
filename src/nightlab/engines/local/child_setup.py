"""What is done to a process of a trial before its program starts, and the memory that it shares."""

from __future__ import annotations

import fcntl
import os
import resource
import sys
import tempfile
from collections.abc import Sequence
from typing import IO

from nightlab.engines.local.cgroup import Cgroup
from nightlab.engines.local.usage import tasks_of
from nightlab.engines.slots import pin
from nightlab.sandbox.bubblewrap import NOBODY
from nightlab.sandbox.process_tree import die_with_parent, limit_file_size

_running = tasks_of(os.geteuid() or NOBODY)


def before_exec(processes: int, file_bytes: int, cores: Sequence[int], cgroup: Cgroup | None) -> None:
    """In the child, before its program: die with the supervisor, stay on its cores, bounded processes and files."""
    if cgroup:
        cgroup.join()
    pin(0, cores)
    die_with_parent()
    limit_file_size(file_bytes)
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    if hard == resource.RLIM_INFINITY or hard > processes + _running:
        # The limit counts all threads of the user, so it is on top of those that run already. It does not
        # bind root, but it does bind the nobody that a sandbox makes of root.
        resource.setrlimit(resource.RLIMIT_NPROC, (processes + _running, hard))


def shared_memory() -> IO[bytes]:
    """A file in memory for the arrays of a served model.

    On Linux it can't be made smaller again: that would end the process that has it mapped. And nobody may
    add a seal of his own.
    """
    if sys.platform != "linux":
        return tempfile.TemporaryFile()
    fd = os.memfd_create("nightlab", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
    return os.fdopen(fd, "r+b", buffering=0)
