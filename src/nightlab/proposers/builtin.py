"""The proposers that are built in, as the registry of plug-ins makes them: each is imported when it is made."""

from __future__ import annotations

from nightlab.core.config import ControllerConfig, ModelConfig, PatchesConfig, ProgramConfig
from nightlab.proposers.backoff import Backoff
from nightlab.proposers.proposer import Proposer, ProposerContext


def tuner(config: object, context: ProposerContext) -> Proposer:
    from nightlab.proposers.tuner import Tuner

    return Tuner(context.seed)


def controller(config: ControllerConfig, context: ProposerContext) -> Proposer:
    from nightlab.proposers.controller import Controller

    if not config.patches:
        return Controller(context.seed)
    assert context.workspace is not None
    return Controller(context.seed, context.folder / config.patches, context.workspace.repo)


def patches(config: PatchesConfig, context: ProposerContext) -> Proposer:
    from nightlab.proposers.patches import PatchQueue

    return PatchQueue(context.folder / config.folder, context.used)


def recombine(config: object, context: ProposerContext) -> Proposer:
    from nightlab.proposers.crossover import Crossover

    assert context.workspace is not None
    return Crossover(context.workspace.repo, context.used)


def program(config: ProgramConfig, context: ProposerContext) -> Proposer:
    """A command, or an agent that speaks the Agent Client Protocol."""
    from nightlab.proposers.command import AnyCommand

    assert context.workspace is not None
    return Backoff(*(AnyCommand(config, context.workspace, lane) for lane in range(config.concurrency)))


def model(config: ModelConfig, context: ProposerContext) -> Proposer:
    from nightlab.proposers.model import LanguageModel

    return Backoff(*(LanguageModel(config) for _ in range(config.concurrency)))
