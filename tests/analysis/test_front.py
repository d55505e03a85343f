"""The front: what no other experiment equals or beats in all objectives, of those that may be kept."""

from __future__ import annotations

from nightlab.analysis.front import front
from nightlab.core.types import Candidate, Experiment, Measurement, Metric, Verdict

METRIC = Metric("score", "maximise")


def experiment(number: int, score: float | None, reason: str = "regressed", **others: float) -> Experiment:
    measured = Measurement("measured", score, secondary=others, peak_memory_mb=100.0 - number)
    status = "keep" if reason in ("baseline", "improved") else "discard"
    return Experiment(number, Candidate("c", "", "t", "tuner", "an idea"), 0.0, measured, Verdict(status, reason))


def test_what_is_worse_in_one_has_to_be_better_in_another() -> None:
    found = front(
        [
            experiment(0, 1.0, "baseline", size=5.0),
            experiment(1, 3.0, "improved", size=9.0),
            experiment(2, 2.0, size=9.0),
            experiment(3, 2.0, size=4.0),
            experiment(4, 2.0, size=4.0),
            experiment(5, 0.5, size=1.0),
        ],
        METRIC,
        {"size": "minimise"},
    )
    assert found.names == ("score", "size")
    assert [(e.number, values) for e, values in found.members] == [(1, (3.0, 9.0)), (3, (2.0, 4.0)), (5, (0.5, 1.0))]


def test_what_exceeds_a_limit_or_lacks_a_number_is_not_on_it() -> None:
    tried = [
        experiment(0, 1.0, "baseline", size=5.0),
        experiment(1, 9.0, "over limit", size=1.0),
        experiment(2, 9.0, "improved"),
        experiment(3, None, "crashed", size=1.0),
        experiment(4, 9.0, size=float("nan")),
    ]
    assert [e.number for e, _ in front(tried, METRIC, {"size": "minimise"}).members] == [0]


def test_three_objectives_and_what_a_trial_used() -> None:
    tried = [experiment(0, 1.0, "baseline", a=1.0), experiment(1, 1.0, a=1.0), experiment(2, 2.0, a=0.0)]
    found = front(tried, METRIC, {"a": "maximise", "peak_memory_mb": "minimise"})
    assert [e.number for e, _ in found.members] == [2, 1]
