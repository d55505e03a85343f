"""What a trial may use, and what a candidate may carry."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from nightlab.core.config.units import megabytes
from nightlab.core.config_model import ConfigModel, fault
from nightlab.core.types import Budget, Clock

DEVICES = ("cuda", "mps", "cpu")
UNLIMITED = "unlimited"
GRACE = 1.1  # the baseline may overrun its budget by 10 % and a second: it shows how precisely others can stop


def overrun(amount: float) -> float:
    """Seconds of training after which the baseline's trial with a budget of ``amount`` seconds is over it."""
    return amount * GRACE + 1


class BudgetConfig(ConfigModel):
    """How much training a trial may do, and the allowances around it. All times in seconds."""

    clock: Clock = "wall"
    amount: float = Field(default=300, gt=0)
    startup: float = Field(default=120, gt=0)
    evaluation: float = Field(default=300, gt=0)
    wall_limit: float | None = Field(default=None, gt=0)
    """The most wall-clock time that training may take, whatever the clock; by default from the amount."""

    def record(self) -> Budget:
        return Budget(self.clock, self.amount)

    def limit(self) -> str:
        """When a trial is ended as over budget, in words."""
        if self.clock == "work":
            return f"a trial is ended after {self.longest():g} s of wall-clock time"
        return (
            f"the baseline may train for {overrun(self.amount):g} s, counted from its start signal, or from its launch "
            f"if none comes within {self.startup:g} s; other trials are held to what the baseline needed"
        )

    def longest(self) -> float:
        """Seconds of wall-clock time after which training has failed. A CPU clock waits for neighbours."""
        return self.wall_limit or {"wall": overrun(self.amount), "cpu": self.amount * 8 + 60}.get(self.clock, 3600)


class Budgets(BudgetConfig):
    """The budget, with what differs on one kind of device in a separate table."""

    cuda: dict[str, Any] = Field(default_factory=dict)
    mps: dict[str, Any] = Field(default_factory=dict)
    cpu: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _each_device(self) -> Budgets:
        for device in DEVICES:
            try:
                self.on(device)
            except ValidationError as error:
                raise ValueError(f"{device}.{fault(error.errors()[0], BudgetConfig)}") from None
        return self

    def on(self, device: str) -> BudgetConfig:
        """The budget on ``device``: ``cuda``, ``mps`` or ``cpu``."""
        common = self.model_dump(exclude=set(DEVICES))
        return BudgetConfig(**{**common, **getattr(self, device)})


class ResourcesConfig(ConfigModel):
    """What one trial may use."""

    cpus: int | None = Field(default=None, gt=0)
    """Cores that a trial on a CPU needs; by default all, or with several slots an equal part."""
    memory: str | None = None
    disk: str = "4GB"
    """Most that it may write: of its folder, of one file, and of each temporary folder."""
    processes: int = Field(default=512, gt=0)
    log: str = "2MB"
    compiled: str = "1GB"
    """Most that compilers may keep of what the baseline made them compile, for the others to start from."""

    @field_validator("memory", "disk", "log", "compiled")
    @classmethod
    def _size(cls, value: str | None) -> str | None:
        if value is not None:
            megabytes(value)
        return value


class InformationConfig(ConfigModel):
    """How much a candidate may carry beyond the baseline: a genome is a program, not data."""

    growth: str = "8KB"
    """Compressed bytes that are not in the baseline's genome, or as many as that has; ``"unlimited"``: no limit."""
    literals: Literal["text", "any"] = "text"
    """``text``: long literals have to look like text, and tables have at most 512 values."""

    @field_validator("growth")
    @classmethod
    def _size(cls, value: str) -> str:
        if value != UNLIMITED:
            megabytes(value)
        return value

    @property
    def growth_bytes(self) -> int | None:
        return None if self.growth == UNLIMITED else int(megabytes(self.growth) * 2**20)
