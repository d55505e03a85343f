"""What a run is forecast to bring and cost."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from nightlab.core.config import StopRules
from nightlab.core.types import ProposerUsage
from nightlab.engines.slots import WHOLE
from nightlab.loop.forecast import forecast, forecast_words, slots_words

SPENT = ProposerUsage(tokens=200_000, money=0.5, turns=10)


@pytest.mark.parametrize(
    ("stop", "each", "done", "spent", "words"),
    [
        ({"hours": 8}, 300, 0, None, "forecast: at most 86 experiments in 8 hours"),
        ({"experiments": 50}, 300, 0, None, "forecast: 50 experiments, at least 4.2 hours"),
        ({}, 300, 0, None, "forecast: at most 12 experiments an hour, until you stop it"),
        ({"hours": 8}, 0, 0, None, ""),
        ({}, 360, 10, SPENT, "forecast: about 10 experiments an hour, until you stop it"),
        (
            {"hours": 8, "experiments": 500},
            360,
            10,
            SPENT,
            "forecast: about 72 more experiments in 8 hours, for about 1.4 M tokens and $3.60",
        ),
        (
            {"hours": 8, "money": 1.0},
            360,
            10,
            SPENT,
            "forecast: about 10 more experiments until $1.00 are spent, about 1.0 hours, "
            "for about 200.0 k tokens and $0.50",
        ),
        ({"experiments": 11}, 30, 10, ProposerUsage(), "forecast: 1 more experiment, about 1 min"),
        ({"experiments": 5}, 30, 10, ProposerUsage(), ""),
    ],
)
def test_words(stop: dict[str, Any], each: float, done: int, spent: ProposerUsage | None, words: str) -> None:
    assert forecast_words(StopRules(**stop), each, 0.1, done, spent) == words


@pytest.mark.integration
def test_cheap_trials_on_a_cpu_are_told_of_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nightlab.loop.forecast.allocate_slots", lambda *_: [WHOLE, WHOLE])
    calm: Any = SimpleNamespace(device="cpu", lab=SimpleNamespace(timed=False))
    assert "--slots 2" in slots_words(calm, 0.6, 1)
    timed: Any = SimpleNamespace(device="cpu", lab=SimpleNamespace(timed=True))
    assert not (slots_words(calm, 0.6, 2) or slots_words(calm, 60.0, 1) or slots_words(timed, 0.6, 1))


def test_a_session_that_goes_on_is_forecast_by_what_its_trials_took(make_lab: Any) -> None:
    lab = make_lab()
    lab.idea("1", "A = 2.0\nB = 8\n")
    _, session = lab.run(experiments=1)
    assert session.budget.amount == 20
    first = forecast(session, StopRules(hours=1), 1)
    taken = sum(one.wall_seconds for _, one in session.ledger.trials() if one)
    assert f"about {int(3600 / (taken / 2)):,} more experiments in 1 hour" in first, "not by the budget of 20 s"
