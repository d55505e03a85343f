"""The orchestrator's handles: to a running trial, and to a standby supervisor."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nightlab.core.types import Trial
from nightlab.engines.local.fork_server import ForkedProcess, readable
from nightlab.engines.local.held import BEGIN
from nightlab.engines.local.trial_folder import ORIGINAL_NAME, locked, supervisor_of
from nightlab.engines.slots import WHOLE, Slot

Supervisor = subprocess.Popen[bytes] | ForkedProcess


@dataclass
class RunningTrial:
    """A running trial, started by this orchestrator or adopted from one that died."""

    trial: Trial
    folder: Path
    process: Supervisor | None
    slot: Slot = WHOLE

    def phase(self) -> tuple[str, float | None]:
        """``starting``, ``training`` or ``evaluating``; and since when (seconds since the epoch)."""
        try:
            data = json.loads((self.folder / "phase.json").read_text(encoding="utf-8"))
            return str(data["phase"]), float(data["at"])
        except (OSError, ValueError, KeyError):
            return "starting", None

    def alive(self) -> bool:
        if self.process is not None:
            return self.process.poll() is None
        return locked(self.folder)

    def finished(self) -> bool:
        return (self.folder / "result.json").exists() or not self.alive()

    def stop(self) -> None:
        """End the trial now; its outcome is then ``interrupted``."""
        if self.process is not None:
            self.process.terminate()
        else:
            with contextlib.suppress(ProcessLookupError):  # it may have exited
                if pid := supervisor_of(self.folder):
                    os.kill(pid, signal.SIGTERM)


@dataclass
class StandBy:
    """A supervisor started in advance, in a folder as for the trial ``like``. ``cached``: with what is compiled.

    ``waits``: whether a candidate waits in it that may begin beside a training. ``held``: the trial whose program has
    begun in it, by this ``spec``.
    """

    folder: Path
    like: Trial
    process: Supervisor
    cached: bool
    waits: bool = False
    held: Trial | None = None
    spec: dict[str, Any] = field(default_factory=dict)

    @property
    def stands(self) -> bool:
        """Whether what it starts in advance stands."""
        return (self.folder / ORIGINAL_NAME).exists()

    def begin(self) -> None:
        """Have the program of its trial, whose spec is in its folder, run up to its start signal."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # it has exited: the trial starts without it
            self.process.stdin.write(BEGIN.encode())
            self.process.stdin.flush()

    def up(self, seconds: float) -> bool:
        """Wait until what it starts in advance stands; False if it has exited, or takes longer than ``seconds``."""
        until = time.monotonic() + seconds
        while self.process.poll() is None and not self.stands:
            if (left := until - time.monotonic()) <= 0:
                return False
            if isinstance(self.process, ForkedProcess):
                self.process.stepped(left)
            else:
                time.sleep(0.01)
        return self.process.poll() is None

    def release(self, folder: Path) -> Supervisor | None:
        """Hand over its trial's folder, renamed from its own and prepared; None if the supervisor has exited."""
        assert self.process.stdin is not None
        try:
            with self.process.stdin as line:
                line.write(os.fsencode(folder) + b"\n")
        except OSError:
            return None
        return self.process

    def dismiss(self) -> None:
        """End it without a trial."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # it has exited, and there was something left to tell it
            self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=10)


def wait_for_any(running: Iterable[object], seconds: float) -> None:
    """Wait until one of these trials has ended, at most ``seconds``; for that long where none runs here."""
    supervisors = [one.process for one in running if isinstance(one, RunningTrial)]
    forked = [process for process in supervisors if isinstance(process, ForkedProcess)]
    if forked:
        readable(forked, seconds)
    else:
        time.sleep(seconds)
