"""An engine whose trials the caller runs: each goes on until the caller says what it yielded."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

from nightlab.core.types import Measurement, NightlabError, Platform, Trial
from nightlab.engines.base import Engine
from nightlab.engines.slots import Slot
from nightlab.sandbox.bubblewrap import Isolation

POLL = 0.02  # seconds between two looks at a trial that is being measured
ENDING = 10.0  # seconds that a trial has to end when the measurement is interrupted
LEFT = Measurement("interrupted", detail="the caller never said what it yielded")


@dataclass(eq=False)
class CallersTrial:
    """A trial that the caller was given. It has finished once there is a ``measurement``."""

    trial: Trial
    slot: Slot
    begun: float = field(default_factory=time.time)
    measurement: Measurement | None = None
    result: Measurement | None = None
    """What the engine measured, where the caller let it."""
    started: bool = False
    """Whether it ran on the engine: no trial runs twice under one id."""

    def phase(self) -> tuple[str, float | None]:
        return "training", self.begun

    def finished(self) -> bool:
        return self.measurement is not None

    def stop(self) -> None:
        self.measurement = self.measurement or LEFT


class CallerEngine:
    """Hands the trials of a session to its caller, who may have ``engine`` run them."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def platform(self) -> Platform:
        return self.engine.platform

    @property
    def sandbox(self) -> Isolation:
        return self.engine.sandbox

    def slots(self, count: int | None) -> list[Slot]:
        return self.engine.slots(count)

    def slot_failure(self, slot: Slot) -> str:
        return self.engine.slot_failure(slot)

    def start(self, trial: Trial, slot: Slot) -> CallersTrial:
        return CallersTrial(trial, slot)

    def stand_by(self, like: Trial, slot: Slot) -> None:
        """Nothing is made ready: the caller may not want this engine at all."""

    def dismiss(self) -> None:
        self.engine.dismiss()

    def adopt(self, trial: Trial) -> Any:
        return self.engine.adopt(trial)

    def collect(self, handle: Any) -> Measurement:
        if not isinstance(handle, CallersTrial):
            return self.engine.collect(handle)
        assert handle.measurement is not None
        return handle.measurement

    def measure(self, asked: CallersTrial) -> Measurement:
        """Run a trial of the caller's on the engine, and wait for it.

        Raises NightlabError when it ran before, or can't be started. An interrupt ends the trial.
        """
        if asked.started:
            raise NightlabError(f"trial {asked.trial.id} ran already", "tell what it yielded, and ask for the next")
        asked.started = True
        running = self.engine.start(asked.trial, asked.slot)
        try:
            while not running.finished():
                time.sleep(POLL)
        except BaseException:
            running.stop()
            until = time.monotonic() + ENDING
            while not running.finished() and time.monotonic() < until:
                time.sleep(POLL)
            ended = self.engine.collect(running)
            asked.measurement = ended if ended.outcome != "lost" else replace(LEFT, detail="interrupted by the caller")
            raise
        asked.result = self.engine.collect(running)
        return asked.result
