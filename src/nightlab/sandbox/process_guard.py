"""Runs one program to its end, within limits, and leaves nothing of it behind.

Started as ``python -m nightlab.sandbox.process_guard``, it reads what to run from its standard input, as a line of
JSON: there may be keys in it, which belong on no disk. It lives no longer than that pipe is open: whoever started it
may be killed, and the program's whole tree ends all the same.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from nightlab.sandbox.egress_proxy import EgressProxy
from nightlab.sandbox.process_tree import adopt_orphans, bound_files, die_with_parent, end_tree

TICK, LOOK = 0.05, 1.0  # seconds between looks at the program, at its files
End = Literal["exited", "wall", "idle", "output", "disk", "stopped", "unstartable"]


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """What to run. Times in seconds, sizes in bytes, paths of this machine."""

    argv: list[str]
    cwd: str
    env: dict[str, str]
    stdin: str
    output: str
    folder: str
    """What it may write to, its output included: a change in there is a sign of life."""
    wall: float
    idle: float
    most_output: int
    most_disk: int
    door: str = ""
    """Where the socket is made through which it reaches ``endpoints`` alone; empty: no such door."""
    endpoints: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """What became of a program: how it ended, its exit status, its seconds, and whether its whole tree is gone.

    ``refused``: what it asked its door for that is not among its endpoints.
    """

    end: End
    status: int
    seconds: float
    gone: bool
    detail: str = ""
    refused: list[str] = field(default_factory=list)


def start(spec: ProcessSpec) -> subprocess.Popen[bytes]:
    """Start a keeper. To stop it close its ``stdin``; ``heard`` reads its answer."""
    keeper = subprocess.Popen(
        [sys.executable, "-m", "nightlab.sandbox.process_guard"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert keeper.stdin is not None
    keeper.stdin.write(json.dumps(asdict(spec)).encode() + b"\n")
    keeper.stdin.flush()
    return keeper


def heard(keeper: subprocess.Popen[bytes]) -> ProcessResult:
    """Wait for a keeper's answer; one that was killed said nothing."""
    assert keeper.stdout is not None
    said = keeper.stdout.read()
    keeper.wait()
    return ProcessResult(**json.loads(said)) if said else ProcessResult("stopped", 0, 0.0, gone=False)


class ProcessGuard:
    def __init__(self, spec: ProcessSpec, lifeline: IO[bytes]) -> None:
        self.spec, self.lifeline = spec, lifeline
        self.begun = time.monotonic()
        self.statuses: dict[int, int] = {}
        self.stopped = False

    def run(self) -> ProcessResult:
        door = None
        try:
            if self.spec.door:
                door = EgressProxy(Path(self.spec.door), self.spec.endpoints)
            with Path(self.spec.stdin).open("rb") as given, Path(self.spec.output).open("wb") as output:
                program = subprocess.Popen(
                    self.spec.argv,
                    cwd=self.spec.cwd,
                    env=self.spec.env,
                    stdin=given,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    preexec_fn=self._before,
                )
        except OSError as error:
            return ProcessResult("unstartable", 0, 0.0, gone=True, detail=str(error))
        if door:
            door.open()  # no thread before a fork
        end = self._watch(program.pid)
        seconds = time.monotonic() - self.begun
        gone = end_tree(self._reap)
        program.returncode = self.statuses.get(program.pid, 0)
        return ProcessResult(end, program.returncode, round(seconds, 3), gone, refused=door.refused if door else [])

    def _watch(self, pid: int) -> End:
        """Wait for the program's end, or a reason to end it."""
        alive, looked, size = self.begun, 0.0, -1
        while True:
            self._reap()
            if pid in self.statuses:
                return "exited"
            if self.stopped or select.select([self.lifeline], [], [], TICK)[0]:
                return "stopped"
            now = time.monotonic()
            if now - self.begun > self.spec.wall:
                return "wall"
            if now - looked > LOOK:
                looked = now
                if Path(self.spec.output).stat().st_size > self.spec.most_output:
                    return "output"
                before, (size, changed) = size, _written(self.spec.folder)
                if size > self.spec.most_disk:
                    return "disk"
                if size != before or time.time() - changed < LOOK * 2:
                    alive = now
            if now - alive > self.spec.idle:
                return "idle"

    def _before(self) -> None:
        die_with_parent()
        bound_files(max(self.spec.most_disk, self.spec.most_output))

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
    """Bytes below a folder, and when anything in it last changed (seconds since the epoch)."""
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
            continue  # it was removed meanwhile, or is shut: its parent's limit on files holds
    return size, changed


def main() -> None:
    keeper = ProcessGuard(ProcessSpec(**json.loads(sys.stdin.buffer.readline())), sys.stdin.buffer)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, keeper.stop)
    adopt_orphans()
    print(json.dumps(asdict(keeper.run())), flush=True)


if __name__ == "__main__":
    main()
