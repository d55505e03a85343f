"""The observers of a session: they are told of all that happens in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nightlab.core.types import Contribution, Evidence, Experiment, Measurement, Metric, RunResult, Trial


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


@dataclass(frozen=True, slots=True)
class Flight:
    """One trial under way: its phase, and when that began (seconds since the epoch)."""

    trial: Trial
    phase: str
    since: float


class Observer:
    """Told of everything that happens in a session, as it happens. This one shows nothing of it.

    Its methods are called in the thread that runs the session, which waits for them: they should return soon. After
    the search come ``searched``, and where the champion is measured again ``confirming``, ``confirmed``, ``ablated``.
    """

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
    def tick(self, flights: Sequence[Flight]) -> None: ...
    def searched(self, result: RunResult) -> None: ...
    def confirming(self, pairs: int) -> None: ...
    def confirmed(
        self, evidence: Evidence, baseline: Sequence[Measurement], champion: Sequence[Measurement]
    ) -> None: ...
    def ablated(self, contributions: Sequence[Contribution]) -> None: ...
    def close(self) -> None: ...


class Observers(Observer):
    """Tells several observers, in their order."""

    def __init__(self, observers: Iterable[Observer]) -> None:
        self.observers = tuple(observers)

    def began(self, stop: Callable[[bool], None]) -> None:
        for one in self.observers:
            one.began(stop)

    def ended(self) -> None:
        for one in self.observers:
            one.ended()

    def opened(self, opening: SessionOpened) -> None:
        for one in self.observers:
            one.opened(opening)

    def started(self, experiment: Experiment, trial: Trial) -> None:
        for one in self.observers:
            one.started(experiment, trial)

    def measured(self, trial: Trial, measurement: Measurement, metric: Metric, variant: bool = False) -> None:
        for one in self.observers:
            one.measured(trial, measurement, metric, variant)

    def judged(self, experiment: Experiment, champion: Experiment | None) -> None:
        for one in self.observers:
            one.judged(experiment, champion)

    def again(self, experiment: Experiment, why: str) -> None:
        for one in self.observers:
            one.again(experiment, why)

    def rechecked(self, champion: Experiment, bar: float, before: float, would: str, alarms: Sequence[str]) -> None:
        for one in self.observers:
            one.rechecked(champion, bar, before, would, alarms)

    def refused(self, hypothesis: str, reason: str) -> None:
        for one in self.observers:
            one.refused(hypothesis, reason)

    def say(self, words: str) -> None:
        for one in self.observers:
            one.say(words)

    def tick(self, flights: Sequence[Flight]) -> None:
        for one in self.observers:
            one.tick(flights)

    def searched(self, result: RunResult) -> None:
        for one in self.observers:
            one.searched(result)

    def confirming(self, pairs: int) -> None:
        for one in self.observers:
            one.confirming(pairs)

    def confirmed(self, evidence: Evidence, baseline: Sequence[Measurement], champion: Sequence[Measurement]) -> None:
        for one in self.observers:
            one.confirmed(evidence, baseline, champion)

    def ablated(self, contributions: Sequence[Contribution]) -> None:
        for one in self.observers:
            one.ablated(contributions)

    def close(self) -> None:
        for one in self.observers:
            one.close()
