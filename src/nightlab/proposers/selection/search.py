"""The protocol of selection strategies, and the value of an experiment as a parent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from nightlab.core.types import Experiment, Metric

FIT = {"regressed", "inconclusive"}  # reasons for which a discarded genome may still be a parent; not over a limit


class Selection(Protocol):
    """Selects the parent of the next proposal. State comes only from ``tell``, which a resumed session repeats."""

    memory: int
    """How many of the latest experiments ``tell`` is repeated for when a session resumes."""

    def ask(self) -> Experiment | None:
        """The experiment to base the next proposal on; None: the champion at that time."""
        ...

    def tell(self, experiment: Experiment) -> None:
        """An experiment was judged. Called in the order of the verdicts."""
        ...


@dataclass(frozen=True, slots=True)
class SelectionContext:
    """What a selection is made with, besides its own configuration. ``seed``: its randomness."""

    metric: Metric
    seed: int = 0


def node_value(experiment: Experiment) -> float | None:
    """A genome's estimated value: the bar if it was kept, else its metric; None if it must not be a parent."""
    verdict, measured = experiment.verdict, experiment.measurement
    if verdict is None or measured is None or not (experiment.kept or verdict.reason in FIT):
        return None
    value = measured.metric if experiment.bar is None else experiment.bar
    return value if value is not None and math.isfinite(value) else None
