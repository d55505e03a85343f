"""The protocol of engines, which run trials: on this machine, or on a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from nightlab.core.config import LabConfig
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
    contract: LabConfig | None = None
    device: str | None = None


class Handle(Protocol):
    """A running trial."""

    @property
    def trial(self) -> Trial: ...

    @property
    def slot(self) -> Slot: ...

    def phase(self) -> tuple[str, float | None]:
        """``waiting`` (for a machine), ``starting``, ``training`` or ``evaluating``; and since when (epoch seconds)."""
        ...

    def finished(self) -> bool:
        """Whether the trial can be collected."""
        ...

    def stop(self) -> None:
        """End the trial now. Its outcome is then ``interrupted``, or ``lost`` when it could not be reported."""
        ...


class Engine(Protocol):
    """Runs a session's trials. No trial id is run twice: a trial that failed to report comes back as ``lost``."""

    @property
    def platform(self) -> Platform:
        """The platform of all its trials."""
        ...

    @property
    def sandbox(self) -> Isolation:
        """The isolation of its trials, and what it lacks."""
        ...

    def slots(self, count: int | None) -> list[Slot]:
        """``count`` slots; None: as many as there is room for. Raises NightlabError when there is not enough room."""
        ...

    def slot_failure(self, slot: Slot) -> str:
        """Why a slot can't run trials any more; empty while nothing is known against it."""
        ...

    def start(self, trial: Trial, slot: Slot) -> Handle:
        """Start a trial. Raises NightlabError when it can't be started."""
        ...

    def stand_by(self, like: Trial, slot: Slot) -> None:
        """Prepare, where possible, what the next trial in a slot needs regardless of which it is."""
        ...

    def dismiss(self) -> None:
        """End what stands by, because there will be no further trial."""
        ...

    def adopt(self, trial: Trial) -> Handle:
        """A trial that was started by an orchestrator that has died."""
        ...

    def collect(self, handle: Any) -> Measurement:
        """The measurement of a finished trial. Its logs are in the session's folder afterwards."""
        ...
