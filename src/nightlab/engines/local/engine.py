"""The local engine: prepares each trial's folder, starts its supervisor, and collects the result."""

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

from nightlab.core.config import BudgetConfig, LabConfig, megabytes
from nightlab.core.types import Measurement, NightlabError, Platform, Trial
from nightlab.engines.local.caches import Caches
from nightlab.engines.local.cgroup import Cgroup
from nightlab.engines.local.copies import Copies
from nightlab.engines.local.fork_server import ForkedProcess, ForkServer
from nightlab.engines.local.handles import RunningTrial, StandBy
from nightlab.engines.local.lab_data import LabData
from nightlab.engines.local.layout import Layout, compile_guest
from nightlab.engines.local.read_result import build_measurement
from nightlab.engines.local.trial_folder import ANSWER, MARK, SAVED, kill_leftovers, original_name, trial_output
from nightlab.engines.platform import nvidia_driver, this_platform
from nightlab.engines.slots import WHOLE, Slot, allocate_slots, gpu_failure
from nightlab.sandbox.bubblewrap import Sandbox, layered
from nightlab.storage import checkouts
from nightlab.storage.checkpoints import CheckpointStore, FileStore, UnfitCheckpoint
from nightlab.storage.git import Repo

PATIENCE = 10.0  # seconds for a standby supervisor to set up its sandboxes: a new one would take longer
AHEAD = "ahead-"  # prefix of a standby supervisor's folder, until a trial takes it over
SCRATCH = ("work", "trusted", "checked", "home-*", "tmp*", "compiled*")  # of a trial's folder


class LocalEngine:
    """Runs a session's trials on this machine. ``folder`` has one folder per trial, ``cgroups`` one cgroup each.

    ``shares``: whether it runs more trials than one, which then share a copy of the frozen files.
    """

    def __init__(
        self,
        repo: Repo,
        lab: LabConfig,
        budget: BudgetConfig,
        device: str,
        folder: Path,
        sandbox: Sandbox,
        cgroups: Path | None = None,
        *,
        shares: bool = True,
    ) -> None:
        self.repo, self.lab, self.budget, self.device, self.folder = repo, lab, budget, device, folder
        self.sandbox, self.cgroups = sandbox, cgroups
        self.shared = False  # whether several trials of this session run at once
        self.supervisors = ForkServer(folder)
        self.leash: int | None = None  # read end of a pipe: supervisors end their trial when its other end is closed
        driver = nvidia_driver() if device == "cuda" else ""
        self.caches = Caches(folder.parent / "compiled", int(megabytes(lab.resources.compiled) * 2**20), driver)
        shared = folder.absolute().parent / "frozen" if shares and layered(sandbox) else None
        data = LabData(repo.lab, lab.data.everything, layered(sandbox))
        self.copies = Copies(repo, lab.genome, shared, data)
        self.layout = Layout(lab, budget, device, sandbox, self.caches, self.copies)
        compile_guest()
        self.standing_by: dict[int, StandBy] = {}  # by slot number
        self._names = itertools.count(1)

    def slots(self, count: int | None) -> list[Slot]:
        """This machine's slots: ``count``, or with None as many as it has room for."""
        wants = self.lab.resources
        return allocate_slots(self.device, count, wants.cpus, megabytes(wants.memory) if wants.memory else 0.0)

    def slot_failure(self, slot: Slot) -> str:
        """Why a slot can't run trials any more (its GPU failed); empty while nothing is known against it."""
        return gpu_failure(slot) if self.device == "cuda" else ""

    def start(self, trial: Trial, slot: Slot = WHOLE) -> RunningTrial:
        """Start a trial under its supervisor, which keeps running if this process ends.

        Raises NightlabError when the folder can't be written, e.g. because the disk is full.
        """
        folder, process = self.folder / trial.id, None
        try:
            self.clear(folder)
            checkouts.remove_tree(folder)
            cold = trial.segment or trial.attempt > 1  # what ended the attempt before may have been its head start
            ready = None if cold else self._take_ready(slot, trial)
            if ready:
                ready.folder.rename(folder)
            if ready and ready.held:  # nothing is made anew where its program runs
                spec = _moved(ready.spec, ready.folder, folder)
            else:
                onto, cached = (ready.like.commit, ready.cached) if ready else (None, False)
                spec = self.layout.lay_out(trial, slot, folder, self._cgroup(folder), onto, cached=cached)
            self._write_spec(folder, spec)
            if ready:
                process = ready.release(folder)
            process = process or self._supervise(folder, slot, subprocess.DEVNULL)
        except OSError as error:
            raise NightlabError(
                f"trial {trial.id} can't be started in {folder}: {error}",
                "free disk space or fix the folder's permissions, then run the same command; the session resumes",
            ) from error
        return RunningTrial(trial, folder, process, slot)

    def stand_by(self, like: Trial, slot: Slot) -> None:
        """Start in advance what does not depend on the slot's next trial, with copies of the lab as in ``like``.

        The contract's ``warm`` modules are imported by then; no candidate's program has run. If this fails, the next
        trial starts without the head start.
        """
        if slot.number in self.standing_by or like.segment:
            return
        for left in set(self.folder.glob(f"{AHEAD}*")) - {ready.folder for ready in self.standing_by.values()}:
            self.clear(left)  # left behind by an orchestrator that was killed
            checkouts.remove_tree(left)
        folder = self.folder / f"{AHEAD}{os.getpid()}-{next(self._names)}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            cached = self.caches.kept() is not None
            spec = self.layout.lay_out(replace(like, id=folder.name), slot, folder, self._cgroup(folder))
            self._write_spec(folder, {**spec, "ahead": (ahead := self.layout.ahead())})
            process = self._supervise(folder, slot, subprocess.PIPE)
        except OSError:
            checkouts.remove_tree(folder)
            return
        self.standing_by[slot.number] = StandBy(
            folder, like, process, cached, waits=spec["spare_core"] and "candidate" in ahead
        )

    def can_hold(self, slot: Slot) -> bool:
        """Whether a program of the slot's next trial can begin, or has begun, before its trial: on a core to spare."""
        ready = self.standing_by.get(slot.number)
        return ready is not None and (ready.held is not None or (ready.waits and ready.stands))

    def holds(self, commit: str, experiment: int, slot: Slot) -> bool:
        """Whether that program is the one of an experiment."""
        held = self.standing_by[slot.number].held
        return held is not None and (held.commit, held.experiment) == (commit, experiment)

    def hold(self, trial: Trial | None, slot: Slot) -> None:
        """Begin a trial that is likely to be the slot's next: its program runs up to its start signal, and waits there.

        It takes what stands by for the slot (``can_hold``). What is held for another trial ends; None: whatever is.
        """
        ready = self.standing_by[slot.number]
        if ready.held:
            self._dismiss(self.standing_by.pop(slot.number))
        elif trial and self._fits(ready, trial):
            named = replace(trial, id=ready.folder.name)
            cgroup, onto = self._cgroup(ready.folder), ready.like.commit
            try:
                spec = self.layout.lay_out(named, slot, ready.folder, cgroup, onto, cached=ready.cached)
                self._write_spec(ready.folder, spec)
            except (OSError, NightlabError):  # its start says so
                self._dismiss(self.standing_by.pop(slot.number))
                return
            ready.held, ready.spec = trial, spec
            ready.begin()

    def dismiss(self) -> None:
        """End standby supervisors, because there will be no further trial."""
        for ready in self.standing_by.values():
            self._dismiss(ready)
        self.standing_by.clear()
        self.supervisors.close()

    def adopt(self, trial: Trial) -> RunningTrial:
        """A trial started by an orchestrator that has died: running, finished, or lost."""
        folder = self.folder / trial.id
        try:
            had = json.loads((folder / "spec.json").read_text(encoding="utf-8"))["slot"]
            slot = Slot(**{**had, "cores": tuple(had["cores"])})
        except (OSError, ValueError, KeyError):
            slot = WHOLE
        return RunningTrial(trial, folder, None, slot)

    def collect(self, running: RunningTrial) -> Measurement:
        """The measurement of a finished trial. Removes its scratch folders and keeps its logs."""
        folder = running.folder
        try:
            result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            result = {"outcome": "lost", "detail": "its supervisor was killed"}
        if running.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.process.wait(timeout=5)
        trial = running.trial
        if (trial.experiment, trial.purpose, result["outcome"]) == (0, "search", "measured"):  # the baseline
            self.caches.keep(folder / "compiled", *folder.glob("compiled-*"))
        self.clear(folder)
        measurement = build_measurement(self.lab, folder, result, shared=self.shared)
        return self.with_files(trial, measurement)

    def checkpoints(self, population: int) -> CheckpointStore:
        """The checkpoints of one population."""
        return self.layout.checkpoints(self.folder, population)

    @property
    def answers(self) -> FileStore:
        """The answers that later trials start from."""
        return self.layout.answers(self.folder)

    def close(self) -> None:
        """Remove what the session's trials shared, unless one still runs."""
        self.supervisors.close()
        self.copies.remove(self.folder)

    def clear(self, folder: Path) -> None:
        """End all processes that still belong to a trial, and remove its scratch folders."""
        if cgroup := self._cgroup(folder):
            cgroup.close()
        if folder.exists():
            kill_leftovers(folder)
            for scratch in (path for name in SCRATCH for path in folder.glob(name)):
                checkouts.remove_tree(scratch)
            for draft in folder.glob("*.tmp"):  # left behind by a supervisor killed while writing
                draft.unlink(missing_ok=True)

    def log(self, trial_id: str, role: str = "candidate") -> str:
        """What a trial's process printed, sanitised; empty without a log."""
        return trial_output(self.folder / trial_id, role)

    @property
    def platform(self) -> Platform:
        """This machine's platform."""
        return this_platform(self.device)

    # -- internal --------------------------------------------------------------------------------

    def with_files(self, trial: Trial, measurement: Measurement) -> Measurement:
        """Take in what a trial left for later ones: the answer that they start from, or a population's checkpoint."""
        if measurement.measured and self.lab.warm_start:
            return replace(measurement, answer=self.answers.adopt(self.folder / trial.id / ANSWER))
        return self._with_checkpoint(trial, measurement)

    def _with_checkpoint(self, trial: Trial, measurement: Measurement) -> Measurement:
        """Take in what a member of a population handed over to go on from; where nothing can, its trial has crashed."""
        part = trial.segment
        if part is None or part.last or not measurement.measured:
            return measurement
        try:
            return replace(
                measurement, checkpoint=self.checkpoints(part.population).adopt(self.folder / trial.id / SAVED)
            )
        except UnfitCheckpoint as why:
            return replace(measurement, outcome="crashed", metric=None, held_out=None, detail=f"its checkpoint: {why}")

    def _take_ready(self, slot: Slot, trial: Trial) -> StandBy | None:
        """The standby supervisor for a slot, if it is alive and fit for this trial; else None."""
        ready = self.standing_by.get(slot.number)
        if ready is None or (ready.held and trial.experiment < ready.held.experiment):
            return None  # what is held has its turn after a second run of the one before, or a re-check
        del self.standing_by[slot.number]
        fits = ready.held == trial if ready.held else self._fits(ready, trial)
        if fits and ready.up(PATIENCE):
            return ready
        self._dismiss(ready)
        return None

    def _fits(self, ready: StandBy, trial: Trial) -> bool:
        return ready.like.warm_start == trial.warm_start and self.copies.fits(ready.like.commit, trial.commit)

    def _dismiss(self, ready: StandBy) -> None:
        ready.dismiss()
        self.clear(ready.folder)
        checkouts.remove_tree(ready.folder)

    def _write_spec(self, folder: Path, spec: dict[str, Any]) -> None:
        (folder / "spec.json").write_text(json.dumps(spec), encoding="utf-8")

    def _supervise(self, folder: Path, slot: Slot, stdin: int) -> subprocess.Popen[bytes] | ForkedProcess:
        extra = {**slot.environment(), MARK: str(folder)}
        with (folder / "supervisor.log").open("wb") as log:
            if self.leash is None:
                return self.supervisors.start(folder, extra, log, stdin=stdin == subprocess.PIPE)
            return subprocess.Popen(
                [sys.executable, "-m", "nightlab.engines.local.supervisor", str(folder), str(self.leash)],
                stdin=stdin,
                stdout=log,
                stderr=log,
                env={**os.environ, **extra},
                start_new_session=True,
                pass_fds=(self.leash,),
            )

    def _cgroup(self, folder: Path) -> Cgroup | None:
        """The cgroup for a trial's candidate; None where the system does not allow it."""
        return Cgroup(self.cgroups / f"nightlab-{os.getpid()}-{original_name(folder)}") if self.cgroups else None


def _moved(spec: dict[str, Any], old: Path, new: Path) -> dict[str, Any]:
    """A spec with the paths of a folder that has been renamed."""
    was, now = (json.dumps(str(folder))[1:-1] for folder in (old, new))
    found: dict[str, Any] = json.loads(json.dumps(spec).replace(was, now))
    return found
