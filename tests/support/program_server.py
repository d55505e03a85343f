"""The program ``nightlab``, without the second that Python takes to import it.

A server imports the program once, for all tests of a worker; each run is a fork of it. It is a process as any other: it
has its own environment, folder, session and standard streams, gets signals, and ends as the program ends.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from support.processes import program_env
from support.run import Run
from support.warm_server import WarmServer

SERVER = Path(__file__).with_name("program_fork.py")


class ProgramServer:
    """Starts runs of the program. It ends with the process that made it, or by ``close``."""

    def __init__(self, warm_server: WarmServer) -> None:
        self.link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.env = program_env(Path("/"), OPENBLAS_NUM_THREADS="1")
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, SERVER, str(theirs.fileno()), str(warm_server.link.fileno())],
                pass_fds=[theirs.fileno(), warm_server.link.fileno()],
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
