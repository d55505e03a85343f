"""Prepares a trial's folder: copies of the lab for its processes, how each is started, and the trial's spec."""

from __future__ import annotations

import contextlib
import json
import os
import py_compile
import re
import shlex
import sys
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

from nightlab.core.config import BudgetConfig, LabConfig, megabytes
from nightlab.core.config.limits import overrun
from nightlab.core.overhead import grace
from nightlab.core.types import Budget, NightlabError, Trial
from nightlab.engines.local.caches import Caches
from nightlab.engines.local.cgroup import Cgroup
from nightlab.engines.local.copies import Copies, TrialCopies
from nightlab.engines.local.environment import Environment, find_environment
from nightlab.engines.local.lab_data import is_relative
from nightlab.engines.local.trial_folder import MARK, PROXY, compiled_folder
from nightlab.engines.slots import Slot, leaves_a_core
from nightlab.sandbox.bubblewrap import Sandbox, SandboxSpec, search_path
from nightlab.sandbox.detect import find_sandbox
from nightlab.sandbox.proxied import INNER_PROXY, proxied, stand_in
from nightlab.storage.checkpoints import CheckpointStore, FileStore

GUEST = Path(__file__).resolve().parents[2] / "guest"
WITH_START = os.pathsep.join([str(GUEST / "warm"), str(GUEST)])  # with the module that runs at Python's start
PASSED = ("LANG", "LC_ALL", "TZ", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH")
COPY = {"candidate": "work", "evaluator": "trusted", "check": "checked"}  # the copy of the lab of each role
HELD_OUT = ("upkeep", "confirm", "transfer")  # purposes outside the search's decisions, which may see held-out data


@dataclass
class Layout:
    """Prepares the folders of a session's trials."""

    lab: LabConfig
    budget: BudgetConfig
    device: str
    sandbox: Sandbox
    caches: Caches
    copies: Copies

    @cached_property
    def environment(self) -> Environment:
        repo = self.copies.repo
        return find_environment(repo.lab, repo.top, self.lab.command or "")

    def lay_out(
        self,
        trial: Trial,
        slot: Slot,
        folder: Path,
        cgroup: Cgroup | None,
        onto: str | None = None,
        *,
        cached: bool = False,
    ) -> dict[str, Any]:
        """Create a trial's copies of the lab (``onto``: update those of another commit) and return its spec.

        ``cached``: the copies have their compile caches. What stands by since before there was a cache has none.
        """
        lab, evaluator = self.lab, self.lab.evaluator
        # Separate copies, so that a candidate's changes can't affect the evaluator or the checks.
        names = {"work": lab.data.open}
        names |= {"trusted": lab.data.everything} if evaluator else {}
        names |= {"checked": lab.data.open} if lab.checks else {}
        copies = self.copies.make(trial.commit, folder, names, onto)
        starts = self._starts(trial, slot, folder, copies, cached)
        budget = self.budget
        return {
            "ahead": None,
            "spare_core": (spare := leaves_a_core(slot, self.device, budget.clock, lab.resources.cpus)),
            "yields": spare and not lab.compares_times,
            "command": self._argv(lab.command) if lab.command else None,
            "evaluator": self._evaluator() if evaluator else None,
            "gateways": list(evaluator.gateway.values()) if evaluator else [],
            "keys": {stand_in(name): name for name in evaluator.keys} if evaluator else {},
            "served": bool(evaluator and evaluator.served),
            "answering": len(answering(lab)),
            "answer": {"file": lab.warm_start.file, "most": lab.warm_start.most} if lab.warm_start else None,
            "answer_waits": self._waits(lab.warm) if self._can_wait(lab.command) else None,
            "checks": [self._argv(check.command) for check in lab.checks] if trial.purpose == "search" else [],
            "starts": starts,
            "copies": {role: str(copies.folders[name]) for role, name in COPY.items() if name in names},
            "places": {role: copies.held(name) for role, name in COPY.items() if name in names},
            "ids": copies.ids,
            "frozen": copies.frozen,
            "env": {**self._environment(trial, folder), **slot.environment()},
            **self._checkpoints(trial, folder.parent),
            "slot": asdict(slot),
            "clock": trial.budget.clock,
            "amount": trial.budget.amount,
            "limit": _limit(trial),
            "free": trial.free,
            "timed": bool(evaluator and evaluator.timed),
            "startup": budget.startup,
            "evaluation": budget.evaluation,
            "wall_limit": _longest(budget, trial.budget),
            "disk_mb": megabytes(lab.resources.disk),
            "cgroup": str(cgroup.folder) if cgroup else None,
            "memory_mb": megabytes(lab.resources.memory) if lab.resources.memory else None,
            "processes": lab.resources.processes,
            "log_bytes": int(megabytes(lab.resources.log) * 2**20),
        }

    def _starts(
        self, trial: Trial, slot: Slot, folder: Path, copies: TrialCopies, cached: bool
    ) -> dict[str, dict[str, Any]]:
        """How each role's process is started."""
        lab, evaluator = self.lab, self.lab.evaluator
        compiled = self._compiled(compiled_folder(folder, "candidate"), fresh=not cached)
        start = partial(self._start, slot, folder, copies)
        answer = self._warm_start(trial, folder.parent)
        starts = {"candidate": start("work", lab.data.open, writable=True, cache=compiled, answer=answer)}
        starts["candidate"]["env"] |= {"NIGHTLAB_WARM_START": str(answer)} if answer else {}
        if evaluator:
            left = not evaluator.served and bool(lab.command)
            proxy = folder / PROXY if evaluator.gateway else None
            starts["evaluator"] = start("trusted", lab.data.everything, writable=False, artefacts=left, proxy=proxy)
            starts["evaluator"]["env"] |= {name: stand_in(name) for name in evaluator.keys}
            if evaluator.held_out and (trial.purpose in HELD_OUT or (trial.purpose, trial.experiment) == ("search", 0)):
                starts["evaluator"]["env"]["NIGHTLAB_HELD_OUT"] = "1"
            if trial.experiment:
                starts["evaluator"]["env"]["NIGHTLAB_BASELINE"] = json.dumps(trial.baseline or {})
            for role in answering(lab):
                own = self._compiled(compiled_folder(folder, role), fresh=not cached)
                starts[role] = start("trusted", lab.data.open, writable=False, cache=own, role=role)
        if lab.checks:
            starts["check"] = start("checked", lab.data.open, writable=True)
        return starts

    def _warm_start(self, trial: Trial, trials: Path) -> Path | None:
        """The answer that a trial starts from; None if from nothing. Raises NightlabError where it is not as it was."""
        if trial.warm_start is None:
            return None
        store, digest = self.answers(trials), trial.warm_start.answer
        if not store.sound(digest):
            raise NightlabError(
                f"{store.path(digest)}, the answer of experiment {trial.warm_start.number}, is missing or was changed",
                "restore it from a backup, or start a new session: nightlab run --tag NEW",
            )
        return store.path(digest)

    def answers(self, trials: Path) -> FileStore:
        """The answers that later trials start from, of the session that has its trials in this folder."""
        return FileStore(trials / "answers")

    def _checkpoints(self, trial: Trial, trials: Path) -> dict[str, Any]:
        """The checkpoint that a member of a population goes on from, and the most bytes that it may hand over."""
        part = trial.segment
        if part is None:
            return {"checkpoint": None, "save": 0}
        store = self.checkpoints(trials, part.population)
        return {
            "checkpoint": str(store.path(part.checkpoint)) if part.checkpoint else None,
            "save": 0 if part.last else store.most,
        }

    def checkpoints(self, trials: Path, population: int) -> CheckpointStore:
        """The checkpoints of one population of the session that has its trials in this folder."""
        most = self.lab.population.checkpoint_bytes if self.lab.population else 0
        return CheckpointStore(trials / "checkpoints" / str(population), most)

    def _compiled(self, to: Path, *, fresh: bool) -> Path | None:
        """A process's folder for compiler caches, filled if ``fresh``; None where there is none."""
        if fresh and self.caches.limit:
            self.caches.give(to)
        return to if self.caches.limit else None

    def ahead(self) -> dict[str, dict[str, str]]:
        """Extra environment for processes started in advance, by role; empty if they can't be."""
        lab, evaluator = self.lab, self.lab.evaluator
        roles = {"candidate": (lab.command, lab.warm)}
        if evaluator and evaluator.served:
            roles["evaluator"] = (evaluator.command, evaluator.warm)
        # Trials with and without a head start would not compare.
        compared = {"startup_seconds", "wall_seconds"} & lab.limits.keys()
        wait = all(self._can_wait(command) for command, _ in roles.values())
        if not (wait and self.sandbox.movable) or compared:
            return {}
        return {role: self._waits(warm) for role, (_, warm) in roles.items()}

    def _can_wait(self, command: str | None) -> bool:
        """Whether a process of this command can import ahead and wait: other programs than Python would not."""
        return bool(self.lab.warm and command and re.fullmatch(r"python[\d.]*", self._argv(command)[0]))

    def _argv(self, command: str) -> list[str]:
        return self.environment.argv(shlex.split(command))

    def _evaluator(self) -> list[str]:
        assert self.lab.evaluator
        argv, gateway = self._argv(self.lab.evaluator.command), self.lab.evaluator.gateway
        return proxied(argv, gateway=gateway) if gateway else argv

    def _waits(self, warm: tuple[str, ...]) -> dict[str, str]:
        """The extra environment of a process that imports ahead and waits."""
        return {"NIGHTLAB_WARM": ",".join(("nightlab_guest", *warm)), "PYTHONPATH": self._imports(WITH_START)}

    def _start(
        self,
        slot: Slot,
        folder: Path,
        copies: TrialCopies,
        name: str,
        data: tuple[str, ...],
        *,
        writable: bool,
        artefacts: bool = False,
        cache: Path | None = None,
        role: str = "",
        proxy: Path | None = None,
        answer: Path | None = None,
    ) -> dict[str, Any]:
        """How the sandbox starts a process in a copy of the lab, with a private home that contains only the data.

        ``artefacts``: of one that reads what the candidate left. ``role``: of one that shares no folder that it may
        write with others. ``proxy``: the socket of the proxy to its gateways. ``answer``: the file that it starts from.
        """
        shown = [*([INNER_PROXY] if proxy else []), *([answer] if answer else [])]
        place = SandboxSpec(
            copies.folders[name],
            writable,
            copies.frozen_entries(name, self.lab.genome) if writable else (),
            folder / f"home-{role or name}",
            folder / f"tmp{role}",
            tuple(entry for entry in data if not is_relative(entry)),
            scratch_mb=int(megabytes(self.lab.resources.disk)),
            device=self.device,
            artefacts=copies.folders["work"] if artefacts else None,
            gpu_node=slot.gpu_node,
            cache=cache,
            proxy_socket=proxy,
            readable=(*self.environment.readable, *copies.data.linked(data), *shown),
            layers=copies.mounts(name, data),
            artefact_layers=copies.mounts("work") if artefacts else (),
        )
        begin = self.sandbox.start(place)
        return {"prefix": begin.prefix, "cwd": begin.cwd, "env": begin.env}  # asdict would copy hundreds of words

    def _imports(self, ours: str) -> str:
        """PYTHONPATH: the lab's packages that are installed in place come out of the trial's copy, where it starts."""
        return os.pathsep.join([ours, *self.environment.own])

    def _environment(self, trial: Trial, folder: Path) -> dict[str, str]:
        names = (*PASSED, *self.lab.environment)
        env = {name: os.environ[name] for name in names if name in os.environ}
        seeded = {"PYTHONPATH": self._imports(WITH_START), "NIGHTLAB_SEEDED": "1"} if self.lab.seed == "python" else {}
        places = [*self.environment.path, search_path(os.pathsep.join(["/usr/local/bin", "/usr/bin", "/bin"]))]
        budget, part, span = trial.budget.amount, trial.segment, {}
        if part:  # its program is told of the whole budget, and which part of that is its own
            budget = self.budget.amount
            span = {"NIGHTLAB_BEGIN": f"{(part.part - 1) / part.parts}", "NIGHTLAB_END": f"{part.part / part.parts}"}
        return {
            "LANG": "C.UTF-8",
            **env,
            "PATH": os.pathsep.join(places),
            "PYTHONPATH": self._imports(str(GUEST)),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",  # a copy must contain only the commit's files
            "PYTHONHASHSEED": "0",
            "NIGHTLAB_SEED": str(trial.given_seed),
            "NIGHTLAB_CLOCK": trial.budget.clock,
            "NIGHTLAB_BUDGET": f"{budget:g}" if trial.budget.clock != "work" else str(int(budget)),
            **span,
            "NIGHTLAB_DEVICE": self.device,
            MARK: str(folder),
            **seeded,
        }


def compile_guest() -> None:
    """Compile the modules that run beside candidates: in the sandbox, where they are read-only, each trial would.

    Also where PYTHONDONTWRITEBYTECODE is set, as in many containers: that is about what an import leaves behind.
    """
    for source in GUEST.rglob("*.py"):
        compiled = Path(cache_from_source(str(source)))
        with contextlib.suppress(OSError):  # another user's installation
            if not compiled.exists() or compiled.stat().st_mtime < source.stat().st_mtime:
                py_compile.compile(str(source))


def answering(lab: LabConfig) -> list[str]:
    """The roles of the clean processes that answer for the candidate."""
    return [f"answer{number}" for number in range(lab.evaluator.processes)] if lab.evaluator else []


def _limit(trial: Trial) -> float:
    """Seconds of training after which a trial is over its budget."""
    more = grace(trial.budget, trial.free)
    return overrun(trial.budget.amount) if more is None else trial.budget.amount + more


def _longest(usual: BudgetConfig, budget: Budget) -> float:
    """Wall-clock limit for training, in seconds: the contract's, scaled up for a larger budget."""
    same = usual.clock == budget.clock
    part = usual if same else BudgetConfig(clock=budget.clock, amount=budget.amount)
    return part.longest() * (max(budget.amount / usual.amount, 1) if same else 1)


def detect_sandbox() -> Sandbox:
    """The sandbox for this machine, in which processes can read the interpreter and the guest modules."""
    return find_sandbox({Path(sys.prefix), Path(sys.base_prefix), GUEST})
