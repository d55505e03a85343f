"""What a proposer is told: which earlier programs."""

from __future__ import annotations

from nightlab.core.types import Candidate, Experiment, Measurement, Metric
from nightlab.loop.briefing import unlike


def tried(number: int, metric: float | None, *theme: str) -> Experiment:
    candidate = Candidate(f"c{number}", "c0", f"t{number}", "model", "", theme=theme)
    outcome = "measured" if metric is not None else "crashed"
    return Experiment(number, candidate, 0.0, Measurement(outcome, metric))  # type: ignore[arg-type]


def test_the_best_and_others_that_change_other_parts() -> None:
    past = [
        tried(0, 9.0),
        tried(1, 1.0, "a"),
        tried(2, 1.1, "a"),
        tried(3, 1.2, "a"),
        tried(4, 8.0, "b"),
        tried(5, None, "c"),
    ]
    lower, higher = Metric("loss"), Metric("score", "maximise")
    assert [e.number for e in unlike(past, past[1], lower)] == [2, 4, 0]
    assert [e.number for e in unlike(past, past[0], lower)] == [1, 4, 2]
    assert unlike(past, past[0], higher)[0].number == 4
    assert unlike(past[:1], past[0], lower) == []
