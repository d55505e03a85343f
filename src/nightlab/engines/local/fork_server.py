"""Starts supervisors as forks of one process that has their imports: a start takes 3 ms of CPU time instead of 90.

Run as ``python -m nightlab.engines.local.fork_server FOLDER FD``: FOLDER is that of the session's trials, for
readers of ``ps``; requests come over the socket FD. A supervisor is independent of the server: it has its own session,
and goes on when the server ends, as it does with the process that started it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO


class ForkedProcess:
    """A supervisor: what the engine uses of ``subprocess.Popen``. Its exit status is not known."""

    def __init__(self, pid: int, news: int, stdin: IO[bytes] | None) -> None:
        self.pid, self.stdin, self.returncode = pid, stdin, None if pid else -1
        self._news = os.fdopen(news, "rb", buffering=0)  # a byte for each step; at its end once the process has exited

    def fileno(self) -> int:
        """A descriptor that becomes readable when the process takes a step, or exits."""
        return self._news.fileno()

    def poll(self) -> int | None:
        """0 once it has exited, else None."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its exit. Raises TimeoutExpired after ``timeout`` seconds."""
        until = None if timeout is None else time.monotonic() + timeout
        while self.returncode is None:
            if not self.stepped(until and max(until - time.monotonic(), 0.0)):
                raise subprocess.TimeoutExpired("supervisor", timeout or 0)
        return self.returncode

    def stepped(self, timeout: float | None) -> bool:
        """Wait until it has taken a step since the last call, or has exited; False after ``timeout`` seconds."""
        if not readable([self._news], timeout):
            return False
        if not self._news.read(64):
            self.returncode = 0
        return True

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """Forks the supervisors of the trials below ``folder``. Its process starts with the first of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._server: subprocess.Popen[bytes] | None = None
        self._link: socket.socket | None = None

    def start(self, folder: Path, env: Mapping[str, str], log: IO[bytes], *, stdin: bool) -> ForkedProcess:
        """Start the supervisor of a trial's folder. ``stdin``: with a pipe to its standard input.

        ``env``: what it has beside the server's environment. Raises OSError if no process can be started.
        """
        for _ in range(2):
            try:
                return self._start(folder, env, log, stdin=stdin)
            except EOFError:
                self.close()  # the server was killed: start another
        raise OSError("the server of supervisors ends again and again")

    def close(self) -> None:
        """End the server; supervisors go on."""
        if self._link and self._server:
            self._link.close()
            self._server.wait()
        self._link = self._server = None

    def _start(self, folder: Path, env: Mapping[str, str], log: IO[bytes], *, stdin: bool) -> ForkedProcess:
        request = json.dumps({"folder": str(folder), "env": dict(env)}).encode()
        news, end = os.pipe()
        read, write = os.pipe() if stdin else (os.open(os.devnull, os.O_RDONLY), None)
        try:
            pid = self._ask(request, [read, log.fileno(), end])
        except BaseException:
            os.close(news)
            if write is not None:
                os.close(write)
            raise
        finally:
            os.close(read)
            os.close(end)
        return ForkedProcess(pid, news, None if write is None else os.fdopen(write, "wb"))

    def _ask(self, request: bytes, fds: list[int]) -> int:
        link = self._link or self._open()
        try:
            socket.send_fds(link, [request], fds)
            answer = link.recv(32)
        except (BrokenPipeError, ConnectionError):
            answer = b""
        if not answer:
            raise EOFError
        if (pid := int(answer)) < 0:
            raise OSError(-pid, os.strerror(-pid))
        return pid

    def _open(self) -> socket.socket:
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "nightlab.engines.local.fork_server", str(self.folder), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        return self._link


def readable(files: Sequence[IO[bytes] | ForkedProcess], timeout: float | None) -> bool:
    """Wait until one of the files can be read; False after ``timeout`` seconds."""
    watched = select.poll()
    for file in files:
        watched.register(file, select.POLLIN)
    return bool(watched.poll(None if timeout is None else timeout * 1000))


def serve(link: socket.socket) -> None:
    """Fork a supervisor for each request, until the other end is closed."""
    import nightlab.engines.local.supervisor  # noqa: F401

    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, _collect)
    while True:
        request, fds, _, _ = socket.recv_fds(link, 1 << 16, 3)
        if not request:
            return
        try:
            pid = os.fork()
        except OSError as error:
            pid = -(error.errno or 1)
        if not pid:
            link.close()
            _supervise(json.loads(request), *fds)
        for fd in fds:
            os.close(fd)
        with contextlib.suppress(BrokenPipeError):
            link.send(str(pid).encode())


def _collect(*_: object) -> None:
    """Collect the supervisors that have exited, with the CPU time of their trials."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _supervise(request: dict[str, object], stdin: int, log: int, news: int) -> None:
    """In the fork: become the supervisor of a folder. ``news`` stays open until the process ends."""
    from nightlab.engines.local.supervisor import supervisor_main

    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for fd, place in ((stdin, 0), (log, 1), (log, 2)):
            os.dup2(fd, place)
        os.close(stdin)
        os.close(log)
        os.set_inheritable(news, False)
        os.environ.update(request["env"])  # type: ignore[call-overload]
        supervisor_main(Path(str(request["folder"])), news=news)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[2])))
    os._exit(0)
