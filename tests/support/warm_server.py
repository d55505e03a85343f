"""A session's small processes, as forks of one that has imported what they need.

A session starts a server of supervisors (``nightlab.engines.local.fork_server``) with its first trial, and a reader of
programs (``nightlab.core.program.worker``) with its first candidate. Each takes 60 ms of CPU time to start, together
half of a small session's. Here they take 5, as the program does by ``program_server``.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import weakref
from pathlib import Path
from typing import IO

from nightlab.core.program import worker
from nightlab.engines.local import fork_server

REQUEST = 1 << 17  # bytes, at most


class Reader(fork_server.ForkedProcess):
    """What ``ProgramReader`` uses of ``subprocess.Popen``."""

    stdin: IO[bytes]

    def __init__(self, pid: int, exited: int, stdin: IO[bytes], stdout: IO[bytes]) -> None:
        super().__init__(pid, exited, stdin)
        self.stdout = stdout

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.stdin.close()
        self.stdout.close()
        self.wait()


class WarmServer:
    """Starts the small processes of this process and, by ``link``, of those that inherit it. It ends with the last."""

    def __init__(self, link: socket.socket | None = None) -> None:
        self._link = link

    @property
    def link(self) -> socket.socket:
        if self._link is None:
            self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                subprocess.Popen(
                    [sys.executable, __file__, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,
                )
        return self._link

    def serve_all(self) -> None:
        """From now on those that this process starts are forks."""
        from nightlab.loop import program_reader

        fork_server.ForkServer._open = lambda server: self._open_fork_server(server)  # type: ignore[method-assign]
        program_reader.ProgramReader._start = lambda reader: self._start_reader(reader)  # type: ignore

    def _open_fork_server(self, server: fork_server.ForkServer) -> socket.socket:
        server._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            pid, exited = self._fork("fork server", theirs.fileno(), 2)
        server._server = fork_server.ForkedProcess(pid, exited, None)  # type: ignore[assignment]
        return server._link

    def _start_reader(self, reader: object) -> Reader:
        from nightlab.loop import program_reader

        (theirs, stdin), (stdout, end) = os.pipe(), os.pipe()
        pid, exited = self._fork("reader", theirs, end)
        os.close(theirs)
        os.close(end)
        os.set_blocking(stdin, False)
        process = Reader(pid, exited, os.fdopen(stdin, "wb"), os.fdopen(stdout, "rb"))
        reader._process, reader._end = process, weakref.finalize(reader, program_reader._end, process)
        return process

    def _fork(self, what: str, *fds: int) -> tuple[int, int]:
        """Start a process, which gets two descriptors; returns its id, and one that is at its end once it has ended."""
        sys.audit("os.fork")  # no unit test starts one
        exited, end = os.pipe()
        os.umask(umask := os.umask(0o077))
        request = {"what": what, "env": dict(os.environ), "cwd": str(Path.cwd()), "umask": umask}
        socket.send_fds(self.link, [json.dumps(request).encode()], [end, *fds])
        os.close(end)
        return int(os.read(exited, 32)), exited


def main(link: socket.socket) -> None:
    """Fork a process for each request, until no other process holds the link."""
    import nightlab.core.program.facts
    import nightlab.engines.local.supervisor  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        request, fds, *_ = socket.recv_fds(link, REQUEST, 3)
        if not request:
            return
        if not os.fork():
            link.close()
            _become(json.loads(request), *fds)
        for fd in fds:
            os.close(fd)


def _become(request: dict[str, object], report: int, first: int, second: int) -> None:
    """A process of a session; ``report`` is told its id, and is open until it ends."""
    try:
        os.setsid()
        os.chdir(str(request["cwd"]))
        os.umask(request["umask"])  # type: ignore[arg-type]
        os.environ.clear()
        os.environ.update(request["env"])  # type: ignore[call-overload]
        os.write(report, b"%d\n" % os.getpid())
        mine = [report]  # a supervisor must not hold it: it outlives the server that it is forked from
        os.register_at_fork(after_in_child=lambda: os.close(mine.pop()) if mine else None)
        if request["what"] == "reader":
            os.dup2(first, 0)
            os.dup2(second, 1)
            worker.main()
        else:
            os.dup2(second, 2)
            os.close(second)
            fork_server.serve(socket.socket(fileno=first))
    finally:
        os._exit(0)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
