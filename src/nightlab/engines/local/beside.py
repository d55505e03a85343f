"""Measures what a trial computes beside its training: before its start signal, and while it answers."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from nightlab.core.overhead import Answers, Excess, beyond, charged, clock_beside, figures
from nightlab.engines.local.process_group import ProcessGroup
from nightlab.engines.local.trial_folder import compiled_folder


class Beside:
    """Of the trial in ``folder``, on its budget's clock; for a budget of work on the one that its device keeps busy."""

    def __init__(self, spec: dict[str, Any], children: ProcessGroup, folder: Path) -> None:
        self.spec, self.children, self.folder = spec, children, folder
        self.clock = clock_beside(spec["clock"], spec["env"]["NIGHTLAB_DEVICE"])
        self.begun, self.begun_cpu, self.ahead = time.monotonic(), 0.0, False
        self.start: tuple[str, float] | None = None
        self.answers: dict[str, Answers] = {}
        self._answering: tuple[str, float] | None = None  # the process whose turn it is, and since when
        self._compiled: dict[str, int] = {}
        self._importing: set[str] = set()  # roles of processes that were started ahead and none of whose code runs yet

    def begin(self, *, ahead: bool) -> None:
        """The candidate's program begins. ``ahead``: its imports were made before."""
        self.ahead, self.begun, self.begun_cpu = ahead, time.monotonic(), self.children.cpu() if ahead else 0.0
        self._importing |= {"candidate"} if ahead else set()
        self._compiled["candidate"] = self._compilers_files("candidate")

    def move(self, folder: Path, spec: dict[str, Any]) -> None:
        """Go on in a renamed folder, for a program that began before its trial."""
        self.folder, self.spec = folder, spec

    def imported(self, role: str) -> None:
        """A process that was started ahead has made its imports: what it did before is no work of its program."""
        self._importing.discard(role)
        if role == "candidate" and self.start is None:
            self.begun, self.begun_cpu = time.monotonic(), self.children.cpu()
        elif self._answering and self._answering[0] == role:
            self._answering = role, self._now()

    def started(self) -> None:
        """The start signal came."""
        self.start = self._starting()

    def turn(self, role: str, *, importing: bool = False) -> None:
        """From now on this process computes, and no other. ``importing``: once it has ``imported``."""
        self.end()
        self._importing |= {role} if importing else set()
        self.answers[role] = Answers()
        self._answering = role, self._now()
        self._compiled[role] = self._compilers_files(role)

    def answered(self, role: str, count: int) -> None:
        """A process has given ``count`` more answers."""
        process = self.answers.setdefault(role, Answers())
        if process.load is None and self._answering and self._answering[0] == role:
            process.load = self._now() - self._answering[1]
            process.kind = self._kind("load", role)
        process.given += count

    def end(self) -> None:
        """The process whose turn it was does no more that counts."""
        if self._answering:
            role, since = self._answering
            self.answers[role].used, self._answering = self._now() - since, None
            if self.spec["timed"] and self.answers[role].load is not None:  # the time of its answers is the metric
                self.answers[role].used, self.answers[role].given = self.answers[role].load or 0.0, 0

    def beyond(self, *, starting: bool = False) -> list[Excess]:
        """Where it took more than the baseline needs, so far. ``starting``: the start signal may still come."""
        start = self._starting() if starting else self.start
        under_way = []
        role = self._answering[0] if self._answering else ""
        if self._answering and self.answers[role].load is None and role not in self._importing:
            under_way = [Answers(used=self._now() - self._answering[1])]  # its answers are counted at their end
        ended = [process for process in self.answers.values() if process.used]
        return beyond(self.spec["free"], start, [*ended, *under_way])

    def figures(self) -> dict[str, float] | None:
        """What is recorded of a trial that has ended; None if there is nothing."""
        self.end()
        found = figures(self.start, self.answers.values())
        taken = round(charged(self.beyond(), self.clock), 3)
        return {**found, **({"charged": taken} if taken else {})} or None

    def _starting(self) -> tuple[str, float]:
        used = self.children.cpu() - self.begun_cpu if self.clock == "cpu" else time.monotonic() - self.begun
        used = 0.0 if "candidate" in self._importing else used
        return self._kind("start ahead" if self.ahead else "start", "candidate"), used

    def _now(self) -> float:
        waiting = [role for role in self.children.answering() if role not in self.answers]
        return self.children.cpu_of_all(waiting) if self.clock == "cpu" else time.monotonic()

    def _kind(self, phase: str, role: str) -> str:
        return f"{phase} compiled" if self._compilers_files(role) > self._compiled.get(role, 0) else phase

    def _compilers_files(self, role: str) -> int:
        """How many files a process has in its compilers' cache."""
        return sum(len(names) for _, _, names in os.walk(compiled_folder(self.folder, role)))
