"""The box: gives each trial its folder, its environment and its supervisor, and reads what came of it."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from nightlab.lab import BudgetPart, Lab, megabytes
from nightlab.lineage import Repo, copies, frozen_entries, in_genome
from nightlab.records import Budget, Measurement, NightlabError, Platform, Trial
from nightlab.sandbox.bubblewrap import Place, Sandbox, search_path
from nightlab.trial import text
from nightlab.trial.caches import Caches
from nightlab.trial.cgroup import Cgroup
from nightlab.trial.condition import disturbance
from nightlab.trial.machine import this_platform
from nightlab.trial.slots import WHOLE, Slot, gone, share_out
from nightlab.trial.supervisor import BORN
from nightlab.words import plain

GUEST = Path(__file__).resolve().parent.parent / "guest"
MARK = "NIGHTLAB_TRIAL"  # names the trial's folder in the environment of each of its processes
PASSED = ("LANG", "LC_ALL", "TZ", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH")
HELD_OUT = ("upkeep", "confirm", "transfer")  # trials that decide nothing in the search, and may see that data
AHEAD = "ahead-"  # how the folder of a supervisor that stands by is called, until it is a trial's
SCRATCH = ("work", "trusted", "checked", "home-work", "home-trusted", "home-checked", "tmp", "compiled")


@dataclass
class Running:
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
        return _locked(self.folder)

    def finished(self) -> bool:
        return (self.folder / "result.json").exists() or not self.alive()

    def stop(self) -> None:
        """End the trial now; its outcome is then ``interrupted``."""
        if self.process is not None:
            self.process.terminate()
        else:
            for process in _marked(self.folder):
                with contextlib.suppress(psutil.Error):  # it may end meanwhile
                    if "nightlab.trial.supervisor" in " ".join(process.cmdline()):
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


class Box:
    """Where the trials of one session run: ``folder`` holds one folder per trial, ``cgroups`` one cgroup."""

    def __init__(
        self,
        repo: Repo,
        lab: Lab,
        budget: BudgetPart,
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
        self.standing_by: dict[int, StandBy] = {}  # by the number of the slot
        self._names = itertools.count(1)

    def slots(self, count: int | None) -> list[Slot]:
        """How this machine is shared out among trials: in ``count`` slots, None: in as many as it has room for."""
        wants = self.lab.resources
        return share_out(self.device, count, wants.cpus, megabytes(wants.memory) if wants.memory else 0.0)

    def fault(self, slot: Slot) -> str:
        """Why nothing can run in a slot any more: its GPU has failed. Empty where nothing is known against it."""
        return gone(slot) if self.device == "cuda" else ""

    def start(self, trial: Trial, slot: Slot = WHOLE) -> Running:
        """Start a trial under a supervisor of its own, which goes on when this process ends.

        Raises NightlabError when the folder can't be made, e.g. because the disk is full.
        """
        folder, process = self.folder / trial.id, None
        try:
            self.clear(folder)
            copies.remove(folder)
            if ready := self._take_ready(slot):
                ready.folder.rename(folder)
            spec = self._lay_out(trial, slot, folder, ready.commit if ready else None)
            self._write_spec(folder, {**spec, **self._files(trial.commit, Path(spec["copies"]["candidate"]))})
            if ready:
                process = ready.release(folder)
            process = process or self._supervise(folder, slot, subprocess.DEVNULL)
        except OSError as error:
            raise NightlabError(
                f"trial {trial.id} can't be started in {folder}: {error.strerror or error}",
                "free disk space or mend the folder's permissions, then run the same command: it resumes",
            ) from error
        return Running(trial, folder, process, slot)

    def stand_by(self, like: Trial, slot: Slot) -> None:
        """Start ahead what does not depend on which trial has the slot next, with the copies of one like it.

        What the contract says is imported by then, and no program of a candidate has run. When that fails, the next
        trial is simply not ahead.
        """
        if slot.number in self.standing_by:
            return
        for left in set(self.folder.glob(f"{AHEAD}*")) - {ready.folder for ready in self.standing_by.values()}:
            self.clear(left)  # by an orchestrator that was killed
            copies.remove(left)
        folder = self.folder / f"{AHEAD}{os.getpid()}-{next(self._names)}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            spec = self._lay_out(replace(like, id=folder.name), slot, folder)
            self._write_spec(folder, {**spec, "ahead": self._ahead()})
            process = self._supervise(folder, slot, subprocess.PIPE)
        except OSError:
            copies.remove(folder)
            return
        self.standing_by[slot.number] = StandBy(folder, like.commit, process)

    def dismiss(self) -> None:
        """End what stands by, for there will be no other trial."""
        for ready in self.standing_by.values():
            self._dismiss(ready)
        self.standing_by.clear()

    def adopt(self, trial: Trial) -> Running:
        """A trial that an orchestrator now dead had started: running, finished, or lost."""
        folder = self.folder / trial.id
        try:
            had = json.loads((folder / "spec.json").read_text())["slot"]
            slot = Slot(**{**had, "cores": tuple(had["cores"])})
        except (OSError, ValueError, KeyError):
            slot = WHOLE
        return Running(trial, folder, None, slot)

    def collect(self, running: Running) -> Measurement:
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
        return self._measurement(folder, result)

    def clear(self, folder: Path) -> None:
        """End whatever still runs in a trial's name, and remove its scratch folders."""
        if cgroup := self._cgroup(folder):
            cgroup.close()
        if folder.exists():
            for process in _marked(folder):
                with contextlib.suppress(psutil.Error, ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            for name in SCRATCH:
                copies.remove(folder / name)
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
        copies.remove(ready.folder)

    def _write_spec(self, folder: Path, spec: dict[str, Any]) -> None:
        (folder / "spec.json").write_text(json.dumps(spec, indent=1))

    def _supervise(self, folder: Path, slot: Slot, stdin: int) -> subprocess.Popen[bytes]:
        with (folder / "supervisor.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "nightlab.trial.supervisor", str(folder), *map(str, self._leashed())],
                stdin=stdin,
                stdout=log,
                stderr=log,
                env={**os.environ, **slot.environment(), MARK: str(folder)},
                start_new_session=True,
                pass_fds=self._leashed(),
            )

    def _ahead(self) -> dict[str, dict[str, str]]:
        """What is added to the environment of processes that are started ahead, by role; nothing if they can't be."""
        lab, evaluator = self.lab, self.lab.evaluator
        roles = {"candidate": (lab.command, lab.warm)}
        if evaluator and evaluator.served:
            roles["evaluator"] = (evaluator.command, evaluator.warm)
        # Any other program would not wait for the go; and some starts would be ahead and some not, which don't compare.
        wait = all(command and re.fullmatch(r"python[\d.]*", shlex.split(command)[0]) for command, _ in roles.values())
        if not (lab.warm and wait and self.sandbox.movable) or {"startup_seconds", "wall_seconds"} & lab.limits.keys():
            return {}
        path = os.pathsep.join([str(GUEST / "warm"), str(GUEST)])
        return {role: {"NIGHTLAB_WARM": ",".join(warm), "PYTHONPATH": path} for role, (_, warm) in roles.items()}

    def _lay_out(self, trial: Trial, slot: Slot, folder: Path, onto: str | None = None) -> dict[str, Any]:
        """Make a trial's copies of the lab, ``onto`` those of another commit if they are there; its spec."""
        lab, evaluator = self.lab, self.lab.evaluator
        work = self.repo.export(trial.commit, folder / "work", onto=onto)
        if onto is None and self.caches.limit:
            self.caches.give(folder / "compiled")
        compiled = folder / "compiled" if self.caches.limit else None
        starts = {"candidate": self._start(slot, folder, work, lab.data.open, writable=True, cache=compiled)}
        copied = {"candidate": str(work)}
        # Copies of their own: nothing that a candidate leaves behind can touch the evaluator or the checks.
        if evaluator:
            trusted = self.repo.export(trial.commit, folder / "trusted", onto=onto)
            data = lab.data.open + lab.data.sealed
            left = None if evaluator.served or not lab.command else work
            starts["evaluator"] = self._start(slot, folder, trusted, data, writable=False, artefacts=left)
            copied["evaluator"] = str(trusted)
            if evaluator.held_out and (trial.purpose in HELD_OUT or (trial.purpose, trial.experiment) == ("search", 0)):
                starts["evaluator"]["env"]["NIGHTLAB_HELD_OUT"] = "1"
        if lab.checks:
            checked = self.repo.export(trial.commit, folder / "checked", onto=onto)
            starts["check"] = self._start(slot, folder, checked, lab.data.open, writable=True)
            copied["check"] = str(checked)
        budget, cgroup = self.budget, self._cgroup(folder)
        return {
            "ahead": None,
            "command": shlex.split(lab.command) if lab.command else None,
            "evaluator": shlex.split(evaluator.command) if evaluator else None,
            "served": bool(evaluator and evaluator.served),
            "checks": [shlex.split(check.command) for check in lab.checks] if trial.purpose == "search" else [],
            "starts": starts,
            "copies": copied,
            "env": {**self._environment(trial, folder), **slot.environment()},
            "slot": asdict(slot),
            "clock": trial.budget.clock,
            "amount": trial.budget.amount,
            "startup": budget.startup,
            "evaluation": budget.evaluation,
            "wall_limit": _longest(budget, trial.budget),
            "disk_mb": megabytes(lab.resources.disk),
            "cgroup": str(cgroup.folder) if cgroup else None,
            "memory_mb": megabytes(lab.resources.memory) if lab.resources.memory else None,
            "processes": lab.resources.processes,
            "log_bytes": int(megabytes(lab.resources.log) * 2**20),
        }

    def _files(self, commit: str, work: Path) -> dict[str, dict[str, str]]:
        """What a trial's copies have to hold, by path: all of it, and what the candidate must leave as it is."""
        ids = self.repo.ids(commit, work)
        # Its frozen files are compared too: not every sandbox keeps it from writing them. Mounts do not hold links.
        frozen = {path: name for path, name in ids.items() if not in_genome(path, self.lab.genome) and " " not in name}
        return {"ids": ids, "frozen": frozen}

    def _start(
        self,
        slot: Slot,
        folder: Path,
        copy: Path,
        data: tuple[str, ...],
        *,
        writable: bool,
        artefacts: Path | None = None,
        cache: Path | None = None,
    ) -> dict[str, Any]:
        """How the sandbox starts a process in its copy of the lab, with a home in which only the data is found."""
        tmp = folder / "tmp"
        home = folder / f"home-{copy.relative_to(folder).parts[0]}"
        home.mkdir(exist_ok=True)
        tmp.mkdir(exist_ok=True)
        frozen = tuple(frozen_entries(copy, self.lab.genome)) if writable else ()
        scratch = int(megabytes(self.lab.resources.disk))
        place = Place(copy, writable, frozen, home, tmp, data, scratch, self.device, artefacts, slot.gpu_node, cache)
        return asdict(self.sandbox.start(place))

    def _cgroup(self, folder: Path) -> Cgroup | None:
        """The cgroup for a trial's candidate, where the system lets us make one."""
        return Cgroup(self.cgroups / f"nightlab-{os.getpid()}-{_born(folder)}") if self.cgroups else None

    def _environment(self, trial: Trial, folder: Path) -> dict[str, str]:
        names = (*PASSED, *self.lab.environment)
        env = {name: os.environ[name] for name in names if name in os.environ}
        return {
            "LANG": "C.UTF-8",
            **env,
            "PATH": search_path(os.pathsep.join(["/usr/local/bin", "/usr/bin", "/bin"])),
            "PYTHONPATH": str(GUEST),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",  # a copy holds the commit's files and no other
            "PYTHONHASHSEED": "0",
            "NIGHTLAB_SEED": str(trial.seed),
            "NIGHTLAB_CLOCK": trial.budget.clock,
            "NIGHTLAB_BUDGET": f"{trial.budget.amount:g}"
            if trial.budget.clock != "work"
            else str(int(trial.budget.amount)),
            "NIGHTLAB_DEVICE": self.device,
            MARK: str(folder),
        }

    def _measurement(self, folder: Path, result: dict[str, Any]) -> Measurement:
        printed = _read(folder / "candidate.log")
        claims = text.claims(printed)
        # An evaluator's word is trusted; without one the metric is the candidate's own claim.
        trusted = text.metrics(_read(folder / "evaluator.log")) if self.lab.evaluator else text.metrics(printed)
        metric = trusted.get(self.lab.metric.name)
        if metric is None and not self.lab.evaluator:
            metric = claims.get(self.lab.metric.name)
        outcome, detail = result["outcome"], result.get("detail", "")
        if outcome == "measured" and metric is None:
            outcome, detail = (
                "no metric",
                f"it ended well, but nothing printed METRIC {self.lab.metric.name}=…",
            )
        if outcome == "crashed" and printed and detail.startswith("exit status"):
            detail = f"{text.crash_summary(printed)} ({detail})"
        bounds = self.lab.metric
        if outcome == "measured" and metric is not None and not bounds.lowest <= metric <= bounds.highest:
            outcome, detail = "tampered", f"{bounds.name} {metric:g} is not in {bounds.lowest:g} to {bounds.highest:g}"
        held_out = trusted.get("held_out") if self.lab.evaluator and self.lab.evaluator.held_out else None
        secondary = {
            n: v for n, v in trusted.items() if n != self.lab.metric.name and (held_out is None or n != "held_out")
        }
        known = {key: value for key, value in result.items() if key not in ("outcome", "detail")}
        clock = json.loads((folder / "spec.json").read_text())["clock"] if known.get("machine") else ""
        return Measurement(
            outcome=outcome,
            metric=metric if outcome == "measured" else None,
            secondary=secondary,
            held_out=held_out if outcome == "measured" else None,
            detail=plain(detail, 400),
            claims={name: value for name, value in claims.items() if name != self.lab.metric.name},
            disturbed=disturbance(known["machine"], clock, shared=self.shared) if known.get("machine") else "",
            **known,
        )


def run_prepare(repo: Repo, lab: Lab, commit: str, folder: Path) -> None:
    """Run the lab's ``prepare`` command from a pristine copy: the human's own code, with network and home.

    Raises NightlabError when it fails.
    """
    if lab.prepare is None:
        return
    place = folder / "prepare"
    shutil.rmtree(place, ignore_errors=True)
    work = repo.export(commit, place)
    path = search_path(os.environ.get("PATH", ""))
    try:
        done = subprocess.run(shlex.split(lab.prepare), cwd=work, env={**os.environ, "PATH": path}, check=False)
    except OSError as error:
        raise NightlabError(f"the lab's prepare command can't be started: {error}", f"mend: {lab.prepare}") from error
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if done.returncode:
        raise NightlabError(
            f"the lab's prepare command failed with exit status {done.returncode}: {lab.prepare}",
            f"run it by hand in {repo.lab} and mend what it says",
        )


def end_leftovers(trials: Path) -> int:
    """End every process that still runs in the name of a trial below ``trials``. Returns how many."""
    left = _marked(trials)
    for process in left:
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    return len(left)


def _longest(usual: BudgetPart, budget: Budget) -> float:
    """Seconds of wall clock for a trial's training: the contract's, or more where its budget is larger than usual."""
    same = usual.clock == budget.clock
    part = usual if same else BudgetPart(clock=budget.clock, amount=budget.amount)
    return part.longest() * (max(budget.amount / usual.amount, 1) if same else 1)


def _marked(folder: Path) -> list[psutil.Process]:
    """Processes whose environment says that they belong to a trial at or below ``folder``."""
    found, marks = [], {str(folder), str(folder.with_name(_born(folder)))}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            mark = process.environ().get(MARK, "")
            if mark in marks or mark.startswith(f"{folder}{os.sep}"):
                found.append(process)
    return found


def _born(folder: Path) -> str:
    """What a trial's folder was called when its processes were started: an environment can't be changed later."""
    return _read(folder / BORN) or folder.name


def printed(folder: Path, role: str = "candidate") -> str:
    """What a process of the trial in ``folder`` printed, made harmless; empty when it left no log."""
    return plain(_read_bytes(folder / f"{role}.log"), limit=20_000)


def _locked(folder: Path) -> bool:
    """Whether a living supervisor holds the folder's lock."""
    try:
        handle = os.open(folder / "lock", os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _read(path: Path) -> str:
    return _read_bytes(path).decode("utf-8", errors="replace")


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


__all__ = ["Box", "Budget", "Running", "end_leftovers", "printed", "run_prepare"]
