"""What the proposers of a contract need of this machine, and whether it is there."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
from collections.abc import Iterator

from nightlab.core.config import AgentConfig, LabConfig, ModelConfig, ProgramConfig, StopRules
from nightlab.sandbox.bubblewrap import Isolation, has_proxy

CAPS = ("requests", "tokens", "money")
Need = tuple[str, bool, str]  # what, whether it is there, and the hint


def needs(lab: LabConfig) -> Iterator[Need]:
    """Each thing that a proposer needs. None of them stops a session: it goes on with the proposers that work."""
    unfit = 0
    for part in lab.proposers:
        found: list[Need] = []
        if isinstance(part, ProgramConfig):
            found = list(_of_program(part))
        elif isinstance(part, ModelConfig):
            found = list(_of_model(part))
        unfit += not all(there for _, there, _ in found)
        yield from found
    if unfit == len(lab.proposers) and not lab.commons:
        yield "no proposer of lab.toml can work here: a session ends after its baseline", False, "see above"
    if lab.commons:
        if not all(map(importlib.util.find_spec, ("cryptography", "rfc8785"))):
            yield "the commons: its libraries are not installed", False, "pip install 'nightlab[commons]'"
        yield f"at most {lab.commons.share:.0%} of the experiments measure what other labs found", True, ""


def uncounted(lab: LabConfig, stop: StopRules, sandbox: Isolation) -> Iterator[str]:
    """The programs that caps do not hold, in words: this sandbox has no proxy that counts their traffic."""
    for part in () if has_proxy(sandbox) else lab.proposers:
        if isinstance(part, ProgramConfig) and not (part.restricted and "network" not in sandbox.missing):
            own = [name for name in CAPS if name in part.model_fields_set]
            capped = [name for name in CAPS if name in own or getattr(stop, name) is not None]
            if capped:
                caps = f"{'caps' if len(capped) > 1 else 'cap'} on {' and '.join(capped)}"
                why = f"passes no proxy in this sandbox ({sandbox.name}): nothing counts its traffic"
                yield f"proposer {part.called} {why}, so the {caps} can't end a turn"


def _of_program(part: ProgramConfig) -> Iterator[Need]:
    program = shlex.split(part.command)[0]
    if os.sep not in program and shutil.which(program) is None:
        yield f"proposer {part.called}: {program} is not on the PATH", False, "install it, or correct its command"
    if isinstance(part, AgentConfig) and importlib.util.find_spec("acp") is None:
        yield f"proposer {part.called}: agent-client-protocol is not installed", False, "pip install 'nightlab[agents]'"
    yield from _variables(part.called, (*part.environment, *part.keys))
    given = f", and is given {', '.join(part.environment)}" if part.environment else ""
    reach = (
        f"may reach only {', '.join([*part.endpoints, *part.gateway.values()])}"
        if part.restricted
        else "has the network (no endpoints named)"
    )
    yield f"proposer {part.called} runs in the sandbox of a trial, but {reach}{given}", True, ""


def _of_model(part: ModelConfig) -> Iterator[Need]:
    if importlib.util.find_spec("pydantic_ai") is None:
        yield f"proposer {part.called}: pydantic-ai is not installed", False, "pip install 'nightlab[models]'"
    yield from _variables(part.called, (part.key,) if part.key else ())
    yield f"proposer {part.called} sends its briefing, with the genome, to {part.where}", True, ""


def _variables(name: str, variables: tuple[str, ...]) -> Iterator[Need]:
    for variable in variables:
        if variable not in os.environ:
            yield f"proposer {name}: the variable {variable} is not set", False, f"export {variable}=…"
