"""The budget without a start signal: it runs from the launch, on the contract's clock, and an overrun is a verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.bench import GUEST, LEAST

from nightlab.engines.local.layout import baseline_signals

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
    baseline = one.box.folder / "0000-search-s1"
    baseline.mkdir(parents=True)
    (baseline / "result.json").write_text('{"outcome": "measured", "startup_seconds": 0.0}')
    measured = one.run()
    assert measured.outcome == "over budget" and measured.wall_seconds < 60


def test_what_the_baseline_said(tmp_path: Path) -> None:
    assert baseline_signals(tmp_path) is None
    for number, outcome, startup, says in ((1, "crashed", 0.0, None), (2, "measured", 1.5, True)):
        (tmp_path / f"0000-search-s{number}").mkdir()
        text = f'{{"outcome": "{outcome}", "startup_seconds": {startup}}}'
        (tmp_path / f"0000-search-s{number}" / "result.json").write_text(text)
        assert baseline_signals(tmp_path) is says
