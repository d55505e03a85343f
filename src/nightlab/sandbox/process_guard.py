"""Runs one program to its end, within limits, and ends its whole process tree.

Started as ``python -m nightlab.sandbox.process_guard``; reads what to run as a line of JSON from standard input,
because it may contain API keys, which must not be written to disk. It exits when that pipe closes, so that the
program's tree ends even if the process that started the guard is killed.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Literal

from nightlab.sandbox.egress_proxy import EgressProxy, unix_socket
from nightlab.sandbox.process_tree import adopt_orphans, die_with_parent, end_tree, limit_file_size
from nightlab.sandbox.traffic import TrafficCaps, TrafficReport, report_of

TICK, FILE_CHECK = 0.05, 1.0  # seconds between checks of the program, and of its files
End = Literal["exited", "wall", "idle", "output", "disk", "stopped", "unstartable", "traffic"]


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """What to run. Times in seconds, sizes in bytes, paths on this machine."""

    argv: list[str]
    cwd: str
    env: dict[str, str]
    stdin: str
    output: str
    folder: str
    """The folder that it may write to, which contains its output: a change in it counts as activity."""
    wall: float
    idle: float
    most_output: int
    most_disk: int
    proxy_socket: str = ""
    """Where to create the socket of the proxy to ``endpoints``; empty: no proxy."""
    endpoints: list[str] = field(default_factory=list)
    gateways: list[str] = field(default_factory=list)
    """The URLs that the proxy's gateways stand for."""
    keys: dict[str, str] = field(default_factory=dict)
    """What stands for a key in requests to gateways, and the key."""
    caps: TrafficCaps = field(default_factory=TrafficCaps)


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """How a program ended: its exit status, its duration in seconds, and whether its whole tree was ended.

    ``refused``: endpoints that it asked the proxy for in vain; ``traffic``: what else passed there.
    """

    end: End
    status: int
    seconds: float
    tree_ended: bool
    detail: str = ""
    refused: list[str] = field(default_factory=list)
    traffic: TrafficReport = field(default_factory=TrafficReport)


def start_guard(spec: ProcessSpec) -> subprocess.Popen[bytes]:
    """Start a guard. To stop it, close its ``stdin``; ``read_result`` waits for its result."""
    guard = subprocess.Popen(
        [sys.executable, "-m", "nightlab.sandbox.process_guard"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert guard.stdin is not None
    guard.stdin.write(json.dumps(asdict(spec)).encode() + b"\n")
    guard.stdin.flush()
    return guard


def read_result(guard: subprocess.Popen[bytes]) -> ProcessResult:
    """Wait for a guard's result; without one (it was killed) the result is ``stopped``."""
    assert guard.stdout is not None
    said = guard.stdout.read()
    guard.wait()
    if not said:
        return ProcessResult("stopped", 0, 0.0, tree_ended=False)
    told = json.loads(said)
    return ProcessResult(**{**told, "traffic": TrafficReport(**told["traffic"])})


class ProcessGuard:
    def __init__(self, spec: ProcessSpec, lifeline: IO[bytes]) -> None:
        self.spec, self.lifeline = spec, lifeline
        self.started_at = time.monotonic()
        self.statuses: dict[int, int] = {}
        self.stopped = False
        self.proxy: EgressProxy | None = None

    def run(self) -> ProcessResult:
        proxy = self.proxy
        try:
            if self.spec.proxy_socket:
                listening = unix_socket(Path(self.spec.proxy_socket))
                spec = self.spec
                proxy = self.proxy = EgressProxy(listening, spec.endpoints, spec.gateways, spec.keys, spec.caps)
            with Path(self.spec.stdin).open("rb") as given, Path(self.spec.output).open("wb") as output:
                program = subprocess.Popen(
                    self.spec.argv,
                    cwd=self.spec.cwd,
                    env=self.spec.env,
                    stdin=given,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    preexec_fn=self._before_exec,
                )
        except OSError as error:
            return ProcessResult("unstartable", 0, 0.0, tree_ended=True, detail=str(error))
        if proxy:
            proxy.open()  # only now: it starts a thread, which must not exist before a fork
        end = self._watch(program.pid)
        fault = proxy.traffic.fault_words if proxy else ""  # before the program's connections are lost
        seconds = time.monotonic() - self.started_at
        gone = end_tree(self._reap)
        program.returncode = self.statuses.get(program.pid, 0)
        result = ProcessResult(end, program.returncode, round(seconds, 3), gone)
        if not proxy:
            return result
        proxy.close()  # what an unfinished answer had stated is counted too
        return replace(result, refused=proxy.refused, traffic=replace(report_of(proxy.traffic), fault=fault))

    def _watch(self, pid: int) -> End:
        """Wait until the program ends or exceeds a limit."""
        alive, looked, found = self.started_at, 0.0, (-1.0, 0.0)
        while True:
            self._reap()
            if pid in self.statuses:
                return "exited"
            if self.stopped or select.select([self.lifeline], [], [], TICK)[0]:
                return "stopped"
            if self.proxy and self.proxy.traffic.ended:
                return "traffic"
            now = time.monotonic()
            if now - self.started_at > self.spec.wall:
                return "wall"
            if now - looked > FILE_CHECK:
                looked = now
                if Path(self.spec.output).stat().st_size > self.spec.most_output:
                    return "output"
                before, found = found, _written(self.spec.folder)
                if found[0] > self.spec.most_disk:
                    return "disk"
                if found != before:
                    alive = now
            if now - alive > self.spec.idle:
                return "idle"

    def _before_exec(self) -> None:
        die_with_parent()
        limit_file_size(max(self.spec.most_disk, self.spec.most_output))

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            self.statuses[pid] = os.waitstatus_to_exitcode(status)

    def stop(self, *_: Any) -> None:
        self.stopped = True


def _written(folder: str) -> tuple[int, float]:
    """Bytes on disk below a folder, and when anything in it last changed (seconds since the epoch)."""
    size, changed, rest = 0, 0.0, [folder]
    while rest:
        try:
            with os.scandir(rest.pop()) as entries:
                for entry in entries:
                    about = entry.stat(follow_symlinks=False)
                    size += about.st_blocks * 512
                    changed = max(changed, about.st_mtime)
                    if entry.is_dir(follow_symlinks=False):
                        rest.append(entry.path)
        except OSError:
            continue  # removed meanwhile, or unreadable: the limit on file sizes still holds
    return size, changed


def guard_main() -> None:
    told = json.loads(sys.stdin.buffer.readline())
    spec = ProcessSpec(**{**told, "caps": TrafficCaps(**told["caps"])})
    guard = ProcessGuard(spec, sys.stdin.buffer)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, guard.stop)
    adopt_orphans()
    print(json.dumps(asdict(guard.run())), flush=True)


if __name__ == "__main__":
    guard_main()
