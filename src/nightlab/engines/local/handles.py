"""What the orchestrator holds of a trial that runs, and of a supervisor that waits for one."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

from nightlab.core.types import Trial
from nightlab.engines.local.trial_folder import locked, marked
from nightlab.engines.slots import WHOLE, Slot


@dataclass
class RunningTrial:
    """A trial under way, started by this orchestrator or adopted from one that died."""

    trial: Trial
    folder: Path
    process: subprocess.Popen[bytes] | None
    slot: Slot = WHOLE

    def phase(self) -> tuple[str, float | None]:
        """``starting``, ``training`` or ``evaluating``, and since when (seconds since the epoch)."""
        try:
            data = json.loads((self.folder / "phase.json").read_text())
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
            for process in marked(self.folder):
                with contextlib.suppress(psutil.Error):  # it may end meanwhile
                    if "nightlab.engines.local.supervisor" in " ".join(process.cmdline()):
                        process.terminate()


@dataclass
class StandBy:
    """A supervisor that was started ahead, in a folder that holds the copies of a commit."""

    folder: Path
    commit: str
    process: subprocess.Popen[bytes]

    def release(self, folder: Path) -> subprocess.Popen[bytes] | None:
        """Tell it that its trial's folder, which was its own, is laid out; None when it is gone."""
        assert self.process.stdin is not None
        try:
            with self.process.stdin as line:
                line.write(os.fsencode(folder) + b"\n")
        except OSError:
            return None
        return self.process

    def dismiss(self) -> None:
        """There will be no trial."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=10)
