"""The budget's clock, outside the candidate: when each phase of a trial began, and what it may take."""

from __future__ import annotations

import time
from typing import Any

from nightlab.engines.local.outcome import TrialEnded
from nightlab.engines.local.process_group import ProcessGroup

GRACE = 1.1  # a budget may be overrun by 10 % and a second: the step in flight, not a longer training


class Clock:
    """A trial's times, in seconds: of the supervisor's monotonic clock, and of the CPU time of ``children``.

    It runs from when it is made. ``spec`` is the trial's, with its allowances.
    """

    def __init__(self, spec: dict[str, Any], children: ProcessGroup) -> None:
        self.spec, self.children = spec, children
        self.begun = time.monotonic()
        self.started: float | None = None
        self.started_cpu = 0.0
        self.handed_over: float | None = None
        self.handed_over_cpu = 0.0
        self.evaluated: float | None = None

    def start(self) -> None:
        """Training begins."""
        self.started, self.started_cpu = time.monotonic(), self.children.cpu()

    def hand_over(self, *, ended: bool = False) -> None:
        """Training is over. ``ended``: so is the candidate's process."""
        self.handed_over = time.monotonic()
        self.handed_over_cpu = self.children.ended_cpu if ended else self.children.cpu()

    def spent(self) -> float:
        """Seconds of training so far, on the budget's clock."""
        if self.started is None:
            return 0.0
        if self.spec["clock"] == "cpu":
            return (self.handed_over_cpu if self.handed_over else self.children.cpu()) - self.started_cpu
        return (self.handed_over or time.monotonic()) - self.started

    def hold_to_budget(self) -> None:
        """End a trial whose start or training has taken more than it may."""
        spec, now = self.spec, time.monotonic()
        if self.started is None:
            if spec["served"] and now - self.begun > spec["startup"]:
                raise TrialEnded("timed out", f"training had not started after {spec['startup']:g} s")
            # A command that gives no signals has its start, its training and its evaluation in one.
            limit = spec["startup"] + spec["wall_limit"] + spec["evaluation"]
            if now - self.begun > limit:
                raise TrialEnded("timed out", f"it had not ended after {limit:g} s")
            return
        if now - self.started > spec["wall_limit"]:
            raise TrialEnded("timed out", f"training took more than {spec['wall_limit']:g} s of wall-clock time")
        if spec["clock"] != "work" and self.spent() > spec["amount"] * GRACE + 1:
            raise TrialEnded("over budget", f"{self.spent():.1f} s of training, the budget is {spec['amount']:g} s")

    def figures(self) -> dict[str, float]:
        """What a trial that ends now took, by its phases."""
        now, over = time.monotonic(), self.handed_over
        trained = self.spent() if self.started is not None else (over or now) - self.begun
        return {
            "training_seconds": round(trained, 3),
            "startup_seconds": round((self.started or self.begun) - self.begun, 3),
            "evaluation_seconds": round((self.evaluated or now) - over, 3) if over else 0.0,
            "wall_seconds": round(now - self.begun, 3),
            "cpu_seconds": round(self.children.ended_cpu, 3),
        }
