"""The box: gives each trial its folder, its environment and its supervisor, and reads what came of it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from nightlab.core.config import BudgetConfig, Lab, megabytes
from nightlab.core.types import Measurement, NightlabError, Platform, Trial
from nightlab.engines.local.caches import Caches
from nightlab.engines.local.cgroup import Cgroup
from nightlab.engines.local.handles import RunningTrial, StandBy
from nightlab.engines.local.layout import Layout
from nightlab.engines.local.read_result import measurement
from nightlab.engines.local.trial_folder import BORN, MARK, born, end_leftovers, printed
from nightlab.engines.platform import this_platform
from nightlab.engines.slots import WHOLE, Slot, gone, share_out
from nightlab.sandbox.bubblewrap import Sandbox
from nightlab.storage.git import Repo, checkouts

AHEAD = "ahead-"  # how the folder of a supervisor that stands by is called, until it is a trial's
SCRATCH = ("work", "trusted", "checked", "home-work", "home-trusted", "home-checked", "tmp", "compiled")


class LocalEngine:
    """Where the trials of one session run: ``folder`` holds one folder per trial, ``cgroups`` one cgroup."""

    def __init__(
        self,
        repo: Repo,
        lab: Lab,
        budget: BudgetConfig,
        device: str,
        folder: Path,
        sandbox: Sandbox,
        cgroups: Path | None = None,
    ) -> None:
        self.repo, self.lab, self.budget, self.device, self.folder = repo, lab, budget, device, folder
        self.sandbox, self.cgroups = sandbox, cgroups
        self.shared = False  # whether several trials of our own run at once
        self.leash: int | None = None  # the end of a pipe: a supervisor ends its trial when the other end is closed
        self.caches = Caches(folder.parent / "compiled", int(megabytes(lab.resources.compiled) * 2**20))
        self.layout = Layout(repo, lab, budget, device, sandbox, self.caches)
        self.standing_by: dict[int, StandBy] = {}  # by the number of the slot
        self._names = itertools.count(1)

    def slots(self, count: int | None) -> list[Slot]:
        """How this machine is shared out among trials: in ``count`` slots, None: in as many as it has room for."""
        wants = self.lab.resources
        return share_out(self.device, count, wants.cpus, megabytes(wants.memory) if wants.memory else 0.0)

    def fault(self, slot: Slot) -> str:
        """Why nothing can run in a slot any more: its GPU has failed. Empty where nothing is known against it."""
        return gone(slot) if self.device == "cuda" else ""

    def start(self, trial: Trial, slot: Slot = WHOLE) -> RunningTrial:
        """Start a trial under a supervisor of its own, which goes on when this process ends.

        Raises NightlabError when the folder can't be made, e.g. because the disk is full.
        """
        folder, process = self.folder / trial.id, None
        try:
            self.clear(folder)
            checkouts.remove_tree(folder)
            if ready := self._take_ready(slot):
                ready.folder.rename(folder)
            spec = self.layout.lay_out(trial, slot, folder, self._cgroup(folder), ready.commit if ready else None)
            self._write_spec(folder, {**spec, **self.layout.files(trial.commit, Path(spec["copies"]["candidate"]))})
            if ready:
                process = ready.release(folder)
            process = process or self._supervise(folder, slot, subprocess.DEVNULL)
        except OSError as error:
            raise NightlabError(
                f"trial {trial.id} can't be started in {folder}: {error.strerror or error}",
                "free disk space or mend the folder's permissions, then run the same command: it resumes",
            ) from error
        return RunningTrial(trial, folder, process, slot)

    def stand_by(self, like: Trial, slot: Slot) -> None:
        """Start ahead what does not depend on which trial has the slot next, with the copies of one like it.

        What the contract says is imported by then, and no program of a candidate has run. When that fails, the next
        trial is simply not ahead.
        """
        if slot.number in self.standing_by:
            return
        for left in set(self.folder.glob(f"{AHEAD}*")) - {ready.folder for ready in self.standing_by.values()}:
            self.clear(left)  # by an orchestrator that was killed
            checkouts.remove_tree(left)
        folder = self.folder / f"{AHEAD}{os.getpid()}-{next(self._names)}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            spec = self.layout.lay_out(replace(like, id=folder.name), slot, folder, self._cgroup(folder))
            self._write_spec(folder, {**spec, "ahead": self.layout.ahead()})
            process = self._supervise(folder, slot, subprocess.PIPE)
        except OSError:
            checkouts.remove_tree(folder)
            return
        self.standing_by[slot.number] = StandBy(folder, like.commit, process)

    def dismiss(self) -> None:
        """End what stands by, for there will be no other trial."""
        for ready in self.standing_by.values():
            self._dismiss(ready)
        self.standing_by.clear()

    def adopt(self, trial: Trial) -> RunningTrial:
        """A trial that an orchestrator now dead had started: running, finished, or lost."""
        folder = self.folder / trial.id
        try:
            had = json.loads((folder / "spec.json").read_text())["slot"]
            slot = Slot(**{**had, "cores": tuple(had["cores"])})
        except (OSError, ValueError, KeyError):
            slot = WHOLE
        return RunningTrial(trial, folder, None, slot)

    def collect(self, running: RunningTrial) -> Measurement:
        """What a finished trial yielded. Its scratch folders go, its logs stay."""
        folder = running.folder
        try:
            result = json.loads((folder / "result.json").read_text())
        except FileNotFoundError:
            result = {"outcome": "lost", "detail": "its supervisor was killed"}
        if running.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.process.wait(timeout=5)
        trial = running.trial
        if (trial.experiment, trial.purpose, result["outcome"]) == (0, "search", "measured"):  # the human's own program
            self.caches.keep(folder / "compiled")
        self.clear(folder)
        return measurement(self.lab, folder, result, shared=self.shared)

    def clear(self, folder: Path) -> None:
        """End whatever still runs in a trial's name, and remove its scratch folders."""
        if cgroup := self._cgroup(folder):
            cgroup.close()
        if folder.exists():
            end_leftovers(folder)
            for name in SCRATCH:
                checkouts.remove_tree(folder / name)
            for draft in folder.glob("*.tmp"):  # of a supervisor that was killed while it wrote
                draft.unlink(missing_ok=True)

    def log(self, trial_id: str, role: str = "candidate") -> str:
        """What a trial's process printed, made harmless; empty when it left no log."""
        return printed(self.folder / trial_id, role)

    @property
    def platform(self) -> Platform:
        """This machine."""
        return this_platform(self.device)

    # -- inside ----------------------------------------------------------------------------------

    def _leashed(self) -> tuple[int, ...]:
        return () if self.leash is None else (self.leash,)

    def _take_ready(self, slot: Slot) -> StandBy | None:
        """The supervisor that stands by for a slot, if it does by now, and still."""
        ready = self.standing_by.pop(slot.number, None)
        if ready and (ready.process.poll() is not None or not (ready.folder / BORN).exists()):
            self._dismiss(ready)
            return None
        return ready

    def _dismiss(self, ready: StandBy) -> None:
        ready.dismiss()
        self.clear(ready.folder)
        checkouts.remove_tree(ready.folder)

    def _write_spec(self, folder: Path, spec: dict[str, Any]) -> None:
        (folder / "spec.json").write_text(json.dumps(spec, indent=1))

    def _supervise(self, folder: Path, slot: Slot, stdin: int) -> subprocess.Popen[bytes]:
        with (folder / "supervisor.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "nightlab.engines.local.supervisor", str(folder), *map(str, self._leashed())],
                stdin=stdin,
                stdout=log,
                stderr=log,
                env={**os.environ, **slot.environment(), MARK: str(folder)},
                start_new_session=True,
                pass_fds=self._leashed(),
            )

    def _cgroup(self, folder: Path) -> Cgroup | None:
        """The cgroup for a trial's candidate, where the system lets us make one."""
        return Cgroup(self.cgroups / f"nightlab-{os.getpid()}-{born(folder)}") if self.cgroups else None
