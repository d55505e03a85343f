"""A session's progress under a notebook's cell, or as lines in a terminal of IPython."""

from __future__ import annotations

import importlib
import sys
import time
from collections import deque
from collections.abc import Sequence
from html import escape
from typing import Any

from nightlab.core.observer import Observer, RunningTrialStatus, SessionOpened
from nightlab.core.text import counted, one_line
from nightlab.core.types import Evidence, Experiment, Measurement, Metric, RunResult
from nightlab.ui.terminal.lines import LineObserver

ROWS = 8  # experiments that are shown, the latest
EVERY = 1.0  # seconds between two updates while nothing but time passes
HEADING = "<tr><th>#</th><th>verdict</th><th>{}</th><th style='text-align:left'>hypothesis</th></tr>"


def notebook_progress() -> list[Observer]:
    """What shows the progress where IPython runs this program; nothing elsewhere."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is None:
        return []
    return [NotebookProgress() if hasattr(shell, "kernel") else LineObserver()]


class NotebookProgress(Observer):
    """One output that is replaced as the session goes on: where it stands, what runs, the latest experiments."""

    def __init__(self) -> None:
        self.metric, self.title, self.now, self.words = Metric("metric"), "", "", ""
        self.done = self.kept = 0
        self.best: Experiment | None = None
        self.latest: deque[Experiment] = deque(maxlen=ROWS)
        self._output: Any = None  # IPython's handle of what it shows
        self._shown_at = 0.0

    def opened(self, opening: SessionOpened) -> None:
        self.metric, self.best, self.done = opening.metric, opening.champion, opening.experiments
        self.title = f"session {opening.tag} · lab {opening.lab} · {opening.budget} per trial"
        self._show()

    def judged(self, experiment: Experiment, champion: Experiment | None) -> None:
        self.latest.append(experiment)
        if experiment.kept:
            self.best = experiment
        if experiment.number:
            self.done += 1
            self.kept += experiment.kept
        self._show()

    def tick(self, trials: Sequence[RunningTrialStatus]) -> None:
        at = time.time()
        running = [f"#{one.trial.experiment} {one.phase} for {max(at - one.since, 0):.0f} s" for one in trials]
        self.now = ", ".join(running) or "waiting for a proposal"
        if self.title and time.monotonic() - self._shown_at >= EVERY:
            self._show()

    def searched(self, result: RunResult) -> None:
        self.now, self.words = "", result.reason
        self._show()

    def confirming(self, pairs: int) -> None:
        self.words = f"baseline and champion again, on {counted(pairs, 'fresh seed')}"
        self._show()

    def confirmed(self, evidence: Evidence, baseline: Sequence[Measurement], champion: Sequence[Measurement]) -> None:
        gain = evidence.gain
        self.words = (
            f"{'claim, ' * bool(evidence.claim)}{'' if evidence.shown else 'not '}confirmed: {gain.mean:.4g} better, "
            f"{gain.level:.0%} interval {gain.low:.4g} to {gain.high:.4g}"
        )
        self._show()

    def _show(self) -> None:
        display: Any = importlib.import_module("IPython.display").display
        self._shown_at = time.monotonic()
        if self._output is None:
            self._output = display(_Page(self), display_id=True)
        else:
            self._output.update(_Page(self))


class _Page:
    """The progress as it is now, in the two forms that a notebook may show."""

    def __init__(self, progress: NotebookProgress) -> None:
        best, metric = progress.best, progress.metric
        stands = f"{counted(progress.done, 'experiment')}, {progress.kept} kept in this run"
        if best is not None and best.bar is not None:
            stands += f" · best {metric.name} {best.bar:.6g} (#{best.number})"
        self.lines = [line for line in (progress.title, stands, progress.now, progress.words) if line]
        self.heading = HEADING.format(escape(metric.name))
        self.rows = "".join(map(_row, reversed(progress.latest)))

    def __repr__(self) -> str:
        return "\n".join(self.lines)

    def _repr_html_(self) -> str:
        return f"{'<br>'.join(map(escape, self.lines))}<table>{self.heading}{self.rows}</table>"


def _row(experiment: Experiment) -> str:
    measured, verdict = experiment.measurement, experiment.verdict
    value = f"{measured.metric:.6g}" if measured and measured.metric is not None else "-"
    cells = (experiment.number, verdict.status if verdict else "", value)
    words = escape(one_line(experiment.candidate.hypothesis, 80))
    return (
        f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in cells)}<td style='text-align:left'>{words}</td></tr>"
    )
