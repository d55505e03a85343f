"""What is measured, and where: the metric, the budget, the platform; and the error that a user can fix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

OMIT = {"omit": True}
"""Metadata of a field that is left out of the JSON of the ledger where it has its default, as in older ledgers."""
REPORTED = "reported"  # the reason of a verdict that an imported log claims, and what came of its trial

Goal = Literal["minimise", "maximise"]
Clock = Literal["wall", "cpu", "work"]
Scale = Literal["difference", "ratio"]
"""How two values of a metric are compared: by their difference, or by their ratio (on logarithms)."""


class NightlabError(Exception):
    """Something the user can fix. ``str(error)`` names the thing and the cause, ``hint`` what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Metric:
    """What is measured, and which way is better."""

    name: str
    goal: Goal = "minimise"
    unit: str = ""

    def better(self, a: float, b: float) -> bool:
        """Whether ``a`` is strictly better than ``b``."""
        return a < b if self.goal == "minimise" else a > b

    def gain(self, before: float, after: float) -> float:
        """How much better ``after`` is than ``before``; negative when it is worse."""
        return before - after if self.goal == "minimise" else after - before

    def worsened(self, value: float, by: float) -> float:
        """``value``, made worse by an amount."""
        return value + by if self.goal == "minimise" else value - by


@dataclass(frozen=True, slots=True)
class Budget:
    """How much training one trial may do: seconds of wall or CPU clock, or units of work."""

    clock: Clock
    amount: float

    def __str__(self) -> str:
        if self.clock == "work":
            return f"{self.amount:,.0f} units of work"
        return f"{self.amount:g} s of {'CPU' if self.clock == 'cpu' else 'wall-clock'} time"


@dataclass(frozen=True, slots=True)
class Platform:
    """Hardware and software within which numbers compare."""

    device: str
    accelerator: str
    processor: str
    cores: int
    system: str
    python: str

    def __str__(self) -> str:
        return f"{self.accelerator or self.processor}, {self.cores} cores, {self.system}, {self.python}"
