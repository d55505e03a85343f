"""The budget without a start signal: it runs from the launch, on the contract's clock, and an overrun is a verdict."""

from __future__ import annotations

from typing import Any

import pytest
from support.bench import GUEST, LEAST

METRIC = "print('METRIC loss=1')\n"
WAIT = "import time; time.sleep(3)\n"
BURN = "import time\nwhile time.process_time() < 3: pass\n"


@pytest.mark.parametrize(("clock", "program"), [("wall", WAIT), ("cpu", BURN)])
def test_a_program_that_takes_longer_is_over_budget(bench: Any, clock: str, program: str) -> None:
    one = bench(program + METRIC, LEAST, amount=0.5, startup=30, clock=clock)
    measured = one.run()
    assert (measured.outcome, measured.metric) == ("over budget", None)
    assert "from its launch" in measured.detail and "the budget is 0.5 s" in measured.detail


def test_one_that_ends_within_it_is_measured(bench: Any) -> None:
    measured = bench(METRIC, LEAST, amount=20, startup=1).run()
    assert measured.outcome == "measured" and measured.startup_seconds == 0.0 < measured.training_seconds


def test_a_start_signal_makes_the_start_free(bench: Any) -> None:
    program = f"{WAIT}{GUEST}trial.start()\n{METRIC}"
    measured = bench(program, LEAST, amount=0.5, startup=30).run()
    assert measured.outcome == "measured" and measured.startup_seconds > 2.5 > measured.training_seconds


def test_after_a_baseline_without_a_signal_nothing_waits_for_one(bench: Any) -> None:
    one = bench("import time; time.sleep(600)", LEAST, amount=0.5, startup=600)
    measured = one.run(free={"signals": 0.0})
    assert measured.outcome == "over budget" and measured.wall_seconds < 60
