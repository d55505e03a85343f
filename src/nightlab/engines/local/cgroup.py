"""A cgroup per candidate, where the system allows it: then the kernel enforces the memory limit.

Requires cgroup v2 and a delegated ``memory`` controller in our own cgroup, with no other process in it: the kernel
limits no child of a cgroup that contains processes, so the orchestrator moves itself into a child; other processes are
not ours to move. Everywhere else memory is sampled.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import NamedTuple

ROOT, OURS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
LEAF = "nightlab-orchestrator"


def delegated(root: Path = ROOT, ours: Path = OURS) -> Path | None:
    """The cgroup in which candidates' cgroups can be created; None if there is none. Changes nothing."""
    try:
        own = root / next(
            x for x in ours.read_text(encoding="utf-8").splitlines() if x.startswith("0::/")
        ).removeprefix("0::/")
        if own.name == LEAF:  # an earlier session in this process moved it
            return own.parent if "memory" in _words(own.parent / "cgroup.subtree_control") else None
        session_lock = _words(own / "cgroup.procs") == [str(os.getpid())]
        writable = all(os.access(own / name, os.W_OK) for name in ("", "cgroup.procs", "cgroup.subtree_control"))
        return own if session_lock and writable and "memory" in _words(own / "cgroup.controllers") else None
    except (OSError, StopIteration):
        return None


def make_room(root: Path = ROOT, ours: Path = OURS) -> Path | None:
    """Like ``delegated``, and moves this process into a child, so that the kernel can limit the other children."""
    if (parent := delegated(root, ours)) is None or "memory" in _words(parent / "cgroup.subtree_control"):
        return parent
    leaf = parent / LEAF
    try:
        leaf.mkdir(exist_ok=True)
        (leaf / "cgroup.procs").write_text(str(os.getpid()), encoding="utf-8")
        wanted = [f"+{name}" for name in ("memory", "pids") if name in _words(parent / "cgroup.controllers")]
        (parent / "cgroup.subtree_control").write_text(" ".join(wanted), encoding="utf-8")
    except OSError:
        with contextlib.suppress(OSError):
            (parent / "cgroup.procs").write_text(str(os.getpid()), encoding="utf-8")
            leaf.rmdir()
        return None
    return parent


class Cgroup(NamedTuple):
    """One candidate's cgroup."""

    folder: Path

    def open(self, memory_mb: float | None, processes: int) -> None:
        """Create it with its limits. Raises OSError where the kernel does not allow it."""
        self.folder.mkdir(exist_ok=True)
        if memory_mb:
            (self.folder / "memory.max").write_text(str(int(memory_mb * 2**20)), encoding="utf-8")
        for name, value in {"memory.swap.max": 0, "memory.oom.group": 1, "pids.max": processes}.items():
            with contextlib.suppress(PermissionError):  # no such file: no swap, or an old kernel
                (self.folder / name).write_text(str(value), encoding="utf-8")

    def join(self) -> None:
        """Move the calling process, and what it will start, into it."""
        (self.folder / "cgroup.procs").write_text("0", encoding="utf-8")

    def peak_mb(self) -> float:
        """Peak memory in MB; 0 where the kernel does not report it."""
        return int((_words(self.folder / "memory.peak") or ["0"])[0]) / 2**20

    def ran_out(self) -> bool:
        """Whether the kernel killed a process in it for lack of memory."""
        words = _words(self.folder / "memory.events")
        return int(dict(zip(words[::2], words[1::2], strict=True)).get("oom_kill", 0)) > 0

    def kill(self) -> None:
        """Kill all processes in it atomically, including those being forked."""
        with contextlib.suppress(OSError):
            (self.folder / "cgroup.kill").write_text("1", encoding="utf-8")

    def close(self) -> None:
        """Kill what is in it, and remove it."""
        self.kill()
        for _ in range(200):  # killed processes disappear with a short delay
            with contextlib.suppress(OSError):
                self.folder.rmdir()
            if not self.folder.exists():
                break
            time.sleep(0.005)


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split()
    except OSError:
        return []
