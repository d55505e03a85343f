"""The processes of a trial, by their roles, with everything that descends from them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import psutil

from nightlab.engines.local.cgroup import Cgroup
from nightlab.engines.local.usage import CpuClock
from nightlab.sandbox.process_tree import descendants, end_tree

TRUSTED = ("evaluator", "gpu")  # roles whose CPU time and memory are not the candidate's
RSS_UNIT = 1 / 2**20 if sys.platform == "darwin" else 1 / 2**10  # of getrusage, in MB


class ProcessGroup:
    """Children of this process, which adopts what loses its parent below it. ``roles``: those that it started."""

    def __init__(self) -> None:
        self.roles: dict[str, subprocess.Popen[bytes]] = {}
        self.statuses: dict[int, int] = {}  # of ended processes, by pid
        self.ended_cpu = 0.0  # seconds, of the candidate's ended processes
        self.peak_mb = 0.0  # the largest of them
        self.clock: CpuClock | None = None

    def start_clock(self) -> None:
        """Count the CPU time of what is started from now on."""
        self.clock = CpuClock()

    def tree(self, role: str) -> list[psutil.Process]:
        """The role's process and everything below it, daemons that left it included."""
        others = {p.pid for r, p in self.roles.items() if r != role}
        return descendants(os.getpid(), others)

    def cpu(self) -> float:
        """CPU seconds of the candidate's tree so far, ended processes included."""
        total, counted = self.ended_cpu, self.clock.seconds() if self.clock else 0.0
        for process in self.tree("candidate"):
            with contextlib.suppress(psutil.Error):
                used = process.cpu_times()
                total += used.user + used.system + used.children_user + used.children_system
        return max(total, counted)

    def reap(self) -> None:
        """Collect ended processes: ours, and orphans that became ours."""
        ours = [self.roles[role].pid for role in TRUSTED if role in self.roles]
        while True:
            try:
                pid, status, used = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.statuses[pid] = os.waitstatus_to_exitcode(status)
            if pid not in ours:
                self.ended_cpu += used.ru_utime + used.ru_stime
                # A trial can be over before the first sample; the kernel knows better.
                self.peak_mb = max(self.peak_mb, used.ru_maxrss * RSS_UNIT)

    def status(self, role: str) -> int | None:
        """The exit status of a role's process, negative for a signal; None while it runs, 0 if there is none."""
        process = self.roles.get(role)
        if process is None:
            return 0
        self.reap()
        if process.pid not in self.statuses:
            return None
        process.returncode = self.statuses[process.pid]
        return process.returncode

    def kill(self, cgroup: Cgroup | None) -> bool:
        """End everything below this process; False when that did not work."""
        if cgroup:
            cgroup.kill()
        return end_tree(self.reap)
