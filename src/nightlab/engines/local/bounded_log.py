"""A process's output on disk, limited in size."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import IO


class BoundedLog:
    """Writes output to disk: the first half of the limit at once, the last half at the end, dropping the middle."""

    def __init__(self, path: Path, limit: int, pipe: IO[bytes]) -> None:
        self.path, self.half, self.pipe = path, max(limit // 2, 1024), pipe
        self.tail = bytearray()
        self.dropped = 0
        self.thread = threading.Thread(target=self._pump, daemon=True)
        self.thread.start()

    def _pump(self) -> None:
        written = 0
        with self.path.open("wb", buffering=0) as out:
            while chunk := os.read(self.pipe.fileno(), 65536):
                head = chunk[: self.half - written]
                written += out.write(head) if head else 0
                self.tail += chunk[len(head) :]
                if len(self.tail) > 2 * self.half:
                    self.dropped += len(self.tail) - self.half
                    del self.tail[: len(self.tail) - self.half]

    def close(self) -> None:
        # A daemon of the candidate may keep the pipe open, so its end is not waited for.
        self.thread.join(timeout=1.0)
        tail, dropped = bytes(self.tail), self.dropped
        if len(tail) > self.half:
            dropped += len(tail) - self.half
            tail = tail[-self.half :]
        with self.path.open("ab") as out:
            if dropped:
                out.write(f"\n[… {dropped:,} bytes of output left out …]\n".encode())
            out.write(tail)

    def text(self) -> str:
        return self.path.read_bytes().decode("utf-8", errors="replace")
