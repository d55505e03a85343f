"""A session in lines of text: one per experiment, in a terminal or a pipe."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from rich.console import Console
from rich.markup import escape

from nightlab.core.observer import Observer, SessionOpened
from nightlab.core.text import counted
from nightlab.core.types import Experiment, Measurement, Metric, Trial

STYLES = {"keep": "bold green", "discard": "dim", "crash": "red"}


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
            self._line(f"continuing after {counted(opening.experiments, 'experiment')}{also}")
        else:
            self._line("measuring the baseline first")
        if opening.forecast:
            self._line(f"[dim]{opening.forecast}[/]")
        self._line(f"[dim]{'#':<5}{'verdict':<8}{opening.metric.name:>12} {'change':>10}  hypothesis[/]")

    def started(self, experiment: Experiment, trial: Trial) -> None:
        again = experiment.number in self.running
        self.running.add(experiment.number)
        if trial.purpose in ("search", "pilot") and not again:
            self._line(f"[dim]#{experiment.number:<4}running   {escape(_what(experiment))}[/]")

    def measured(self, trial: Trial, measurement: Measurement, metric: Metric, variant: bool = False) -> None:
        shown = value_words(measurement) if measurement.metric is not None else measurement.outcome
        name = "baseline" if trial.experiment == 0 else f"#{trial.experiment}"
        if part := trial.segment:
            values = ", ".join(f"{constant} {value}" for constant, value in part.constants.items())
            why = "" if measurement.measured else f": {measurement.detail}"
            what = f"member {part.member}, part {part.part} of {part.parts}, {values}"
            self._line(f"  {escape(what)}: {metric.name} {shown}{escape(why)}")
            return
        if variant:
            other = {"ablate": f"without {name}", "round": f"the champion beside {name}"}
            name = other.get(trial.purpose, f"{name} at this scale")
        self._line(f"  {trial.purpose}: {name}, seed {trial.seed}: {metric.name} {shown}")

    def judged(self, experiment: Experiment, champion: Experiment | None) -> None:
        self.running.discard(experiment.number)
        self._line(_line(experiment, champion, self.metric))

    def again(self, experiment: Experiment, why: str) -> None:
        self._line(f"  [dim]#{experiment.number} once more, {escape(why)}[/]")

    def rechecked(self, champion: Experiment, bar: float, before: float, would: str, alarms: Sequence[str]) -> None:
        says = {"keep": "the rule keeps it unchanged", "not asked": "not asked, this is another machine"}
        self._line(
            f"  [dim]champion re-check: #{champion.number} counts as {self.metric.name} {bar:.6f}, "
            f"it was {before:.6f}; self-test: {says.get(would, 'the rule does not keep it unchanged')}[/]"
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


def value_words(measured: Measurement | None) -> str:
    """A measured metric, with the precision that it comes with; ``-`` if there is none."""
    if measured is None or measured.metric is None:
        return "-"
    return f"{measured.metric:.6f} {measured.own_precision}".rstrip()


def _what(experiment: Experiment) -> str:
    return experiment.candidate.hypothesis


def _line(experiment: Experiment, champion: Experiment | None, metric: Metric) -> str:
    """One experiment in a line: number, verdict, metric, difference to the champion, what it was."""
    verdict, measured = experiment.verdict, experiment.measurement
    assert verdict is not None and measured is not None
    value = value_words(measured)
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
