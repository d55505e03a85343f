"""The server of ``program_server``: imports the program, then forks a run of it for each request.

A run asks it in turn for the run that measures submissions in the background.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import select
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import IO

from run import Run
from warm_server import WarmServer

# What most commands import sooner or later.
PRELOADED = [
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
    "matplotlib.figure",
    "nightlab.analysis.confirm",
    "nightlab.analysis.report",
    "nightlab.cli.main",
    "nightlab.commons.proposer",
    "nightlab.loop.loop",
    "nightlab.proposers.mixture",
    "nightlab.ui.terminal.log",
    "scipy.special",
    "typer._adapters",
]
REQUEST = 1 << 17  # bytes, at most


def _draw_once() -> None:
    """Each run ends with charts; matplotlib looks the fonts up at the first."""
    from nightlab.analysis import charts
    from nightlab.core.types import Metric

    for kind in ("png", "svg"):
        charts.progress(Metric("loss"), []).savefig(io.BytesIO(), format=kind)


def _serve(link: socket.socket, runs: socket.socket) -> None:
    """Fork a run for each request, and report its pid and its exit status; returns in the runs, ready to begin."""
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    reports: dict[int, int] = {}
    watched = select.poll()  # not select(): a test's process can have more than 1,024 files open
    for each in (link, runs, woken):
        watched.register(each, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in watched.poll()}
        if woken in ready:
            os.read(woken, 4096)
            for pid in list(reports):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    _tell(reports[pid], os.waitstatus_to_exitcode(status))
                    os.close(reports.pop(pid))
        if asked := next((one for one in (link, runs) if one.fileno() in ready), None):
            request, fds, *_ = socket.recv_fds(asked, REQUEST, 3)
            if not request:
                os._exit(0)
            out, err, report = fds
            if pid := os.fork():
                reports[pid] = report
                _tell(report, pid)
                os.close(out)
                os.close(err)
                continue
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.dup2(out, 1)
            os.dup2(err, 2)
            for fd in (woken, wake, link.detach(), runs.detach(), *fds, *reports.values()):
                os.close(fd)
            _become(json.loads(request))
            return


class _Subprocess:
    """What ``submissions`` uses of ``subprocess``."""

    DEVNULL = None

    def __init__(self, server: socket.socket) -> None:
        self.server = server

    def Popen(self, command: list[str], *, cwd: Path, stdout: IO[bytes], **_: object) -> Run:  # noqa: N802
        argv = ["nightlab", *command[command.index("try") :]]
        request = json.dumps({"argv": argv, "cwd": str(cwd.resolve()), "env": dict(os.environ)}).encode()
        report, theirs = os.pipe()
        socket.send_fds(self.server, [request], [stdout.fileno(), stdout.fileno(), theirs])
        os.close(theirs)
        return Run(argv, report, None)


def _tell(report: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # its test has ended
        os.write(report, b"%d\n" % number)


def _become(request: dict[str, object]) -> None:
    os.setsid()
    os.chdir(str(request["cwd"]))
    os.environ.clear()
    os.environ.update(request["env"])  # type: ignore[arg-type]
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 (a descriptor, for good)
    sys.stderr = open(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.argv = list(request["argv"])  # type: ignore[call-overload]


def _exit(code: str | int | None) -> None:
    """End as an interpreter does, but take none of the imported modules apart: that takes longer than most runs."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else bool(code))


if __name__ == "__main__":
    for name in PRELOADED:
        importlib.import_module(name)
    _draw_once()
    from nightlab.loop import submissions

    supervisors = socket.socket(fileno=int(sys.argv[2]))
    supervisors.set_inheritable(False)
    WarmServer(supervisors).serve_all()
    runs, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    submissions.subprocess = _Subprocess(theirs)  # type: ignore[attr-defined]
    gc.freeze()  # a collection in a run would copy what the server holds
    _serve(socket.socket(fileno=int(sys.argv[1])), runs)
    from nightlab.cli.main import main

    try:
        main()
    except SystemExit as end:
        _exit(end.code)
