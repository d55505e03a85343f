"""Resource usage of a process tree measured from outside, including what the usual counters miss:

CPU time of children that were not waited for, memory in unmapped files, disk space in unlinked files. A cgroup would
count all of it exactly; this works without permission to create one.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import stat
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}
_SOFTWARE, _TASK_CLOCK, _CLOSE_ON_EXEC = 1, 1, 8
_DISABLED, _INHERIT, _EXCLUDE_KERNEL, _ENABLE_ON_EXEC = 1 << 0, 1 << 1, 1 << 5, 1 << 12
GPU_QUERY = ("nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits")
_ENTRY = 4096  # smallest disk usage counted per file, in bytes
_DEEPEST = 64  # nesting depth of folders that is scanned: access time grows with depth


class CpuClock:
    """CPU seconds of programs started by this thread from now on, with all their descendants.

    The kernel adds a process's time to its parent's only when the parent waits for it; a parent that ignores SIGCHLD
    could train in children that are never counted. An inherited performance counter includes them.
    Reads 0 where the system provides no counter.
    """

    def __init__(self) -> None:
        self.fd = -1
        number = _PERF_EVENT_OPEN.get(os.uname().machine)
        if _libc is None or number is None:
            return
        for more in (0, _EXCLUDE_KERNEL):  # without root, only user time may be counted
            flags = _DISABLED | _INHERIT | _ENABLE_ON_EXEC | more
            attributes = struct.pack("<IIQQQQQIIQ", _SOFTWARE, 64, _TASK_CLOCK, 0, 0, 0, flags, 0, 0, 0)
            if self.fd < 0:
                self.fd = _libc.syscall(number, attributes, 0, -1, -1, _CLOSE_ON_EXEC)

    def seconds(self) -> float:
        if self.fd < 0:
            return 0.0
        return int(struct.unpack("<Q", os.read(self.fd, 8))[0]) / 1e9


def tasks_of(user: int) -> int:
    """Number of threads of a user, which is what the kernel's process limit counts.

    Without those of programs that hide their memory from the user (an agent for keys): the kernel shows them as root's.
    """
    count = 0
    with contextlib.suppress(OSError), os.scandir("/proc") as entries:
        for entry in entries:
            with contextlib.suppress(OSError, ValueError, IndexError):
                if entry.name.isdecimal() and entry.stat().st_uid == user:
                    status = Path(entry.path, "status").read_bytes()
                    count += int(status.split(b"\nThreads:", 1)[1].split(maxsplit=1)[0])
    return count


def folder_mb(folder: Path, most: float = math.inf) -> float:
    """Disk usage of a folder in MB, or what was found of it until it exceeded ``most``: it may grow while one looks.

    Infinity if a part of it is too deep or unreadable.
    """
    size, rest = 0, [(str(folder), 0)]
    while rest:
        path, depth = rest.pop()
        if depth > _DEEPEST:
            return math.inf
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if size > most * 2**20:
                        return size / 2**20
                    with contextlib.suppress(FileNotFoundError):
                        size += max(entry.stat(follow_symlinks=False).st_blocks * 512, _ENTRY)
                        if entry.is_dir(follow_symlinks=False):
                            rest.append((entry.path, depth + 1))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return math.inf
    return size / 2**20


def nameless_mb(pids: Iterable[int], device: int) -> tuple[float, float]:
    """MB in unlinked open files of processes: on the disk ``device``, and in memory (memfd)."""
    seen: dict[tuple[int, int], tuple[bool, int]] = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            for fd in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    found = fd.stat()
                    if found.st_nlink == 0 and stat.S_ISREG(found.st_mode):
                        memory = str(fd.readlink()).startswith("/memfd:")
                        if memory or found.st_dev == device:
                            seen[found.st_dev, found.st_ino] = memory, found.st_blocks * 512
    disk = sum(size for memory, size in seen.values() if not memory)
    return disk / 2**20, sum(size for memory, size in seen.values() if memory) / 2**20


def gpu_mb(said: str, pids: Iterable[int]) -> float:
    """GPU memory of processes in MB, from the output of ``GPU_QUERY``."""
    ours, used = set(pids), 0.0
    for line in said.splitlines():
        with contextlib.suppress(ValueError):  # "[N/A]", or words where there is no device
            pid, mb = line.split(",")
            used += float(mb) if int(pid) in ours else 0
    return used


def scratch_mb(pids: Iterable[int], folders: Iterable[str], size: int) -> float:
    """MB used in a sandbox's in-memory folders, each with a capacity of ``size`` bytes."""
    for pid in pids:
        used, found = 0, 0
        for folder in folders:
            with contextlib.suppress(OSError):
                room = os.statvfs(f"/proc/{pid}/root{folder}")
                if abs(room.f_blocks * room.f_frsize - size) < 65536:
                    found += 1
                    used += (room.f_blocks - room.f_bfree) * room.f_frsize + (room.f_files - room.f_ffree) * 1024
        if found:
            return used / 2**20
    return 0.0


def mapped_files_mb(pids: Iterable[int]) -> float:
    """MB of shared memory mapped by the processes: the part of in-memory files in their resident size."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError):
            for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
                if line.startswith("RssShmem:"):
                    total += int(line.split()[1])
    return total / 1024
