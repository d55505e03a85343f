"""Non-blocking standard output for unattended runs: printing never waits for the reader.

A terminal can hang (Ctrl-S, a sleeping connection), and a pipe's reader can stop reading. A plain ``print`` would then
block the session.
"""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

MOST = 2**20  # bytes buffered; further output is dropped, with a message
LEFT_OUT = b"\n[some lines were left out here: they were not read]\n"


class Outlet(io.TextIOBase):
    """A text stream whose own thread writes to the file descriptor ``fd``, until that is closed."""

    encoding = "utf-8"

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._waiting = bytearray()
        self._passing = b""
        self._left_out = False
        self._news = threading.Condition()
        threading.Thread(target=self._pass_on, name="outlet", daemon=True).start()

    def write(self, words: str) -> int:
        data = words.encode(self.encoding, errors="replace")
        with self._news:
            if len(self._waiting) + len(data) > MOST:
                self._left_out = True
            else:
                self._waiting += LEFT_OUT + data if self._left_out else data
                self._left_out = False
                self._news.notify_all()
        return len(words)

    def idle(self) -> bool:
        """Whether everything has been written."""
        return not (self._waiting or self._passing)

    def drain(self, seconds: float | None = None) -> bool:
        """Wait until everything has been written; False on timeout."""
        with self._news:
            return self._news.wait_for(self.idle, seconds)

    def fileno(self) -> int:
        return self.fd

    def isatty(self) -> bool:
        return os.isatty(self.fd)

    def writable(self) -> bool:
        return True

    def _pass_on(self) -> None:
        gone = False
        while True:
            with self._news:
                self._news.wait_for(lambda: self._waiting)
                self._passing = bytes(self._waiting)
                self._waiting.clear()
            rest = memoryview(self._passing)
            while rest and not gone:
                try:
                    rest = rest[os.write(self.fd, rest) :]
                except OSError:
                    gone = True  # the terminal was closed, or the reader has exited: continue without output
            with self._news:
                self._passing = b""
                self._news.notify_all()


@contextmanager
def unhurried() -> Iterator[None]:
    """Redirect standard output through an outlet; on exit, wait for buffered output."""
    try:
        outlet = Outlet(sys.stdout.fileno())
    except (OSError, ValueError, AttributeError):  # not a real file, e.g. in a test
        yield
        return
    before = sys.stdout
    before.flush()
    sys.stdout = outlet
    try:
        yield
    finally:
        outlet.drain()
        sys.stdout = before
