"""The orchestrator's handles: to a running trial, and to a standby supervisor."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

from nightlab.core.types import Trial
from nightlab.engines.local.trial_folder import locked, trial_processes
from nightlab.engines.slots import WHOLE, Slot


@dataclass
class RunningTrial:
    """A running trial, started by this orchestrator or adopted from one that died."""

    trial: Trial
    folder: Path
    process: subprocess.Popen[bytes] | None
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
            for process in trial_processes(self.folder):
                with contextlib.suppress(psutil.Error):  # it may have exited
                    if "nightlab.engines.local.supervisor" in " ".join(process.cmdline()):
                        process.terminate()


@dataclass
class StandBy:
    """A supervisor started in advance, in a folder with the copies of a commit. ``cached``: and of what is compiled."""

    folder: Path
    commit: str
    process: subprocess.Popen[bytes]
    cached: bool

    def release(self, folder: Path) -> subprocess.Popen[bytes] | None:
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
        self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=10)
