"""A lab's whole contract, part by part: what ``lab.toml`` may say."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from nightlab.core.config.base import RECORDED, Command, Marker, Module, plugin_name
from nightlab.core.config.limits import Budgets, InformationConfig, ResourcesConfig
from nightlab.core.config.proposers import (
    RESERVED,
    GatewayConfig,
    PatchesConfig,
    PluginProposerConfig,
    Proposer,
    ThinkerConfig,
    TunerConfig,
)
from nightlab.core.config.units import allowed, megabytes
from nightlab.core.config.warm_start import WarmStartConfig, unfair_start
from nightlab.core.config_model import ConfigModel
from nightlab.core.text import METRIC_NAME
from nightlab.core.types import Goal, Metric

TIMES = {"s", "ms", "µs", "us", "ns", "sec", "seconds", "milliseconds", "microseconds", "nanoseconds"}
Event = Literal["keep", "stall", "stop", "trouble"]
Name = Annotated[str, Field(pattern=rf"^{METRIC_NAME}$")]
Protection = Literal["files", "network", "processes", "privileges"]


class MetricConfig(ConfigModel):
    """The number that is being improved."""

    name: Name
    goal: Goal = "minimise"
    unit: str = ""
    scale: Literal["auto", "difference", "ratio"] = "auto"
    """How two values are compared: a time or an error by ``ratio``, a score by ``difference``; auto: as is found."""
    lowest: float = -math.inf
    highest: float = math.inf
    """Values beyond these are impossible: a candidate that measures one has tampered."""
    timed: bool | None = None
    """True: it is a time. False: it does not depend on how fast the machine is. By default it is a time if its unit, or
    its name, or the evaluator says so."""
    precision: float = Field(default=0.04, gt=0, lt=1)
    """Of a time: standard error of its ratio to the champion's at which no more rounds are needed before a keep."""

    def record(self) -> Metric:
        return Metric(self.name, self.goal, self.unit)


class EvaluatorConfig(GatewayConfig):
    """A trusted process that computes the metric and prints ``METRIC name=value``. Its gateway is its only network."""

    command: Command
    served: bool = False
    """True: it calls a function that the candidate serves. False: it runs after the candidate ended."""
    processes: int = Field(default=0, ge=0, le=8)
    """Of one that is served: clean processes that answer, one after another, from the arrays that training handed over.
    0: the process that trained answers, which may remember what it was asked."""
    held_out: bool = False
    """Whether, told NIGHTLAB_HELD_OUT=1, it also prints ``METRIC held_out=value`` on data that no search reads."""
    warm: tuple[Module, ...] = ()
    """Of one that is served: Python modules that it imports ahead."""
    timed: bool = False
    """True: what it measures is time, so nothing is started ahead while it works."""

    @model_validator(mode="after")
    def _fits(self) -> EvaluatorConfig:
        if self.processes and not self.served:
            raise ValueError("processes: only an evaluator with served = true calls processes")
        if self.gateway and self.served:
            raise ValueError("gateway: only an evaluator that runs after the candidate can have one (served = false)")
        return self

    @property
    def stand_in(self) -> str:
        """The genome file in whose place a sealed bridge puts a stand-in; empty for other evaluators."""
        words = shlex.split(self.command)
        bridged = any(word.startswith("nightlab_bridge.") for word in words)
        return words[-1] if self.served and bridged and "--sealed" in words else ""


class CheckConfig(ConfigModel):
    """A command that must succeed before a candidate may be kept."""

    command: Command


class DataConfig(ConfigModel):
    """Folders outside the lab. ``~`` is the user's home; a trial finds them at the same place in its own."""

    open: tuple[str, ...] = ()
    """For the candidate and the evaluator."""
    sealed: tuple[str, ...] = ()
    """For the evaluator alone."""

    @property
    def everything(self) -> tuple[str, ...]:
        """What the evaluator has."""
        return self.open + self.sealed


class SandboxConfig(ConfigModel):
    """What this lab can do without."""

    allow_missing: tuple[Protection, ...] = ()


class StopRules(ConfigModel):
    """When a session ends by itself. Without any of these it runs until it is stopped."""

    hours: float | None = Field(default=None, gt=0)
    experiments: int | None = Field(default=None, gt=0)
    stall: int | None = Field(default=None, gt=0)
    """Experiments in a row without a keep."""
    tokens: int | None = Field(default=None, gt=0)
    money: float | None = Field(default=None, gt=0)
    """US dollars; like the tokens, all that proposers' turns took, as counted or else as they said."""
    requests: int | None = Field(default=None, gt=0)
    """Requests of proposers to their endpoints."""
    gain_per_hour: float | None = Field(default=None, gt=0)
    """In the metric's unit: what an hour of a slot has to bring, or the session ends."""
    target: float | None = Field(default=None, allow_inf_nan=False)
    """A value of the metric: the session ends once the champion's bar is as good."""


class HooksConfig(ConfigModel):
    """Your own commands around each experiment, trusted, each told of it as JSON on its standard input."""

    before: Command | None = None
    after: Command | None = None
    """What it prints is told to the proposers."""


class NotifyConfig(ConfigModel):
    """Whom to tell that something happened, without the night waiting for it."""

    command: Command | None = None
    """Your own, trusted: told of it as JSON on its standard input."""
    desktop: bool = False
    webhook: str | None = Field(default=None, pattern=r"^https?://[^\s/]+")
    """Where a JSON object is posted to."""
    on: tuple[Event, ...] = ("keep", "stall", "stop", "trouble")
    stall: int = Field(default=25, gt=0)
    """After this number of experiments in a row without a keep."""


class JudgeConfig(ConfigModel):
    """How a candidate is judged, and how the session keeps an eye on its own luck."""

    rule: str = "shrunk"
    """``shrunk``, ``greedy``, ``strict``, ``replicate``, or a plug-in."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The keys of a rule that is a plug-in."""
    sigma: float | None = Field(default=None, ge=0)
    """What you believe the noise of one trial to be, until the session knows better."""
    alpha: float = Field(default=0.1, gt=0, lt=1)
    """Of ``strict``: the chance that a candidate that is no better is kept."""
    seeds: int = Field(default=3, ge=2, le=100)
    """Of ``replicate``: how many seeds every candidate has."""
    upkeep: int = Field(default=25, ge=0)
    """After this number of experiments the champion is measured again, as a self-test too; 0: never."""
    confirm: float = Field(default=0.1, ge=0, le=0.5)
    """Share of a session that is kept for confirming what it gained, at its end; 0: only when asked."""
    hopeless: float = Field(default=0, ge=0, lt=1)
    """Risk of giving up a winner, for ending trials early whose curve says that they can't win any more; 0: never."""

    @field_validator("rule")
    @classmethod
    def _rule_found(cls, value: str, info: ValidationInfo) -> str:
        return plugin_name("rule", value, info)


class SelectionConfig(ConfigModel):
    """Which genome a proposal starts from, and whether a short trial decides who gets a whole one."""

    strategy: str = "climb"
    """``climb``, ``evolution``, ``tree``, or a plug-in."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The keys of a strategy that is a plug-in."""
    pilot: float | None = Field(default=None, gt=0, lt=1)
    """The share of the budget that a pilot has; without one every candidate gets its whole trial at once."""
    eta: float = Field(default=3, gt=1)
    """At least one pilot of this number is promoted."""
    shares: Literal["fixed", "earned"] = "fixed"
    """Whether proposers have the shares that they are given, or those that their gains earn."""

    @field_validator("strategy")
    @classmethod
    def _strategy_found(cls, value: str, info: ValidationInfo) -> str:
        return plugin_name("selection", value, info)


class PopulationConfig(ConfigModel):
    """Says that training can go on from a checkpoint, so that ``nightlab pbt`` can train a population."""

    checkpoint: str = "64MB"
    """The most that a member may hand over to go on from."""

    @field_validator("checkpoint")
    @classmethod
    def _size(cls, value: str) -> str:
        megabytes(value)
        return value

    @property
    def checkpoint_bytes(self) -> int:
        return int(megabytes(self.checkpoint) * 2**20)


class CommonsConfig(ConfigModel):
    """Where findings are exchanged, and how much of a session goes into measuring those of others."""

    remote: str = ""
    """A git remote: a bare folder, an address for ssh, a forge. Without one only by name, or by bundles."""
    share: float = Field(default=0.2, gt=0, le=0.3)
    """Of a session's experiments, that measure what others found, at most."""
    verifications: bool = False
    """Whether ``nightlab sync`` publishes what was measured of others' findings."""
    known: tuple[Annotated[str, Field(pattern="^[0-9a-f]{64}$")], ...] = ()
    """Authors whom you know, by their keys: what they found and measured is believed until it fails here."""
    licences: tuple[str, ...] = ()
    """Licences that you have, e.g. of a solver: others' findings that need another one are not run."""


class GeneConfig(ConfigModel):
    """What a gene in WebAssembly finds here: one of another lab's that asks for more is not run."""

    domain: str | None = None
    """What it must do; without one anything will do."""
    memory: str = "5MB"
    fuel: int = Field(default=1_000_000, gt=0)
    """Instructions for each unit of its task."""
    functions: tuple[str, ...] = ()
    """Host functions that the evaluator gives it."""

    @field_validator("memory")
    @classmethod
    def _size(cls, value: str) -> str:
        megabytes(value)
        return value


FOLLOWED = ("commons", "notify", "stop")
"""Parts of a contract on which no measurement depends: a session takes them over where they change."""


class LabConfig(ConfigModel):
    """A contract."""

    name: str = Field(pattern=r"^[\w.-]+$")
    genome: tuple[str, ...] = Field(min_length=1)
    between: tuple[Marker, Marker] | None = None
    """Two markers, on comment lines: in a genome file that has them, only the lines between them may change."""
    command: Command | None = None
    prepare: Command | None = None
    warm: tuple[Module, ...] = ()
    """Python modules that are imported ahead of each trial, in a separate process: the slow ones."""
    seed: Literal["python"] | None = None
    """``python``: random, numpy and torch are seeded for Python programs that do not seed themselves."""
    metric: MetricConfig
    evaluator: EvaluatorConfig | None = None
    checks: tuple[CheckConfig, ...] = ()
    budget: Budgets = Budgets()
    limits: dict[str, str | float] = Field(default_factory=dict)
    objectives: dict[Name, Goal] = Field(default_factory=dict)
    """Other quantities that are to be small or large: shown as a front, they decide nothing."""
    resources: ResourcesConfig = ResourcesConfig()
    data: DataConfig = DataConfig()
    information: InformationConfig = InformationConfig()
    environment: tuple[str, ...] = ()
    """Names of variables that pass from the user's environment into a trial's."""
    proposers: tuple[Proposer, ...] = (PatchesConfig(kind="patches"), TunerConfig(kind="tuner", share=2))
    search: SelectionConfig = SelectionConfig()
    sandbox: SandboxConfig = SandboxConfig()
    judge: JudgeConfig = JudgeConfig()
    hooks: HooksConfig = HooksConfig()
    notify: NotifyConfig = NotifyConfig()
    population: PopulationConfig | None = None
    warm_start: WarmStartConfig | None = None
    commons: CommonsConfig | None = None
    gene: GeneConfig | None = None
    stop: StopRules = StopRules()

    @property
    def timed(self) -> bool:
        """Whether the metric is a time, as the contract says, or as its unit, its name or the evaluator does."""
        if self.metric.timed is not None:
            return self.metric.timed
        named = {self.metric.name, *self.metric.unit.split()[:1]} & TIMES
        return bool(named) or (self.evaluator is not None and self.evaluator.timed)

    @property
    def compares_times(self) -> bool:
        """Whether what works beside a trial's start or evaluation tells: on a metric that is a time, or on a limit."""
        return self.timed or bool({"startup_seconds", "evaluation_seconds", "wall_seconds"} & self.limits.keys())

    @classmethod
    def recorded(cls, facts: Mapping[str, Any], parts: Mapping[str, Any] | None = None) -> LabConfig:
        """The contract that a ledger holds, also where a plug-in that it names is not installed any more.

        ``parts``: those of ``FOLLOWED`` as they were taken over later.
        """
        if parts is not None:
            facts = {**{name: value for name, value in facts.items() if name not in FOLLOWED}, **parts}
        return cls.model_validate(facts, context=RECORDED)

    def measures_as(self, other: LabConfig) -> bool:
        """Whether two contracts differ at most in ``FOLLOWED``, on which no measurement depends."""

        def apart(one: LabConfig) -> LabConfig:
            return LabConfig.recorded(one.model_dump(mode="json", exclude_unset=True), {})

        return apart(self) == apart(other)

    @field_validator("objectives")
    @classmethod
    def _others(cls, value: dict[str, Goal], info: ValidationInfo) -> dict[str, Goal]:
        if (metric := info.data.get("metric")) and metric.name in value:
            raise ValueError(f"{metric.name} is the metric, whose direction is metric.goal")
        return value

    @field_validator("limits")
    @classmethod
    def _limits(cls, value: dict[str, str | float]) -> dict[str, str | float]:
        for name, limit in value.items():
            allowed(limit, 1.0, name)
        return value

    @field_validator("proposers")
    @classmethod
    def _told_apart(cls, value: tuple[Proposer, ...]) -> tuple[Proposer, ...]:
        names = [part.called for part in value if isinstance(part, ThinkerConfig | PluginProposerConfig)]
        for name in names:
            if names.count(name) > 1 or name in RESERVED:
                raise ValueError(f"{name!r} is the name of another proposer: give this one a name")
        return value

    @model_validator(mode="after")
    def _measured_by_something(self) -> LabConfig:
        if self.command is None and (self.evaluator is None or self.evaluator.served):
            raise ValueError("give a command, an evaluator that needs none, or both")
        return self

    @model_validator(mode="after")
    def _starts_are_fair(self) -> LabConfig:
        if self.warm_start and (why := unfair_start(self)):
            raise ValueError(f"warm_start: {why}")
        return self
