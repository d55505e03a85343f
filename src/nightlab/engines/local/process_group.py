"""A trial's processes by role, with all their descendants."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable

import psutil

from nightlab.engines.local.cgroup import Cgroup
from nightlab.engines.local.usage import CpuClock
from nightlab.sandbox.process_tree import descendants, end_tree

TRUSTED = ("evaluator", "gpu")  # roles whose CPU time and memory do not count as the candidate's
RSS_UNIT = 1 / 2**20 if sys.platform == "darwin" else 1 / 2**10  # converts ru_maxrss to MB


class ProcessGroup:
    """The children of this process, which is a subreaper. ``roles``: the ones that it started."""

    def __init__(self) -> None:
        self.roles: dict[str, subprocess.Popen[bytes]] = {}
        self.statuses: dict[int, int] = {}  # of ended processes, by pid
        self.ended_cpu = 0.0  # CPU seconds of the candidate's exited processes
        self.peak_mb = 0.0  # peak memory of the largest of them
        self.clock: CpuClock | None = None
        self.clock_of_all: CpuClock | None = None

    def start_clock(self) -> None:
        """Count the CPU time of everything started from now on: of the candidate, and of what answers for it."""
        self.clock = CpuClock()

    def start_clock_of_all(self) -> None:
        """Count the CPU time of all that is not trusted: from before the answering processes that wait."""
        self.clock_of_all = CpuClock()

    def tree(self, role: str) -> list[psutil.Process]:
        """The role's process and all its descendants, including daemons."""
        others = {p.pid for r, p in self.roles.items() if r != role}
        return descendants(os.getpid(), others)

    def cpu(self) -> float:
        """CPU seconds of the candidate's tree so far, including exited processes."""
        return self._cpu(self.tree("candidate"), self.clock)

    def cpu_of_all(self, waiting: Iterable[str] = ()) -> float:
        """CPU seconds so far of all that is not trusted, but of the roles ``waiting``, which run none of its code."""
        trusted = {self.roles[role].pid for role in TRUSTED if role in self.roles}
        found = self._cpu(descendants(os.getpid(), trusted), self.clock_of_all or self.clock)
        for role in waiting:
            with contextlib.suppress(psutil.Error):  # it ended
                found -= _seconds([psutil.Process(self.roles[role].pid), *descendants(self.roles[role].pid)])
        return found

    def cpu_of_trial(self) -> float:
        """CPU seconds so far of this process and of all that it started, trusted ones too."""
        used = os.times()
        ended = used.user + used.system + used.children_user + used.children_system
        found = ended + _seconds(descendants(os.getpid()))
        clock = self.clock_of_all or self.clock
        return max(found, clock.seconds() if clock else 0.0)

    def _cpu(self, processes: Iterable[psutil.Process], clock: CpuClock | None) -> float:
        return max(self.ended_cpu + _seconds(processes), clock.seconds() if clock else 0.0)

    def reap(self) -> None:
        """Collect exited processes: children, and orphans adopted by this process."""
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
                # A trial can end before the first sample; the kernel's peak includes it.
                self.peak_mb = max(self.peak_mb, used.ru_maxrss * RSS_UNIT)

    def status(self, role: str) -> int | None:
        """The exit status of a role's process (negative: signal); None while it runs, 0 if it was never started."""
        process = self.roles.get(role)
        if process is None:
            return 0
        self.reap()
        if process.pid not in self.statuses:
            return None
        process.returncode = self.statuses[process.pid]
        return process.returncode

    def answering(self) -> list[str]:
        """The roles of the clean processes that answer for the candidate."""
        return [role for role in self.roles if role.startswith("answer")]

    def kill(self, cgroup: Cgroup | None, keep: Iterable[str] = ()) -> bool:
        """Kill all descendants of this process but those of the roles ``keep``; False if that failed."""
        spared, trusted = (
            {self.roles[role].pid for role in roles if role in self.roles} for roles in (tuple(keep), TRUSTED)
        )
        # A sandbox's first process that is killed waits for none of the others: their time would go with them.
        seen = self.ended_cpu + _seconds(descendants(os.getpid(), spared | trusted))
        if cgroup:
            cgroup.kill()
        ended = end_tree(self.reap, spared)
        self.ended_cpu = max(self.ended_cpu, seen)
        return ended


def _seconds(processes: Iterable[psutil.Process]) -> float:
    """CPU seconds of processes, with those of their children that ended."""
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            used = process.cpu_times()
            total += used.user + used.system + used.children_user + used.children_system
    return total


def notice_exits() -> int:
    """A descriptor that can be read when a child has exited."""
    exits, end = os.pipe()
    for fd in (exits, end):
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(end, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # without a handler, the descriptor is not told
    return exits


def on_leash(end: int) -> None:
    """End this trial when the other end of the pipe is closed, however that happened."""
    os.read(end, 1)
    os.kill(os.getpid(), signal.SIGTERM)
