"""A metric that is a time: a bar of a slower machine decides nothing, and where speed is no matter, load is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nightlab.core.config import parse
from nightlab.core.events import MachineChanged, Rechecked
from nightlab.engines.local.read_result import build_measurement

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
