"""What runs trials, behind one small protocol. The box is the first engine: it runs them on this machine."""

from __future__ import annotations

from typing import Any, Protocol

from nightlab.records import Measurement, Platform, Trial
from nightlab.trial.sandbox import Sealing


class Handle(Protocol):
    """A trial under way."""

    @property
    def trial(self) -> Trial: ...

    def phase(self) -> tuple[str, float | None]:
        """``starting``, ``training`` or ``evaluating``, and since when (seconds since the epoch)."""
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
    def sandbox(self) -> Sealing:
        """What the trials are sealed in there, and what that lacks."""
        ...

    def start(self, trial: Trial) -> Handle:
        """Raises NightlabError when it can't be started."""
        ...

    def adopt(self, trial: Trial) -> Handle:
        """A trial that an orchestrator now dead had started."""
        ...

    def collect(self, handle: Any) -> Measurement:
        """What a finished trial of this engine yielded. Its logs are then in the session's own folder."""
        ...
