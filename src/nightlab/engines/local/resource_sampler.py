"""Samples what a candidate's process tree uses, and enforces its limits."""

from __future__ import annotations

import contextlib
import math
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil

from nightlab.engines.local.outcome import TrialEnded
from nightlab.engines.local.process_group import ProcessGroup
from nightlab.engines.local.usage import GPU_QUERY, folder_mb, gpu_mb, mapped_files_mb, nameless_mb, scratch_mb
from nightlab.sandbox import SCRATCH

GPU_SAMPLE = 2.0  # seconds between looks at the GPU


class ResourceSampler:
    """Peak memory of a candidate's process tree, in MB, as far as sampling from outside shows it."""

    def __init__(self, children: ProcessGroup, *, gpu: bool) -> None:
        self.children = children
        self.peak_memory_mb = 0.0
        self.peak_gpu_memory_mb = 0.0
        self.gpu_asked = 0.0 if gpu else math.inf

    def sample(self, spec: dict[str, Any], folder: Path) -> None:
        """Sample the tree of the trial in ``folder``. Raises TrialEnded where it exceeds its spec's limits."""
        on_disk, pids = 0.0, []
        for role in ("candidate", *self.children.answering()):
            its, nameless = self._sample_role(role, spec, folder / "work")
            on_disk += nameless
            pids += its
        self._sample_gpu(pids)
        folders = (folder / "work", *folder.glob("compiled*"))
        written = sum(folder_mb(each, spec["disk_mb"]) for each in folders) + on_disk
        if written == math.inf:
            raise TrialEnded("over limit", "it created folders that are too deep or unreadable")
        if written > spec["disk_mb"]:
            raise TrialEnded("over limit", f"it wrote {written:,.0f} MB; the limit is {spec['disk_mb']:,.0f} MB")

    def _sample_role(self, role: str, spec: dict[str, Any], work: Path) -> tuple[list[int], float]:
        """Sample the tree of one role, which the limit on memory holds for. Returns its pids, and MB on disk."""
        used, tree = 0.0, self.children.tree(role)
        for process in tree:
            with contextlib.suppress(psutil.Error):
                used += process.memory_info().rss / 2**20
        pids = [process.pid for process in tree]
        on_disk, in_memory = nameless_mb(pids, work.stat().st_dev)
        in_memory += scratch_mb(pids, SCRATCH, int(spec["disk_mb"]) * 2**20)
        used += max(in_memory - mapped_files_mb(pids), 0)
        self.peak_memory_mb = max(self.peak_memory_mb, used)
        limit = spec["memory_mb"]
        if limit and used > limit:
            where = "" if role == "candidate" else " while answering"
            raise TrialEnded("over limit", f"it used {used:,.0f} MB of memory{where}; the limit is {limit:,.0f} MB")
        return pids, on_disk

    def _sample_gpu(self, pids: list[int]) -> None:
        """Read nvidia-smi's last output, or start it again in the background: it is too slow to wait for."""
        asked, now = self.children.roles.get("gpu"), time.monotonic()
        if asked:
            if self.children.status("gpu") is not None:
                said = self.children.roles.pop("gpu").communicate()[0].decode(errors="replace")
                self.peak_gpu_memory_mb = max(self.peak_gpu_memory_mb, gpu_mb(said, pids))
        elif now - self.gpu_asked > GPU_SAMPLE:
            self.gpu_asked = now
            try:
                self.children.roles["gpu"] = subprocess.Popen(
                    GPU_QUERY, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
                )
            except OSError:
                self.gpu_asked = math.inf
