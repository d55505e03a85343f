"""The view of a session: told of all that happens, it says so, one line per experiment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from nightlab.core.types import Contribution, Evidence, Experiment, Measurement, Metric, RunResult, Trial

STYLES = {"keep": "bold green", "discard": "dim", "crash": "red"}


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


class LineObserver(Observer):
    """Lines, in a terminal or a pipe."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self.metric = Metric("metric")
        self.running: set[int] = set()  # experiments

    def opened(self, opening: SessionOpened) -> None:
        self.metric = opening.metric
        self._line(f"[bold]session {opening.tag}[/] · lab {opening.lab} · {opening.budget} of training per trial")
        self._line(f"[dim]on {escape(opening.platform)}[/]")
        self._line(f"[dim]{escape(opening.sandbox)}[/]")
        if opening.experiments:
            also = f", {opening.adopted} trial still running" if opening.adopted else ""
            self._line(f"continuing after {opening.experiments} experiments{also}")
        else:
            self._line("measuring the baseline first")
        self._line(f"[dim]{'#':<5}{'verdict':<8}{opening.metric.name:>12} {'change':>10}  hypothesis[/]")

    def started(self, experiment: Experiment, trial: Trial) -> None:
        again = experiment.number in self.running
        self.running.add(experiment.number)
        if trial.purpose in ("search", "pilot") and not again:
            self._line(f"[dim]#{experiment.number:<4}running   {escape(_what(experiment))}[/]")

    def measured(self, trial: Trial, measurement: Measurement, metric: Metric, variant: bool = False) -> None:
        shown = f"{measurement.metric:.6f}" if measurement.metric is not None else measurement.outcome
        name = "baseline" if trial.experiment == 0 else f"#{trial.experiment}"
        if variant:
            name = f"without {name}" if trial.purpose == "ablate" else f"{name} at this scale"
        self._line(f"  {trial.purpose}: {name}, seed {trial.seed}: {metric.name} {shown}")

    def judged(self, experiment: Experiment, champion: Experiment | None) -> None:
        self.running.discard(experiment.number)
        self._line(_line(experiment, champion, self.metric))

    def again(self, experiment: Experiment, why: str) -> None:
        self._line(f"  [dim]#{experiment.number} once more, {escape(why)}[/]")

    def rechecked(self, champion: Experiment, bar: float, before: float, would: str, alarms: Sequence[str]) -> None:
        says = {"keep": "the rule keeps it unchanged", "not asked": "not asked, this is another machine"}
        self._line(
            f"  [dim]upkeep: #{champion.number} counts as {self.metric.name} {bar:.6f}, it was {before:.6f}; "
            f"self-test: {says.get(would, 'the rule does not keep it unchanged')}[/]"
        )
        for alarm in alarms:
            self._line(f"  [bold yellow]alarm:[/] {escape(alarm)}")

    def refused(self, hypothesis: str, reason: str) -> None:
        self._line(f"  [dim]not tried: {escape(hypothesis)}: {escape(reason)}[/]")

    def say(self, words: str) -> None:
        self._line(words)

    def _line(self, words: str) -> None:
        with suppress(OSError):  # a terminal that went away must not end the night
            if self.console.is_terminal:
                self.console.print(words, highlight=False, no_wrap=True, overflow="ellipsis")
            else:
                self.console.print(words, highlight=False, soft_wrap=True)


def _what(experiment: Experiment) -> str:
    return experiment.candidate.hypothesis


def _line(experiment: Experiment, champion: Experiment | None, metric: Metric) -> str:
    """One experiment in a line: number, verdict, metric, difference to the champion, what it was."""
    verdict, measured = experiment.verdict, experiment.measurement
    assert verdict is not None and measured is not None
    value = f"{measured.metric:.6f}" if measured.metric is not None else "-"
    change = ""
    if champion and champion.bar is not None and measured.metric is not None:
        change = f"{measured.metric - champion.bar:+.6f}"
    why = f" · {verdict.reason}: {verdict.detail}" if verdict.status == "crash" else ""
    if verdict.status == "discard" and verdict.reason not in ("regressed", "inconclusive"):
        why = f" · {verdict.reason}: {verdict.detail}"
    style = STYLES[verdict.status]
    if champion and experiment.candidate.parent != champion.candidate.commit:
        why = f" (on another genome than the champion's){why}"
    words = escape(f"{_what(experiment)}{why}")
    return f"[{style}]#{experiment.number:<4}{verdict.status:<8}{value:>12} {change:>10}[/]  {words}"
