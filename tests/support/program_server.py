"""The program ``nightlab``, without the second that Python takes to import it.

A server imports the program once, for all tests of a worker; each run is a fork of it. It is a process as any other: it
has its own environment, folder, session and standard streams, gets signals, and ends as the program ends.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from support.processes import program_env
from support.warm_fork_server import WarmForkServers

SERVER = Path(__file__).with_name("program_fork.py")


class Run:
    """One run of the program: what the tests use of ``subprocess.Popen``."""

    def __init__(self, args: Sequence[str], report: int, stdout: IO[str] | None) -> None:
        self.args, self.stdout, self.returncode = args, stdout, None
        self._report = os.fdopen(report, "rb", buffering=0)
        self.pid = int(self._report.readline())

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._report], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._report], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = int(self._report.readline() or -signal.SIGKILL)  # no answer: the server is gone
            self._report.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        """What it prints from here on; kills it after ``timeout`` seconds."""
        late = threading.Event()

        def end() -> None:
            late.set()
            self.kill()

        clock = threading.Timer(timeout or threading.TIMEOUT_MAX, end)
        clock.daemon = True
        clock.start()
        try:
            said = self.stdout.read() if self.stdout and not self.stdout.closed else ""
            self.wait()
        finally:
            clock.cancel()
        if late.is_set():
            raise subprocess.TimeoutExpired(self.args, timeout or 0, said)
        if self.stdout:
            self.stdout.close()
        return said, None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ProgramServer:
    """Starts runs of the program. It ends with the process that made it, or by ``close``."""

    def __init__(self, fork_servers: WarmForkServers) -> None:
        self.link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.env = program_env(Path("/"), OPENBLAS_NUM_THREADS="1")
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, SERVER, str(theirs.fileno()), str(fork_servers.link.fileno())],
                pass_fds=[theirs.fileno(), fork_servers.link.fileno()],
                env=self.env,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )

    def serves(self, env: Mapping[str, str]) -> bool:
        """Whether a run may have this environment: what an interpreter reads when it starts is as it was for this."""
        names = [name for name in {*env, *self.env} if name.startswith(("PYTHON", "LANG", "LC_"))]
        return all(env.get(name) == self.env.get(name) for name in names)

    def close(self) -> None:
        self.link.close()
        self.process.wait()

    def start(self, argv: Sequence[str], cwd: Path, env: Mapping[str, str], stdout: IO[str], stderr: IO[str]) -> Run:
        """Run the program; ``argv`` begins with its own name."""
        return self._start(argv, cwd, env, stdout.fileno(), stderr.fileno())

    def start_with_pipe(self, argv: Sequence[str], cwd: Path, env: Mapping[str, str]) -> Run:
        """Run the program with both its outputs in one pipe, for who reads them while it runs."""
        read, write = os.pipe()
        try:
            return self._start(argv, cwd, env, write, write, os.fdopen(read, encoding="utf-8"))
        finally:
            os.close(write)

    def _start(
        self, argv: Sequence[str], cwd: Path, env: Mapping[str, str], out: int, err: int, pipe: IO[str] | None = None
    ) -> Run:
        request = json.dumps({"argv": list(argv), "cwd": str(cwd), "env": dict(env)}).encode()
        report, theirs = os.pipe()
        try:
            socket.send_fds(self.link, [request], [out, err, theirs])
        finally:
            os.close(theirs)
        return Run(argv, report, pipe)

    def run(self, argv: Sequence[str], cwd: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Run the program until it ends, with nothing on standard input."""
        with (
            tempfile.TemporaryFile("w+", encoding="utf-8") as out,
            tempfile.TemporaryFile("w+", encoding="utf-8") as err,
        ):
            code = self.start(argv, cwd, env, out, err).wait()
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(argv, code, out.read(), err.read())
