"""A cgroup for each candidate, where the system lets us make one: then memory is the kernel's to limit.

Only below our own cgroup, in version 2, where ``memory`` was delegated to us and nobody but us is in it: the
kernel limits no child of a cgroup that holds processes, so we move into a child ourselves, and others are not
ours to move. Everywhere else memory is sampled.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

ROOT, OURS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
LEAF = "nightlab-orchestrator"


def delegated(root: Path = ROOT, ours: Path = OURS) -> Path | None:
    """The cgroup below which candidates may have their own; None where there is none. Changes nothing."""
    try:
        own = root / next(x for x in ours.read_text().splitlines() if x.startswith("0::/")).removeprefix("0::/")
        if own.name == LEAF:  # an earlier session of this process moved us
            return own.parent if "memory" in _words(own.parent / "cgroup.subtree_control") else None
        session_lock = _words(own / "cgroup.procs") == [str(os.getpid())]
        writable = all(os.access(own / name, os.W_OK) for name in ("", "cgroup.procs", "cgroup.subtree_control"))
        return own if session_lock and writable and "memory" in _words(own / "cgroup.controllers") else None
    except (OSError, StopIteration):
        return None


def make_room(root: Path = ROOT, ours: Path = OURS) -> Path | None:
    """As ``delegated``, and leaves that cgroup for a child of it, so that it can limit its other children."""
    if (parent := delegated(root, ours)) is None or "memory" in _words(parent / "cgroup.subtree_control"):
        return parent
    leaf = parent / LEAF
    try:
        leaf.mkdir(exist_ok=True)
        (leaf / "cgroup.procs").write_text(str(os.getpid()))
        wanted = [f"+{name}" for name in ("memory", "pids") if name in _words(parent / "cgroup.controllers")]
        (parent / "cgroup.subtree_control").write_text(" ".join(wanted))
    except OSError:
        with contextlib.suppress(OSError):
            (parent / "cgroup.procs").write_text(str(os.getpid()))
            leaf.rmdir()
        return None
    return parent


@dataclass(frozen=True, slots=True)
class Cgroup:
    """The cgroup of one candidate."""

    folder: Path

    def open(self, memory_mb: float | None, processes: int) -> None:
        """Make it, with its limits. Raises OSError where the kernel does not let us."""
        self.folder.mkdir(exist_ok=True)
        if memory_mb:
            (self.folder / "memory.max").write_text(str(int(memory_mb * 2**20)))
        for name, value in {"memory.swap.max": 0, "memory.oom.group": 1, "pids.max": processes}.items():
            with contextlib.suppress(PermissionError):  # no swap, an old kernel: there is no such file
                (self.folder / name).write_text(str(value))

    def join(self) -> None:
        """Put the process that calls this into it, with all that it will start."""
        (self.folder / "cgroup.procs").write_text("0")

    def peak_mb(self) -> float:
        """The most memory that it used at once, in MB; 0 where the kernel does not say."""
        return int((_words(self.folder / "memory.peak") or ["0"])[0]) / 2**20

    def ran_out(self) -> bool:
        """Whether the kernel ended a process in it for want of memory."""
        words = _words(self.folder / "memory.events")
        return int(dict(zip(words[::2], words[1::2], strict=True)).get("oom_kill", 0)) > 0

    def kill(self) -> None:
        """End all that is in it, at once and whatever it forks."""
        with contextlib.suppress(OSError):
            (self.folder / "cgroup.kill").write_text("1")

    def close(self) -> None:
        """End what is in it and remove it."""
        self.kill()
        for _ in range(200):  # what was killed is gone a moment later
            with contextlib.suppress(OSError):
                self.folder.rmdir()
            if not self.folder.exists():
                break
            time.sleep(0.005)


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
