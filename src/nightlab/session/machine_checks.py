"""Whether the machine is fit for a session: its memory limit and its disk."""

from __future__ import annotations

import shutil
from pathlib import Path

from nightlab.core.types import NightlabError
from nightlab.engines.local.cgroup import delegated
from nightlab.session.check import Check

FREE_MB = 200  # below this much disk a session does not start: a full disk loses the run in flight
NETWORK_MOUNTS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "9p", "fuse.sshfs", "fuse.rclone", "lustre"}


def memory_limit() -> Check:
    """Whether the kernel limits a candidate's memory, or we look how much it uses."""
    if delegated():
        return Check("memory is limited by a cgroup", True)
    hint = "systemd-run --user --scope -p Delegate=yes nightlab run"
    return Check("memory is sampled twice a second, not limited by a cgroup", False, hint, fatal=False)


def free_disk(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free / 2**20
    return Check(f"{free / 1024:.1f} GB of disk are free", free > FREE_MB, "free some disk space")


def require_disk(folder: Path) -> None:
    """Raise NightlabError when too little disk is free to record another trial."""
    free = shutil.disk_usage(folder).free / 2**20
    if free < FREE_MB:
        raise NightlabError(
            f"only {free:.0f} MB of disk are free at {folder}, {FREE_MB} MB are needed",
            "free some disk space, then run the same command: it resumes",
        )


def local_disk(folder: Path) -> Check:
    kind = _filesystem(folder)
    if kind in NETWORK_MOUNTS:
        return Check(
            f"{folder} is on a network mount ({kind}), where locks and the ledger's journal can fail",
            False,
            f"clone the lab onto a local disk: git clone {folder} ~/{folder.name}",
        )
    return Check("the lab is on a local disk", True)


def _filesystem(folder: Path) -> str:
    """The type of the filesystem that holds ``folder``; empty where /proc/mounts does not exist."""
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return ""
    inside = [m for m in mounts if folder.is_relative_to(m[1].replace("\\040", " "))]
    return max(inside, key=lambda m: len(m[1]))[2] if inside else ""
