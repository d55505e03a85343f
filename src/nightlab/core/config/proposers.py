"""The proposers that a contract can name, each with what it is told."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from nightlab.core.config.base import Command, ConfigModel, Endpoint, Variable

# Who else candidates come from.
RESERVED = {"baseline", "human", "tuner", "patches", "recombine", "ablation", "transplant"}


class TunerConfig(ConfigModel):
    """Numeric moves over the genome's named constants."""

    kind: Literal["tuner"]
    share: float = Field(default=1, gt=0)


class CrossoverConfig(ConfigModel):
    """Near misses, made together on the champion."""

    kind: Literal["recombine"]
    share: float = Field(default=1, gt=0)


class PatchesConfig(ConfigModel):
    """A queue of ideas: ``*.patch`` files, in order of their names."""

    kind: Literal["patches"]
    share: float = Field(default=1, gt=0)
    folder: str = "ideas"


class ThinkerConfig(ConfigModel):
    """What all proposers that read a briefing have in common."""

    share: float = Field(default=1, gt=0)
    name: str = Field(default="", pattern=r"^(\w[\w.-]*)?$", max_length=40)
    """What the log calls it; by default its program's or its model's name."""
    briefing: int = Field(default=16_000, ge=2000, le=1_000_000)
    """Most tokens of what it is told each turn."""
    wall: float = Field(default=1200, gt=0)
    """Seconds that a turn may take."""

    @property
    def called(self) -> str:
        return self.name


class ProgramConfig(ThinkerConfig):
    """A program that edits the genome in a copy of the lab of its own."""

    command: Command
    environment: tuple[Variable, ...] = ()
    """Names of variables that it is given from the user's environment, e.g. of its key."""
    files: tuple[str, ...] = ()
    """Files and folders outside the lab that it may read, such as its own installation."""
    endpoints: tuple[Endpoint, ...] = ()
    """``host:port`` of all that it may reach; without any it has the whole network."""
    idle: float = Field(default=600, gt=0)
    """Seconds without output or a changed file after which it is ended."""

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
    """The name of the variable that holds the key; an endpoint of your own may need none."""
    answer: int = Field(default=16_000, gt=0)
    """Most tokens of an answer."""

    @property
    def called(self) -> str:
        return self.name or self.model.split("/")[-1]

    @property
    def where(self) -> str:
        """The endpoint, in words."""
        return self.base_url or f"{self.api}'s own endpoint"


Proposer = Annotated[
    TunerConfig | PatchesConfig | CrossoverConfig | CommandConfig | AgentConfig | ModelConfig,
    Field(discriminator="kind"),
]
