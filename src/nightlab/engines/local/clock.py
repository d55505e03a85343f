"""The budget's clock, outside the candidate: when each phase of a trial began, and its time limit."""

from __future__ import annotations

import time
from typing import Any

from nightlab.core.overhead import Excess, charged
from nightlab.engines.local.beside import Beside
from nightlab.engines.local.outcome import TrialEnded
from nightlab.engines.local.process_group import ProcessGroup


class Clock:
    """A trial's times in seconds, on the supervisor's monotonic clock and as CPU time of ``children``.

    It starts when created. ``spec``: the trial's spec, with its limits; ``beside``: what is done beside training;
    ``held``: seconds for which its program has run by then.
    """

    def __init__(self, spec: dict[str, Any], children: ProcessGroup, beside: Beside, held: float = 0.0) -> None:
        self.spec, self.children, self.beside, self.held = spec, children, beside, held
        self.begun = time.monotonic()
        self.started: float | None = None
        self.started_cpu = 0.0
        self.handed_over: float | None = None
        self.handed_over_cpu = 0.0
        self.evaluated: float | None = None
        self.ended = self.begun
        self.trained = self.used = 0.0

    def start(self) -> None:
        """Training begins."""
        self.started, self.started_cpu = time.monotonic(), self.children.cpu()
        self.beside.started()

    def start_held(self, cpu: float) -> None:
        """Training begins of a program that gave its signal before, at ``cpu`` seconds: what it used since counts."""
        self.started, self.started_cpu = time.monotonic(), cpu

    def hand_over(self) -> None:
        """Training is over."""
        self.handed_over, self.handed_over_cpu = time.monotonic(), self.children.cpu()

    def end(self) -> None:
        """The trial ends. To be called before its processes are killed: who was killed can't be told apart."""
        self.trained, self.used = self.spent(), self.children.cpu_of_all()
        self.ended = time.monotonic()

    def spent(self) -> float:
        """Seconds of training so far, on the budget's clock: from the start signal, or from the launch without one."""
        if self.spec["clock"] == "cpu":
            return (self.handed_over_cpu if self.handed_over else self.children.cpu()) - self.started_cpu
        return (self.handed_over or time.monotonic()) - (self.begun if self.started is None else self.started)

    def hold_to_budget(self) -> None:
        """Raise TrialEnded if startup or training has exceeded its limit, with what counts as training.

        Without a start signal the budget runs from the launch. A program may still give the signal within the startup
        allowance, unless the baseline ran to its end without one.
        """
        spec, now = self.spec, time.monotonic()
        begun = self.started
        if begun is None:
            says = spec["free"] is None or bool(spec["free"].get("signals"))
            if says and now - self.begun + self.held <= spec["startup"] and self.handed_over is None:
                self._hold_beside(self.beside.beyond(starting=True), 0.0)
                return
            if spec["served"] and self.handed_over is None:
                raise TrialEnded("timed out", f"training had not started after {spec['startup']:g} s")
            begun = self.begun
        if spec["clock"] != "work" and self.spent() > spec["limit"]:
            since = "" if self.started is not None else " from its launch (it gave no start signal)"
            words = f"{self.spent():.1f} s of training{since}, the budget is {spec['amount']:g} s"
            raise TrialEnded("over budget", words)
        if (self.handed_over or now) - begun > spec["wall_limit"]:
            raise TrialEnded("timed out", f"training took more than {spec['wall_limit']:g} s of wall-clock time")
        self._hold_beside(self.beside.beyond(), self.spent())

    def _hold_beside(self, excess: list[Excess], spent: float) -> None:
        """Raise TrialEnded where what was done beside training makes that too long; any is, for a budget of work."""
        spec, more = self.spec, charged(excess, self.beside.clock)
        where = "; ".join(map(str, excess))
        if more and spec["clock"] == "work":
            raise TrialEnded("over budget", f"{more:.1f} s beside its training count as training: {where}")
        if more and spent + more > spec["limit"]:
            words = f"{spent:.1f} s of training, and {more:.1f} s beside it that count as training ({where})"
            raise TrialEnded("over budget", f"{words}; the budget is {spec['amount']:g} s")

    def figures(self) -> dict[str, float]:
        """The duration of each phase, for a trial that has ended."""
        over = self.handed_over
        return {
            "training_seconds": round(self.trained, 3),
            "startup_seconds": round((self.started or self.begun) - self.begun, 3),
            "evaluation_seconds": round((self.evaluated or self.ended) - over, 3) if over else 0.0,
            "wall_seconds": round(self.ended - self.begun, 3),
            "cpu_seconds": round(max(self.children.ended_cpu, self.used), 3),
        }
