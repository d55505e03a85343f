"""What may be done beside training is learned from the baseline; more counts as training."""

from __future__ import annotations

import math

import pytest

from nightlab.core.overhead import Answers, allowed, beyond, charged, figures, grace, learned, needs, words
from nightlab.core.types import Budget, Measurement

BUDGET = Budget("cpu", 10)
FREE = {"signals": 1.0, "over": 0.0, "start": 4.0, "start ahead": 0.5, "load": 0.2, "answer": 0.01}


def ran(trained: float = 10.0, started: float = 1.0, outcome: str = "measured", **overhead: float) -> Measurement:
    return Measurement(
        outcome,
        1.0,
        training_seconds=trained,
        startup_seconds=started,
        overhead=overhead or None,  # type: ignore[arg-type]
    )


def test_the_largest_of_each_figure_is_learned() -> None:
    free = learned([ran(10.4, start=1.0, load=0.1), ran(9.9, start=0.5, load=0.3, charged=0.1)], BUDGET)
    assert free == {"signals": 1.0, "over": 0.4, "start": 1.0, "load": 0.3}


def test_trials_that_failed_or_were_not_looked_at_teach_nothing() -> None:
    assert learned([ran(outcome="crashed", start=9.0)], BUDGET) is None
    old = learned([ran(started=0.0)], BUDGET)
    assert old == {"signals": 0.0} and grace(BUDGET, old) is None
    assert beyond(old, ("start", 99.0), []) == []


@pytest.mark.parametrize(("budget", "over", "more"), [
    (BUDGET, 0.0, 0.45), (BUDGET, 0.4, 0.6), (Budget("wall", 100), 0.0, 3.0),
])  # fmt: skip
def test_the_grace_is_what_sampling_and_the_baselines_steps_need(budget: Budget, over: float, more: float) -> None:
    assert grace(budget, {**FREE, "over": over}) == pytest.approx(more)


def test_a_figure_of_another_kind_stands_in_for_one_that_is_not_known() -> None:
    assert needs(FREE, "start ahead") == 0.5 and needs(FREE, "start ahead compiled") == 4.0
    assert allowed({"start ahead": 0.1}, "start") == math.inf, "nothing is known of a start without a head start"
    assert allowed(FREE, "load compiled") == 0.4 and allowed({}, "start") == 0


def test_what_counts_as_training() -> None:
    honest = [Answers(load=0.3, used=1.0, given=50), Answers(load=0.1, used=0.2)]
    assert beyond(FREE, ("start ahead", 0.9), honest) == []
    loads = beyond(FREE, None, [Answers(used=1.4)])
    assert charged(loads, "cpu") == pytest.approx(0.75) and charged(loads, "wall") == 0.0
    assert str(loads[0]) == "1.40 s to load what was handed over, 0.40 s are free"
    (each,) = beyond(FREE, None, [Answers(load=0.1, used=3.4, given=50)])
    assert (each.used, each.free) == (3.4, pytest.approx(2.4))
    everywhere = beyond(FREE, ("start ahead", 1.2), [Answers(load=0.6, used=0.6), Answers(load=0.6, used=0.6)])
    assert charged(everywhere, "cpu") == pytest.approx(0.2 * 3 - 0.25)


def test_a_trials_own_figures() -> None:
    answers = [Answers("load", 0.2, 1.2, 100), Answers("load compiled", 0.5, 0.7, 20), Answers()]
    assert figures(("start", 1.0), answers) == {"start": 1.0, "load": 0.2, "load compiled": 0.5, "answer": 0.01}
    assert figures(None, [Answers(used=2.0)]) == {"load": 2.0}


def test_in_words() -> None:
    assert words(FREE, "cpu") == (
        "beside training the baseline takes: answer 0.01 s, load 0.2 s, start 4 s, start ahead 0.5 s (CPU time); "
        "more counts as training, beyond 2 times start, 2 times load, 4 times answer"
    )
    assert words({"signals": 1.0}, "cpu") == words(None, "cpu") == ""
