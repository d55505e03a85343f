"""What runs trials, behind one small protocol. The box is the first engine: it runs them on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from nightlab.core.config import Lab
from nightlab.core.types import Measurement, Platform, Trial
from nightlab.engines.slots import Slot
from nightlab.sandbox.bubblewrap import Isolation


@dataclass(frozen=True, slots=True)
class EngineContext:
    """What an engine is made with: ``on``, as it was asked for, and for which lab.

    ``slots``: how many trials should run at once, None if that is left to the engine. ``contract``: the lab's, as it is
    committed; ``device``: the one asked for, None if any will do.
    """

    on: str
    slots: int | None
    lab: Path
    contract: Lab | None = None
    device: str | None = None


class Handle(Protocol):
    """A trial under way."""

    @property
    def trial(self) -> Trial: ...

    @property
    def slot(self) -> Slot: ...

    def phase(self) -> tuple[str, float | None]:
        """``waiting`` for a machine, ``starting``, ``training`` or ``evaluating``, and since when (since the epoch)."""
        ...

    def finished(self) -> bool:
        """Whether it can be collected."""
        ...

    def stop(self) -> None:
        """End the trial now; its outcome is then ``interrupted``, or ``lost`` when it could not say so."""
        ...


class Engine(Protocol):
    """Where a session's trials run. None is ever run twice under one id: what was lost comes back as ``lost``."""

    @property
    def platform(self) -> Platform:
        """On which all of its trials run."""
        ...

    @property
    def sandbox(self) -> Isolation:
        """What the trials are sealed in there, and what that lacks."""
        ...

    def slots(self, count: int | None) -> list[Slot]:
        """``count`` slots, None: as many as there is room for. Raises NightlabError when there is no such room."""
        ...

    def fault(self, slot: Slot) -> str:
        """Why nothing can run in a slot any more; empty where nothing is known against it."""
        ...

    def start(self, trial: Trial, slot: Slot) -> Handle:
        """Raises NightlabError when it can't be started."""
        ...

    def stand_by(self, like: Trial, slot: Slot) -> None:
        """Make ready, where that can be done, what the next trial in a slot will need, whichever it is."""
        ...

    def dismiss(self) -> None:
        """No trial comes any more: end what stands by."""
        ...

    def adopt(self, trial: Trial) -> Handle:
        """A trial that an orchestrator now dead had started."""
        ...

    def collect(self, handle: Any) -> Measurement:
        """What a finished trial of this engine yielded. Its logs are then in the session's own folder."""
        ...
