"""An engine of another package: what it raises names it, and ends the run with words; the session resumes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nightlab.core.text import one_line
from nightlab.core.types import Measurement, NightlabError, Platform, Trial
from nightlab.engines.slots import Slot
from nightlab.sandbox.bubblewrap import Isolation

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Caller:
    """Calls a plug-in's engine, or one of its handles."""

    name: str

    def __call__(self, what: str, kind: type[T], call: Callable[..., Any], *args: Any) -> T:
        """What the ``call`` returns. Raises NightlabError when it raises, or returns something of another kind."""
        try:
            found = call(*args)
        except NightlabError:
            raise
        except Exception as error:
            raise self.failed(f"{what} raised {type(error).__name__}: {one_line(str(error))}") from error
        if not isinstance(found, kind):
            raise self.failed(f"{what} returned {type(found).__name__}, not {kind.__name__}")
        return found

    def failed(self, why: str) -> NightlabError:
        hint = "fix the engine, or leave out --engine to run on this machine; then run again, which resumes"
        return NightlabError(f"the engine {self.name} failed: {why}", hint)


@dataclass(frozen=True, eq=False, slots=True)
class PluggedHandle:
    """A trial that runs on a plug-in's engine."""

    trial: Trial
    slot: Slot
    handle: Any
    caller: _Caller

    def phase(self) -> tuple[str, float | None]:
        return self.caller("phase", tuple, self.handle.phase)

    def finished(self) -> bool:
        return bool(self.caller("finished", object, self.handle.finished))

    def stop(self) -> None:
        self.caller("stop", object, self.handle.stop)


class PluggedEngine:
    """Runs trials on a plug-in's engine. Its methods raise NightlabError, and nothing else."""

    def __init__(self, name: str, engine: Any) -> None:
        self.engine, self.caller = engine, _Caller(name)

    @property
    def platform(self) -> Platform:
        return self.caller("platform", Platform, lambda: self.engine.platform)

    @property
    def sandbox(self) -> Isolation:
        found: Isolation = self.caller("sandbox", object, lambda: self.engine.sandbox)  # type: ignore[assignment]
        return found

    def attach(self, folder: Path) -> None:
        """Tell the engine, if it asks to know, the session's folder of trials, where their logs belong."""
        if hasattr(self.engine, "attach"):
            self.caller("attach", object, self.engine.attach, folder)

    def slots(self, count: int | None) -> list[Slot]:
        return self.caller("slots", list, self.engine.slots, count)

    def slot_failure(self, slot: Slot) -> str:
        return self.caller("slot_failure", str, self.engine.slot_failure, slot)

    def start(self, trial: Trial, slot: Slot) -> PluggedHandle:
        return PluggedHandle(trial, slot, self.caller("start", object, self.engine.start, trial, slot), self.caller)

    def stand_by(self, like: Trial, slot: Slot) -> None:
        self.caller("stand_by", object, self.engine.stand_by, like, slot)

    def dismiss(self) -> None:
        self.caller("dismiss", object, self.engine.dismiss)

    def adopt(self, trial: Trial) -> PluggedHandle:
        handle: Any = self.caller("adopt", object, self.engine.adopt, trial)
        slot = self.caller("the slot of a handle", Slot, lambda: handle.slot)
        return PluggedHandle(trial, slot, handle, self.caller)

    def collect(self, handle: PluggedHandle) -> Measurement:
        return self.caller("collect", Measurement, self.engine.collect, handle.handle)
