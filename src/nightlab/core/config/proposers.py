"""The proposers that a contract can name, each with what it is told."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, NonNegativeFloat, Tag, ValidationInfo, field_validator

from nightlab.core.config.base import Command, Endpoint, Variable, plugin_name
from nightlab.core.config_model import ConfigModel

# Who else candidates come from.
RESERVED = {"baseline", "human", "tuner", "controller", "patches", "recombine", "ablation", "transplant", "pbt"}


PLATEAU: Any = Field(default=None, gt=0)  # takes part only after this number of experiments without a keep
Url = Annotated[str, Field(pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$")]


class OnlyOneConfig(ConfigModel):
    """A proposer that bears the name of its kind."""

    kind: str
    share: float = Field(default=1, gt=0)
    plateau: int | None = PLATEAU

    @property
    def called(self) -> str:
        return self.kind


class TunerConfig(OnlyOneConfig):
    """Numeric moves over the genome's named constants."""

    kind: Literal["tuner"]


class ControllerConfig(OnlyOneConfig):
    """A policy over the genome's constants and patches, trained on what its samples gained."""

    kind: Literal["controller"]
    patches: str = ""
    """Folder of ``*.patch`` files that it may take or not; without one it chooses constants alone."""


class CrossoverConfig(OnlyOneConfig):
    """Near misses, made together on the champion."""

    kind: Literal["recombine"]


class PatchesConfig(OnlyOneConfig):
    """A queue of ideas: ``*.patch`` files, in order of their names."""

    kind: Literal["patches"]
    folder: str = "ideas"


class ThinkerConfig(ConfigModel):
    """What all proposers that read a briefing have in common."""

    share: float = Field(default=1, gt=0)
    plateau: int | None = PLATEAU
    name: str = Field(default="", pattern=r"^(\w[\w.-]*)?$", max_length=40)
    """What the log calls it; by default its program's or its model's name."""
    briefing: int = Field(default=16_000, ge=2000, le=1_000_000)
    """Most tokens of what it is told each turn."""
    wall: float = Field(default=1200, gt=0)
    """Seconds that a turn may take."""
    concurrency: int = Field(default=4, ge=1, le=64)
    """Most turns at the same time. More than one runs only when trials would otherwise wait for proposals."""
    requests: int = Field(default=300, gt=0)
    """Most requests that a turn may send to its endpoints."""
    tokens: int | None = Field(default=None, gt=0)
    """Most tokens of a turn, input and output, as its endpoint states them."""
    money: float | None = Field(default=None, gt=0)
    """Most US dollars of a turn."""
    price: tuple[NonNegativeFloat, NonNegativeFloat] | None = None
    """US dollars per million tokens of input and of output; without one the list price, where it is known."""

    @property
    def called(self) -> str:
        return self.name


class GatewayConfig(ConfigModel):
    """A sandboxed program's way to a model's endpoint."""

    gateway: dict[Variable, Url] = Field(default_factory=dict)
    """Variables, e.g. ``ANTHROPIC_BASE_URL``, each with an endpoint's URL: set to an address in the sandbox."""
    keys: tuple[Variable, ...] = ()
    """Names of variables whose values the gateway adds to requests, so that no process in the sandbox has them."""

    @field_validator("keys")
    @classmethod
    def _need_a_gateway(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if value and not info.data.get("gateway"):
            raise ValueError("keys are added by a gateway, and there is none: name one")
        return value


class ProgramConfig(ThinkerConfig, GatewayConfig):
    """A program that edits the genome in a separate copy of the lab."""

    command: Command
    environment: tuple[Variable, ...] = ()
    """Names of variables that it is given from the user's environment, e.g. of its key."""
    files: tuple[str, ...] = ()
    """Files and folders outside the lab that it may read, such as its own installation."""
    endpoints: tuple[Endpoint, ...] = ()
    """``host:port`` of all that it may reach; without any, and without a gateway, all but this machine."""
    idle: float = Field(default=600, gt=0)
    """Seconds without output or a changed file after which it is ended."""

    @property
    def restricted(self) -> bool:
        """Whether it may reach only what it names."""
        return bool(self.endpoints or self.gateway)

    @property
    def called(self) -> str:
        own = re.sub(r"[^\w.-]", "-", Path(shlex.split(self.command)[0]).name).lstrip(".-")
        return self.name or own or "command"  # a folder has this name too


class CommandConfig(ProgramConfig):
    """Any command that reads a briefing, edits, and ends."""

    kind: Literal["command"]


class AgentConfig(ProgramConfig):
    """A coding agent that speaks the Agent Client Protocol over its standard input and output."""

    kind: Literal["agent"]


class ModelConfig(ThinkerConfig):
    """A language model behind an API, asked for one edit."""

    kind: Literal["model"]
    model: str = Field(min_length=1)
    api: Literal["openai", "anthropic"] = "openai"
    """Which API the endpoint speaks; most speak OpenAI's, local servers too."""
    base_url: str | None = Field(default=None, pattern=r"^https?://")
    key: Variable | None = None
    """The name of the variable that holds the key; a self-hosted endpoint may need none."""
    answer: int = Field(default=16_000, gt=0)
    """Most tokens of an answer."""

    @property
    def called(self) -> str:
        return self.name or self.model.split("/")[-1]

    @property
    def url(self) -> str:
        """The base of the endpoint's URLs."""
        return (
            self.base_url or {"openai": "https://api.openai.com/v1", "anthropic": "https://api.anthropic.com"}[self.api]
        )

    @property
    def where(self) -> str:
        """The endpoint, in words."""
        return self.base_url or f"{self.api}'s own endpoint"


class PluginProposerConfig(ConfigModel):
    """A proposer of another package. The keys that are not named here are the plug-in's own, and checked by it."""

    model_config = ConfigDict(extra="allow", frozen=True)
    kind: str
    """The name of an entry point in the group ``nightlab.proposers``, or ``package.module:Name``."""
    share: float = Field(default=1, gt=0)
    plateau: int | None = PLATEAU
    name: str = Field(default="", pattern=r"^(\w[\w.-]*)?$", max_length=40)
    """What the log calls it; by default the plug-in's name."""

    @field_validator("kind")
    @classmethod
    def _found(cls, value: str, info: ValidationInfo) -> str:
        return plugin_name("proposer", value, info)

    @property
    def called(self) -> str:
        return self.name or re.split(r"[:.]", self.kind)[-1]

    @property
    def keys(self) -> dict[str, Any]:
        """What the plug-in itself is told."""
        return dict(self.model_extra or {})


KINDS = {"tuner", "controller", "patches", "recombine", "command", "agent", "model"}


def _tag(value: Any) -> str | None:
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    if not isinstance(kind, str):
        return None
    return kind if kind in KINDS else "plug-in"


Proposer = Annotated[
    Annotated[TunerConfig, Tag("tuner")]
    | Annotated[ControllerConfig, Tag("controller")]
    | Annotated[PatchesConfig, Tag("patches")]
    | Annotated[CrossoverConfig, Tag("recombine")]
    | Annotated[CommandConfig, Tag("command")]
    | Annotated[AgentConfig, Tag("agent")]
    | Annotated[ModelConfig, Tag("model")]
    | Annotated[PluginProposerConfig, Tag("plug-in")],
    Discriminator(_tag),
]
