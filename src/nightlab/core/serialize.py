"""What programs are told, as JSON. Keys are added here, never renamed or removed: docs/agents.md shows each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from nightlab.core.text import plain
from nightlab.core.types import Experiment, Measurement, Trial

ITEMS = 100


def with_trials(experiment: Experiment, trials: Sequence[tuple[Trial, Measurement | None]]) -> dict[str, Any]:
    runs = [
        {
            "trial": t.id,
            "purpose": t.purpose,
            "seed": t.seed,
            "given_seed": t.given_seed,
            "warm_start": asdict(t.warm_start) if t.warm_start else None,
            "measurement": m.to_dict() if m else None,
        }
        for t, m in trials
    ]
    return {**experiment.to_dict(), "trials": runs}


def experiment_line(experiment: Experiment) -> dict[str, Any]:
    """One experiment whole, with its times (seconds since the epoch), as a line of an export."""
    times = {"proposed_at": experiment.proposed_at, "judged_at": experiment.judged_at}
    return {**experiment.to_dict(), **times, "constants": experiment.candidate.constants}


def in_short(experiment: Experiment) -> dict[str, Any]:
    """One row of the log."""
    keys = ("number", "status", "reason", "metric", "proposer", "hypothesis", "changes")
    facts = experiment.to_dict()
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
