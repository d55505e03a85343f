"""What an answering process is given: its end of the link to the evaluator, and a copy of what was handed over.

It shares nothing with the candidate or with another answering process: each has separate memory for the arrays, so
that not even a lock on a file could pass something on, and they run one after another.
"""

from __future__ import annotations

import os
import socket
from typing import IO

from nightlab.engines.local.child_setup import private_memory, seal

CHUNK = 2**24  # bytes copied at a time


class Answering:
    """An answering process that was not called yet. ``link`` and ``shared`` are the caller's, and are duplicated."""

    def __init__(self, link: socket.socket, shared: IO[bytes]) -> None:
        self.calls = [link.dup().detach(), os.dup(shared.fileno())]
        self.handed = private_memory()

    def passed(self) -> dict[str, list[int]]:
        """The descriptors that it inherits, by the variable that names them."""
        link, shared = self.calls
        return {"NIGHTLAB_LINK": [link], "NIGHTLAB_SHARED": [shared], "NIGHTLAB_HANDED": [self.handed.fileno()]}

    def close_calls(self) -> None:
        """Close this process's copies of its ends, so that the evaluator notices when it exits."""
        while self.calls:
            os.close(self.calls.pop())

    def hand(self, trained: IO[bytes]) -> None:
        """Copy what was handed over, for good: the copy can't be changed afterwards."""
        trained.seek(0)
        while chunk := trained.read(CHUNK):
            self.handed.write(chunk)
        seal(self.handed)
