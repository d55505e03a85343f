"""Trials on a Slurm cluster: each is a job, submitted through submitit.

Partition, account and other options come from sbatch's environment variables, e.g. SBATCH_PARTITION.
"""

from __future__ import annotations

import contextlib
import json
import math
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import FrameType
from typing import Any

from nightlab.core.types import NightlabError, Platform
from nightlab.engines.remote.engine import Lost
from nightlab.engines.remote.node import (
    NEWS_INTERVAL,
    NodeFacts,
    NodeResult,
    TrialParcel,
    TrialProgress,
    describe_node,
    run_parcel,
)

AROUND = 15  # extra minutes per job: the first one on a node also prepares the lab's data
LATE = 5.0  # seconds until a result must be visible on the shared disk
BASE = "base.bundle"
HINT_NODE = "install the same nightlab on every node, in the folder where this one's environment is (docs/far.md)"


class SlurmCluster:
    """Runs one user's jobs. ``folder`` must be visible to all nodes; ``scheduler`` may be submitit's ``local`` (tests).

    Raises NightlabError when submitit or Slurm is missing, or ``slots`` is None.
    """

    def __init__(self, folder: Path, slots: int | None, scheduler: str = "slurm") -> None:
        if slots is None:
            raise NightlabError("a Slurm queue does not report how many trials fit at once", "set it: --slots 16")
        self.folder, self.slots = folder, slots
        folder.mkdir(parents=True, exist_ok=True)
        try:
            import submitit

            self.executor = submitit.AutoExecutor(folder, cluster=scheduler)
        except ImportError:
            raise NightlabError("submitit is not installed here", "pip install 'nightlab[slurm]'") from None
        except RuntimeError as error:
            hint = "run this where sbatch works, such as the cluster's login node"
            raise NightlabError(f"there is no Slurm here: {error}", hint) from None
        self.uncompleted = (submitit.core.utils.UncompletedJobError, submitit.core.utils.FailedJobError)
        self._say(name="nightlab", timeout_min=AROUND, cpus_per_task=1)

    def describe_nodes(self, device: str | None) -> dict[str, NodeFacts]:
        """Describes the node that the queue assigns; others are checked when a trial reaches them."""
        if device != "cpu" and self._has_gpus():
            self._say(gpus_per_node=1)
        host, facts = self._ask(device)
        return {host: facts}

    def room(self, avoid: set[str]) -> int:
        return self.slots

    def outage(self, avoid: set[str]) -> str:
        """Empty: waiting in the queue is normal."""
        return ""

    def open(self, base: bytes, platform: Platform, seconds: float) -> None:
        (self.folder / BASE).write_bytes(base)
        self._say(timeout_min=math.ceil(seconds / 60) + AROUND, gpus_per_node=int(platform.device == "cuda"))

    def send(self, parcel: TrialParcel, avoid: set[str]) -> SlurmJob:
        if avoid:
            self._say(slurm_exclude=",".join(sorted(avoid)))
        board = self.folder / f"{parcel.trial.id}.phase"
        board.unlink(missing_ok=True)
        return SlurmJob(self, self.executor.submit(slurm_job, parcel, self.folder / BASE, board), board)

    def _ask(self, device: str | None) -> tuple[str, NodeFacts]:
        job = self.executor.submit(node_facts_job, device)
        try:
            host, facts = job.result()
            return str(host), facts
        except self.uncompleted as error:
            raise NightlabError(f"a job that asks what a node is failed: {_last(str(error))}", HINT_NODE) from None

    def _say(self, **words: Any) -> None:
        self.executor.update_parameters(**words)

    def _has_gpus(self) -> bool:
        """Whether the default partition has GPUs."""
        try:
            said = subprocess.run(["sinfo", "-h", "-o", "%G"], capture_output=True, text=True, timeout=30).stdout
        except (OSError, subprocess.TimeoutExpired):
            return False
        return "gpu" in said


class SlurmJob:
    """A trial as a Slurm job."""

    def __init__(self, cluster: SlurmCluster, job: Any, board: Path) -> None:
        self.cluster, self.job, self.board = cluster, job, board
        self._over_since: float | None = None
        self._news, self._looked = TrialProgress(), 0.0

    def done(self) -> bool:
        """Whether it has a result, or ended without one (after a delay for slow shared disks)."""
        if self.job.paths.result_pickle.exists():
            return True
        if self._over_since is None and self.job.done():
            self._over_since = time.monotonic()
        return self._over_since is not None and time.monotonic() - self._over_since > LATE

    def result(self) -> tuple[str, NodeResult]:
        try:
            if not self.job.paths.result_pickle.exists():
                raise Lost(f"its job {self.job.job_id} ended without an answer: {_last(self.job.stderr() or '')}")
            host, result = self.job.result()
            return str(host), result
        except self.cluster.uncompleted as error:
            said = _last(str(error))
            if "ModuleNotFoundError" in said:
                raise NightlabError(f"a node can't run nightlab: {said}", HINT_NODE) from None
            raise Lost(f"its job {self.job.job_id} failed: {said}") from None
        finally:
            for left in (self.board, *self.cluster.folder.glob(f"{self.job.job_id}_*")):
                left.unlink(missing_ok=True)

    def cancel(self) -> None:
        with contextlib.suppress(Exception):  # it may have ended
            self.job.cancel()

    def news(self) -> TrialProgress:
        if time.monotonic() - self._looked > NEWS_INTERVAL:
            self._looked = time.monotonic()
            with contextlib.suppress(OSError, ValueError):
                phase, since, curve = json.loads(self.board.read_text(encoding="utf-8"))
                self._news = TrialProgress(phase, since, curve.encode())
        return self._news


def node_facts_job(device: str | None) -> tuple[str, NodeFacts]:
    """Job: describe its node."""
    return socket.gethostname(), describe_node(device)


def slurm_job(parcel: TrialParcel, base: Path, board: Path) -> tuple[str, NodeResult]:
    """Job: run a trial; returns the host's name and the result."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt  # ends the trial; submitit would continue

    def tell(news: TrialProgress) -> None:
        with contextlib.suppress(OSError):
            board.write_text(json.dumps([news.phase, news.since, news.curve.decode()]), encoding="utf-8")

    signal.signal(signal.SIGTERM, stop)
    return socket.gethostname(), run_parcel(parcel, base.read_bytes(), tell)


def _last(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "Error" in line), lines[0] if lines else "no reason given")
