"""What programs are told, as JSON. Keys are added here, never renamed or removed: docs/agents.md shows each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from nightlab.records import Experiment, Measurement, Trial
from nightlab.words import plain

ITEMS = 100


def as_json_of(experiment: Experiment) -> dict[str, Any]:
    candidate, verdict = experiment.candidate, experiment.verdict
    measured = experiment.measurement
    return {
        "number": experiment.number,
        "status": verdict.status if verdict else None,
        "reason": verdict.reason if verdict else None,
        "detail": verdict.detail if verdict else None,
        "metric": measured.metric if measured else None,
        "commit": candidate.commit,
        "parent": candidate.parent,
        "proposer": candidate.proposer,
        "hypothesis": candidate.hypothesis,
        "changes": list(candidate.changes),
        "measurement": measured.to_dict() if measured else None,
        "bar": experiment.bar,
        "evidence": [asdict(evidence) for evidence in experiment.evidence],
    }


def with_trials(experiment: Experiment, trials: Sequence[tuple[Trial, Measurement | None]]) -> dict[str, Any]:
    runs = [{"trial": t.id, "seed": t.seed, "measurement": m.to_dict() if m else None} for t, m in trials]
    return {**as_json_of(experiment), "trials": runs}


def in_short(experiment: Experiment) -> dict[str, Any]:
    """One row of the log."""
    keys = ("number", "status", "reason", "metric", "proposer", "hypothesis", "changes")
    facts = as_json_of(experiment)
    return {key: facts[key] for key in keys}


def bounded(value: Any, limit: int = 600) -> Any:
    """The same facts with each text made harmless and cut to ``limit`` characters, and each list to its first items."""
    if isinstance(value, str):
        return plain(value, limit)
    if isinstance(value, dict):
        return {plain(str(key), 100): bounded(one, limit) for key, one in list(value.items())[:ITEMS]}
    if isinstance(value, list | tuple):
        return [bounded(one, limit) for one in value[:ITEMS]]
    return value
