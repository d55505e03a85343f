"""A session learns from its baseline what may be done beside training, and holds its candidates to that."""

from __future__ import annotations

from typing import Any

import pytest
from support.labs import CONTRACT, TinyLab

from nightlab.core.overhead import words
from nightlab.session.free import free_of_charge

MEASURE = """\
import time
import nightlab_guest
from genome import A
trial = nightlab_guest.trial()
trial.start()
print(f"METRIC loss={A}")
"""
LEARNS_FIRST = "import time\nwhile time.process_time() < 3: pass\nA = 1.0\n"


@pytest.fixture
def lab(make_lab: Any) -> TinyLab:
    contract = CONTRACT.format(proposer="patches").replace("amount = 20", 'clock = "cpu"\namount = 1')
    made: TinyLab = make_lab("A = 4.0\n", MEASURE, contract=contract)
    made.idea("1-honest", "A = 2.0\n")
    made.idea("2-learns-first", LEARNS_FIRST)
    return made


def test_a_candidate_that_learns_before_its_start_is_over_budget_also_after_a_resume(
    lab: TinyLab, nightlab: Any
) -> None:
    _, session = lab.run(experiments=1)
    budget = session.budget.record()
    free = free_of_charge(session.ledger, budget)
    assert free is not None and free["signals"] == 1 and 0 < free["start"] < 1, free
    assert "start" in words(free, budget.clock)
    session.close()

    _, session = lab.run(stall=1)
    reasons = {e.number: e.verdict and e.verdict.reason for e in session.ledger.experiments()}
    assert reasons == {0: "baseline", 1: "improved", 2: "over budget"}, reasons
    trials = {trial.experiment: (trial, measured) for trial, measured in session.ledger.trials()}
    assert trials[0][0].free is None and trials[1][0].free == trials[2][0].free == free
    measured = trials[2][1]
    assert measured is not None and "before its start signal" in measured.detail
    session.close()
    for command in ("check", "log"):
        assert "beside training the baseline takes: start " in nightlab(command, cwd=lab).out
