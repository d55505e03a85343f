"""The Pareto front of a session: the experiments that no other equals or beats in all objectives. Decides nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nightlab.core.types import COMPARED, Experiment, Goal, Metric


@dataclass(frozen=True, slots=True)
class Front:
    """``names``: the objectives, the metric first. ``members``: experiments with their values, best metric first."""

    names: tuple[str, ...]
    members: tuple[tuple[Experiment, tuple[float, ...]], ...]


def front(experiments: Iterable[Experiment], metric: Metric, objectives: Mapping[str, Goal]) -> Front:
    """The non-dominated experiments, as first measured, among those that a rule compared: none that exceeds a limit.

    ``objectives``: what else is to be small or large, with its direction. Of equals the earliest is a member.
    """
    goals = {metric.name: metric.goal, **objectives}
    points: list[tuple[tuple[float, ...], int, Experiment, tuple[float, ...]]] = []
    for experiment in experiments:
        measured, verdict = experiment.measurement, experiment.verdict
        if measured is None or measured.metric is None or verdict is None:
            continue
        if verdict.reason not in (*COMPARED, "baseline"):
            continue
        found = {**measured.quantities, metric.name: measured.metric}
        values = tuple(found.get(name, math.nan) for name in goals)
        if all(map(math.isfinite, values)):
            losses = tuple(v if goal == "minimise" else -v for v, goal in zip(values, goals.values(), strict=True))
            points.append((losses, experiment.number, experiment, values))
    members: list[tuple[Experiment, tuple[float, ...]]] = []
    best: list[tuple[float, ...]] = []
    for losses, _, experiment, values in sorted(points, key=lambda point: point[:2]):  # what beats it comes before it
        if not any(all(a <= b for a, b in zip(other, losses, strict=True)) for other in best):
            best.append(losses)
            members.append((experiment, values))
    return Front(tuple(goals), tuple(members))
