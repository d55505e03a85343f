"""The playbook lab: a rule is asked at each turn, knows no future, and is compared on the same days."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from support.shipped import by_hand, lab_module, trials_of

from nightlab.session.create import SHIPPED

POLICY = (SHIPPED / "playbook" / "policy.py").read_text()


@pytest.fixture
def days(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = lab_module("playbook", "days")
    monkeypatch.setattr(module, "draw", random.Random(1))
    monkeypatch.setattr(module, "PEOPLE", 1)
    return module


def test_waiting_costs_its_weight_and_being_late_costs_more(days: Any) -> None:
    first, second = days.Incident(0, 1, 0.0, 100.0, 30.0), days.Incident(0, 10, 0.0, 45.0, 20.0)
    assert days.play([first, second], lambda now, waiting: 0) == 1 * 30 + 10 * 50 + 200
    assert days.play([first, second], days.heaviest) == 10 * 20 + 1 * 50
    later = days.Incident(0, 1, 500.0, 900.0, 10.0)
    assert days.play([later], days.heaviest) == 10, "someone who is free waits for it"


@pytest.mark.parametrize("index", [-1, 1, 10**9])
def test_an_incident_that_does_not_wait_can_not_be_taken(days: Any, index: int) -> None:
    with pytest.raises(ValueError, match="is none of the 1 incidents"):
        days.play(days.incidents(), lambda now, waiting: index)


def test_every_incident_is_solved_whatever_the_order(days: Any) -> None:
    day, draw = days.incidents(), random.Random(2)
    seen = []
    days.play(day, lambda now, waiting: seen.append(waiting[(i := draw.randrange(len(waiting)))]) or i)
    assert sorted(seen) == sorted(day)


SPY = """

import os, random, sys
foreseen = set()
for chance in (random.Random(os.environ["NIGHTLAB_SEED"]), random.Random(int(os.environ["NIGHTLAB_SEED"]))):
    foreseen |= {chance.expovariate(1 / 22) for _ in range(1000)}
plain = choose
def choose(now, waiting):
    assert not hasattr(waiting[0], "minutes") and not foreseen & {incident.opened for incident in waiting}
    return plain(now, waiting)
print("METRIC cost=0.01")
"""

LEARNS = """

turns, plain = [], choose
def choose(now, waiting):
    turns.append(now)
    return plain(now, waiting) if len(turns) < 100 else len(waiting) - 1
"""

FORGETS_AT_LAST = """

days, last, plain = 0, 0.0, choose
def choose(now, waiting):
    global days, last
    days, last = days + (now < last), now
    return len(waiting) - 1 if 10 < days < 37 else plain(now, waiting)
"""


@pytest.mark.integration
def test_a_rule_that_looks_ahead_sees_nothing_and_one_that_leaves_an_incident_has_no_metric(tmp_path: Path) -> None:
    run = trials_of("playbook", tmp_path)
    spy, leaves = run({"policy.py": POLICY + SPY}), run("05-leave-it")
    assert spy.outcome == "measured", spy.detail
    assert spy.metric and spy.metric > 0.9 and spy.standard_error and 0 < spy.standard_error < 0.1
    assert (leaves.outcome, leaves.metric) == ("crashed", None) and "is none of the" in leaves.detail
    for learning in (LEARNS, FORGETS_AT_LAST):
        learns = run({"policy.py": POLICY + learning})
        assert learns.outcome == "tampered" and "has seen other days before" in learns.detail, learns
    assert by_hand("playbook", "days.py", tmp_path).startswith("METRIC cost=1")
