"""A run of the program that its server has started."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from typing import IO

from nightlab.engines.local.fork_server import readable


class Run:
    """One run of the program: what the tests use of ``subprocess.Popen``."""

    def __init__(self, args: Sequence[str], report: int, stdout: IO[str] | None) -> None:
        self.args, self.stdout, self.returncode = args, stdout, None
        self._report = os.fdopen(report, "rb", buffering=0)
        self.pid = int(self._report.readline())

    def poll(self) -> int | None:
        if self.returncode is None and readable([self._report], 0):
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not readable([self._report], timeout):
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
