"""A metric that is a time: a bar of a slower machine decides nothing, and where speed is no matter, load is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nightlab.core.config import parse
from nightlab.core.events import MachineChanged, Rechecked
from nightlab.core.observer import Observer
from nightlab.core.types import Trial
from nightlab.engines.local.handles import RunningTrial
from nightlab.engines.local.read_result import build_measurement
from nightlab.engines.slots import Slot
from nightlab.loop.scheduler import Scheduler

CONTRACT = """\
name = "timed"
genome = ["genome.py"]
command = "python measure.py"

[metric]
name = "milliseconds"

[budget]
amount = 20

[judge]
confirm = 0

[sandbox]
allow_missing = ["files", "network", "processes", "privileges"]

[[proposers]]
kind = "patches"
"""
# As if the machine had been three times as slow while the baseline was measured, on its own seeds.
MEASURE = """\
import os
from genome import A
print(f"METRIC milliseconds={A * (3 if A == 10 and int(os.environ['NIGHTLAB_SEED']) < 400 else 1)}")
"""


def test_a_bar_measured_under_load_is_measured_again_before_it_decides(make_lab: Any) -> None:
    lab = make_lab("A = 10.0\n", MEASURE, contract=CONTRACT)
    for name, value in (("01", 20.0), ("02", 8.0), ("03", 90.0)):
        lab.idea(name, f"A = {value}\n")
    _, session = lab.run()
    slower, faster, _ = session.ledger.experiments()[1:]
    assert not slower.kept and slower.verdict.reason == "regressed", "20 is better than the bar of 30, not than 10"
    first, *_ = session.ledger.events(Rechecked)
    assert (first.before, first.bar) == (30.0, 10.0)
    assert faster.kept and faster.bar == pytest.approx(8.0, abs=0.01)
    assert session.ledger.latest(MachineChanged).since == 3, "its second trial included"
    rounds = [(trial.commit, trial.seed) for trial, _ in session.ledger.trials(faster.number, "round")]
    own, champion = faster.candidate.commit, faster.candidate.parent
    assert [commit for commit, _ in rounds] == [own, champion, champion, own] * 2, "in turn: ABBA"
    assert [seed - rounds[0][1] for _, seed in rounds] == [
        0,
        0,
        1,
        1,
        2,
        2,
        3,
        3,
    ] and "in 4 rounds" in faster.verdict.detail
    assert not session.ledger.trials(slower.number, "round"), "only what the rule would keep is measured in rounds"
    session.close()


# The first look at 9 is lucky: beside the champion it is slower.
LUCKY = """\
import os
from genome import A
print(f"METRIC milliseconds={12.0 if A == 9 and int(os.environ['NIGHTLAB_SEED']) > 5000 else A}")
"""


def test_a_lucky_first_look_is_not_kept(make_lab: Any) -> None:
    lab = make_lab("A = 10.0\n", LUCKY, contract=CONTRACT)
    lab.idea("01", "A = 9.0\n")
    _, session = lab.run()
    lucky = session.ledger.experiment(1)
    assert not lucky.kept and lucky.verdict.reason == "regressed" and "1.2 times worse" in lucky.verdict.detail
    assert lucky.measurement.metric == 12, "what the verdict rests on"
    session.close()


def test_rounds_stay_on_the_cores_that_the_candidate_ran_on(make_lab: Any) -> None:
    session = make_lab("A = 10.0\n", MEASURE, contract=CONTRACT).session()
    scheduler = Scheduler(session, Observer())
    scheduler.slots = [Slot(0, (0,)), Slot(1, (1,))]
    trial = Trial("x", 3, "c", 5001, "round", session.budget.record())
    scheduler._slot_of[3] = 1
    assert scheduler._slot_for(trial).number == 1 and not scheduler.must_wait(3) and not scheduler.must_wait(4)
    scheduler.running["y"] = RunningTrial(replace(trial, id="y"), session.folder, None, scheduler.slots[1])
    assert scheduler.must_wait(3) and not scheduler.must_wait(4)
    assert scheduler._slot_for(replace(trial, purpose="search")).number == 0
    session.close()


@pytest.mark.parametrize(("timed", "disturbed"), [("false", False), ("true", True)])
def test_a_disturbance_is_no_matter_to_a_metric_that_does_not_depend_on_speed(
    tmp_path: Path, timed: str, disturbed: bool
) -> None:
    lab = parse(CONTRACT.replace('"milliseconds"', f'"makespan"\ntimed = {timed}'))
    (tmp_path / "spec.json").write_text('{"clock": "wall"}')
    (tmp_path / "candidate.log").write_text("METRIC makespan=12\n")
    machine = {"seconds": 20.0, "own_cores": 1.0, "other_cores": 1e6, "stolen": 0.0, "cores": 1}
    found = build_measurement(lab, tmp_path, {"outcome": "measured", "machine": machine}, shared=False)
    assert found.metric == 12 and bool(found.disturbed) is disturbed
