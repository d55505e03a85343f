"""The human's own commands around experiments, as the contract's ``[hooks]`` name them. Trusted, like ``prepare``.

Each is told of an experiment as JSON on its standard input, and has ``LIMIT`` seconds. The loop goes on meanwhile: only
what would start next waits for ``before``. None can end a session: one that fails is noted, and that is all.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.markup import escape

from nightlab.core.events import HookAfter, HookBefore
from nightlab.core.text import one_line, plain
from nightlab.core.types import Experiment
from nightlab.loop.scheduler import Scheduler
from nightlab.sandbox.bubblewrap import search_path
from nightlab.sandbox.process_guard import ProcessResult, ProcessSpec, read_result, start_guard

LIMIT = 60.0  # seconds that a command may take
BACKLOG = 20  # judged experiments that ``after`` catches up with; those before them go without
MOST_OUTPUT, TOLD = 2**20, 2000  # bytes that a command may print; characters that are kept of it
ANY_SIZE = 2**50  # bytes: it is the human's own disk


@dataclass(slots=True)
class RunningHook:
    """A command under way, for one experiment."""

    experiment: Experiment
    guard: subprocess.Popen[bytes]


class Hooks:
    """Runs a session's hooks, at most one of each kind at a time."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler, self.session, self.ledger = scheduler, scheduler.session, scheduler.ledger
        self.part, self.folder = self.session.lab.hooks, self.session.folder / "hooks"
        self.running: dict[str, RunningHook] = {}
        self._begun: set[int] = set()  # experiments of which ``before`` has run
        self._last = 0.0  # when the experiment was judged for which ``after`` ran last
        self._due: list[Experiment] = []
        if past := self.ledger.latest(HookAfter):
            self._last = past.judged_at or 0.0
        self.judged()

    def needs_before(self, experiment: Experiment) -> bool:
        """Whether the hook ``before`` has to run before the first trial of an experiment."""
        number = experiment.number
        return bool(self.part.before) and number not in self._begun and not self.ledger.trials(number)

    @property
    def before_running(self) -> bool:
        """Whether a hook ``before`` runs."""
        return "before" in self.running

    def run_before(self, experiment: Experiment) -> None:
        """Start the hook ``before`` of an experiment."""
        if self.part.before:
            self._start("before", self.part.before, experiment)

    def judged(self) -> None:
        """There is a verdict: what comes after is due. Read from the ledger, so that a kill loses none."""
        if self.part.after:
            self._due = [e for e in self.ledger.judged(last=BACKLOG) if (e.judged_at or 0.0) > self._last]

    def poll(self) -> None:
        """Write down what has ended, and start what is due."""
        for when, running in list(self.running.items()):
            if running.guard.poll() is not None:
                del self.running[when]
                with running.guard:
                    self._ended(when, running.experiment, read_result(running.guard))
        if self._due and self.part.after and "after" not in self.running and not self.scheduler.asked_to_stop:
            experiment = self._due.pop(0)
            self._last = experiment.judged_at or 0.0
            self._start("after", self.part.after, experiment)

    @property
    def busy(self) -> bool:
        """Whether a session that ends should wait a little."""
        return bool(self.running or (self._due and not self.scheduler.asked_to_stop))

    def stop(self) -> None:
        """End what runs; it runs again next time."""
        for running in self.running.values():
            assert running.guard.stdin is not None
            with running.guard:
                running.guard.stdin.close()
        self.running.clear()

    def _start(self, when: Literal["before", "after"], command: str, experiment: Experiment) -> None:
        told = {"session": self.session.tag, "hook": when, **experiment.to_dict()}
        path = search_path(os.environ.get("PATH", os.defpath))
        spec = ProcessSpec(
            argv=shlex.split(command),
            cwd=str(self.session.repo.lab),
            env={**os.environ, "PATH": path},
            stdin=str(self.folder / f"{when}.json"),
            output=str(self.folder / f"{when}.log"),
            folder=str(self.folder),
            wall=LIMIT,
            idle=LIMIT,
            most_output=MOST_OUTPUT,
            most_disk=ANY_SIZE,
        )
        try:
            self.folder.mkdir(exist_ok=True)
            Path(spec.output).unlink(missing_ok=True)
            Path(spec.stdin).write_text(json.dumps(told), encoding="utf-8")
            self.running[when] = RunningHook(experiment, start_guard(spec))
        except OSError as error:
            self._ended(when, experiment, ProcessResult("unstartable", 0, 0.0, tree_ended=True, detail=str(error)))

    def _ended(self, when: str, experiment: Experiment, kept: ProcessResult) -> None:
        number, said = experiment.number, self._printed(when)
        faults = {"exited": f"it ended with exit status {kept.status}", "unstartable": kept.detail}
        faults |= dict.fromkeys(("wall", "idle"), f"it took longer than {LIMIT:g} s")
        failed = kept.end != "exited" or kept.status
        why = faults.get(kept.end, f"it was ended: {kept.end}") if failed else ""
        if why:
            self.scheduler.view.say(
                f"  [bold yellow]hook {when} #{number} failed:[/] {escape(f'{why}. {one_line(said)}')}"
            )
        if when == "before":
            self._begun.add(number)
        if why or when == "after":
            kind = HookBefore if when == "before" else HookAfter
            self.ledger.append(kind(number, experiment.judged_at, why, "" if why else said))

    def _printed(self, when: str) -> str:
        try:
            with (self.folder / f"{when}.log").open("rb") as log:
                return plain(log.read(MOST_OUTPUT), TOLD).strip()
        except OSError:
            return ""
