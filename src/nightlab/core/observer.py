"""The observers of a session: they are told of all that happens in it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nightlab.core.types import Contribution, Evidence, Experiment, Measurement, Metric, RunResult, Trial

MARKUP = re.compile(r"\[(?=[a-z#/@])")  # what ``say`` would take for a tag


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """What a view says first: which session this is, and where it stands."""

    tag: str
    lab: str
    metric: Metric
    budget: str
    platform: str
    sandbox: str
    experiments: int
    champion: Experiment | None
    adopted: int
    folder: Path
    forecast: str


@dataclass(frozen=True, slots=True)
class RunningTrialStatus:
    """One trial under way: its phase, and when that began (seconds since the epoch)."""

    trial: Trial
    phase: str
    since: float


class Observer:
    """Told of everything that happens in a session, as it happens. This one shows nothing of it.

    Its methods are called in the thread that runs the session, which waits for them: they should return soon. After
    the search come ``searched``, and where the champion is measured again ``confirming``, ``confirmed``, ``ablated``.
    """

    def __repr__(self) -> str:
        return type(self).__name__

    def began(self, stop: Callable[[bool], None]) -> None:
        """Trials may run from now on; ``stop(now)`` ends that, once they have finished or at once, from any thread."""

    def ended(self) -> None:
        """No trial runs any more."""

    def opened(self, opening: SessionOpened) -> None: ...
    def started(self, experiment: Experiment, trial: Trial) -> None: ...
    def measured(self, trial: Trial, measurement: Measurement, metric: Metric, variant: bool = False) -> None: ...
    def judged(self, experiment: Experiment, champion: Experiment | None) -> None: ...
    def again(self, experiment: Experiment, why: str) -> None: ...
    def rechecked(self, champion: Experiment, bar: float, before: float, would: str, alarms: Sequence[str]) -> None: ...
    def refused(self, hypothesis: str, reason: str) -> None: ...
    def say(self, words: str) -> None: ...
    def tick(self, trials: Sequence[RunningTrialStatus]) -> None: ...
    def searched(self, result: RunResult) -> None: ...
    def confirming(self, pairs: int) -> None: ...
    def confirmed(
        self, evidence: Evidence, baseline: Sequence[Measurement], champion: Sequence[Measurement]
    ) -> None: ...
    def ablated(self, contributions: Sequence[Contribution]) -> None: ...
    def close(self) -> None: ...


class Observers(Observer):
    """Tells several observers, in their order.

    One that raises an exception is dropped with a warning, and the session goes on; it is still told ``ended`` and
    ``close``. KeyboardInterrupt passes through.
    """

    def __init__(self, observers: Iterable[Observer]) -> None:
        self.observers = tuple(observers)
        self._dropped: set[int] = set()  # by id: an observer may have no hash

    def began(self, stop: Callable[[bool], None]) -> None:
        self._tell("began", stop)

    def ended(self) -> None:
        self._tell("ended")

    def opened(self, opening: SessionOpened) -> None:
        self._tell("opened", opening)

    def started(self, experiment: Experiment, trial: Trial) -> None:
        self._tell("started", experiment, trial)

    def measured(self, trial: Trial, measurement: Measurement, metric: Metric, variant: bool = False) -> None:
        self._tell("measured", trial, measurement, metric, variant)

    def judged(self, experiment: Experiment, champion: Experiment | None) -> None:
        self._tell("judged", experiment, champion)

    def again(self, experiment: Experiment, why: str) -> None:
        self._tell("again", experiment, why)

    def rechecked(self, champion: Experiment, bar: float, before: float, would: str, alarms: Sequence[str]) -> None:
        self._tell("rechecked", champion, bar, before, would, alarms)

    def refused(self, hypothesis: str, reason: str) -> None:
        self._tell("refused", hypothesis, reason)

    def say(self, words: str) -> None:
        self._tell("say", words)

    def tick(self, trials: Sequence[RunningTrialStatus]) -> None:
        self._tell("tick", trials)

    def searched(self, result: RunResult) -> None:
        self._tell("searched", result)

    def confirming(self, pairs: int) -> None:
        self._tell("confirming", pairs)

    def confirmed(self, evidence: Evidence, baseline: Sequence[Measurement], champion: Sequence[Measurement]) -> None:
        self._tell("confirmed", evidence, baseline, champion)

    def ablated(self, contributions: Sequence[Contribution]) -> None:
        self._tell("ablated", contributions)

    def close(self) -> None:
        self._tell("close")

    def _tell(self, method: str, *given: object) -> None:
        for one in self.observers:
            if id(one) not in self._dropped or method in ("ended", "close"):
                try:
                    getattr(one, method)(*given)
                except Exception as error:
                    self._drop(one, error)

    def _drop(self, one: Observer, error: Exception) -> None:
        if id(one) in self._dropped:
            return
        self._dropped.add(id(one))
        words = f"callback {one!r} failed and is not called any more: {type(error).__name__}: {error}"
        warnings.warn(words, RuntimeWarning, stacklevel=4)
        self.say(MARKUP.sub(r"\\[", words))
