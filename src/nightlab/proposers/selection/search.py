"""The protocol that every strategy speaks, and what it may think of an experiment."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from nightlab.core.types import Experiment, Metric

FIT = {"regressed", "inconclusive"}  # reasons to discard a genome that is sound: a limit is exceeded by heirs too


class Selection(Protocol):
    """Where proposals start. All that it knows it was told, so a session that was killed tells it again."""

    memory: int
    """How many of the latest experiments it is told again when a session resumes."""

    def ask(self) -> Experiment | None:
        """The experiment on whose genome to propose next; None: on the champion, whoever that is by then."""
        ...

    def tell(self, experiment: Experiment) -> None:
        """An experiment has its verdict. They are told in the order in which they were judged."""
        ...


@dataclass(frozen=True, slots=True)
class SelectionContext:
    """What a selection is made with, besides its own configuration. ``seed``: its randomness."""

    metric: Metric
    seed: int = 0


def node_value(experiment: Experiment) -> float | None:
    """What a genome is believed to measure: a kept one's bar, else its metric. None: nobody should start from it."""
    verdict, measured = experiment.verdict, experiment.measurement
    if verdict is None or measured is None or not (experiment.kept or verdict.reason in FIT):
        return None
    value = measured.metric if experiment.bar is None else experiment.bar
    return value if value is not None and math.isfinite(value) else None
