"""The fork servers of sessions, as forks of one process that has imported what they need.

A session starts its server (``nightlab.engines.local.fork_server``) with its first trial: that takes 60 ms of CPU time,
a quarter of a small session's. Here it takes 5, as the program does by ``program_server``.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys

from nightlab.engines.local import fork_server

REQUEST = 1 << 17  # bytes, at most


class WarmForkServers:
    """Starts the fork servers of this process and, by ``link``, of those that inherit it. It ends with the last."""

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
        """From now on each fork server that this process starts is one of these."""
        fork_server.ForkServer._open = lambda server: self._open(server)  # type: ignore[method-assign]

    def _open(self, server: fork_server.ForkServer) -> socket.socket:
        sys.audit("os.fork")  # no unit test has one
        server._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        report, end = os.pipe()
        with theirs:
            os.umask(umask := os.umask(0o077))
            request = {"env": dict(os.environ), "cwd": os.getcwd(), "umask": umask}
            socket.send_fds(self.link, [json.dumps(request).encode()], [theirs.fileno(), end, 2])
        os.close(end)
        pid = int(os.read(report, 32))
        server._server = fork_server.ForkedProcess(pid, report, None)  # type: ignore[assignment]
        return server._link


def main(link: socket.socket) -> None:
    """Fork a server for each request, until no other process holds the link."""
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


def _become(request: dict[str, object], link: int, report: int, stderr: int) -> None:
    """The server of a session; ``report`` is told its id, and is open until it ends."""
    try:
        os.setsid()
        os.chdir(str(request["cwd"]))
        os.umask(request["umask"])  # type: ignore[arg-type]
        os.environ.clear()
        os.environ.update(request["env"])  # type: ignore[call-overload]
        os.dup2(stderr, 2)
        os.close(stderr)
        os.write(report, b"%d\n" % os.getpid())
        fork_server.serve(socket.socket(fileno=link))
    finally:
        os._exit(0)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
