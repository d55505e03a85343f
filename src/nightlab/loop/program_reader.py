"""Reads genomes in a separate process, within limits of time and memory."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, cast

from nightlab.core.program import worker
from nightlab.core.program.facts import ProgramFacts, SessionContext
from nightlab.storage.git import OutOfScope

WALL_SECONDS = 120.0  # for one genome, on a machine that is busy
LOOK = 0.05  # seconds between two looks at whether the user wants to stop
TOO_MUCH = (
    f"reading its program takes more than {worker.CPU_SECONDS:g} s or {worker.MEMORY >> 30} GB of memory: "
    "make it smaller, or less deeply nested"
)


class ProgramReader:
    """Asks the process, which is started for the first genome, and again after one that ended it.

    ``context`` gives what holds for all genomes of the session. ``tick`` is called while an answer takes its time; what
    it raises ends the wait.
    """

    def __init__(self, context: Callable[[], SessionContext], tick: Callable[[], object]) -> None:
        self._context, self._tick = context, tick
        self._process: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize[..., ProgramReader] | None = None

    def facts(
        self, genome: Mapping[str, str], parent: Mapping[str, str] | None = None, touched: Sequence[str] = ()
    ) -> ProgramFacts:
        """The facts of a genome. Raises OutOfScope for one that takes too much time or memory."""
        return ProgramFacts(**self._answer({"genome": genome, "parent": parent or genome, "touched": touched}))

    def same_moves(self, path: str, before: str, after: str, now: str, device: str) -> str | None:
        """As the function of that name. Raises OutOfScope where it takes too much time or memory."""
        asked = {"path": path, "before": before, "after": after, "now": now, "device": device}
        return cast("str | None", self._answer(asked))

    def close(self) -> None:
        """End the process, if there is one."""
        if self._end:
            self._end()
        self._process = self._end = None

    def _answer(self, request: Mapping[str, Any]) -> Any:
        first = b"" if self._process else _context_line(self._context())
        process = self._process or self._start()
        try:
            return json.loads(self._ask(process, first + _line(request)))
        except BaseException as error:
            self.close()
            if isinstance(error, EOFError | OSError):  # it was ended, or took too long
                raise OutOfScope(TOO_MUCH) from None
            raise

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-I", "-S", worker.__file__]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
        assert process.stdin and process.stdout
        os.set_blocking(process.stdin.fileno(), False)
        self._process, self._end = process, weakref.finalize(self, _end, process)
        return process

    def _ask(self, process: subprocess.Popen[bytes], request: bytes) -> bytes:
        """Send a line, and wait for the answer's."""
        assert process.stdin and process.stdout
        until, left, answer = time.monotonic() + WALL_SECONDS, memoryview(request), bytearray()
        watched = select.poll()  # not select(), which fails in a process that has more than 1,024 files open
        watched.register(process.stdout, select.POLLIN)
        watched.register(process.stdin, select.POLLOUT)
        while not answer.endswith(b"\n"):
            ready = dict(watched.poll(1000 * LOOK))
            if process.stdin.fileno() in ready and left:
                left = left[os.write(process.stdin.fileno(), left) :]
                if not left:
                    watched.unregister(process.stdin)
            if process.stdout.fileno() in ready:
                chunk = os.read(process.stdout.fileno(), 1 << 16)
                if not chunk:
                    raise EOFError
                answer += chunk
            if not ready:
                self._tick()
            if time.monotonic() > until:
                raise TimeoutError
        return bytes(answer)


def _context_line(context: SessionContext) -> bytes:
    return _line({**asdict(context), "outside": sorted(context.outside)})


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    with process:  # closes its pipes, and waits
        pass
