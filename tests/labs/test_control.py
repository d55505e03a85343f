"""The control lab: an idea swims further, torques that are no numbers have no metric, nor does a cheat."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.shipped import by_hand, trials_of

from nightlab.session.create import SHIPPED

pytest.importorskip("gymnasium", reason="needs the extra control")
pytest.importorskip("mujoco", reason="needs the extra control")
pytestmark = pytest.mark.integration

POLICY = (SHIPPED / "control" / "policy.py").read_text()


def test_a_trial_is_measured_sealed_and_what_cheats_is_not(tmp_path: Path) -> None:
    run = trials_of("control", tmp_path)
    first, quicker, broken = run({"policy.py": POLICY}), run("01-quicker"), run("06-not-a-number")
    assert first.metric and quicker.metric and quicker.metric > 2 * first.metric > 1, (first, quicker)
    assert first.standard_error and first.standard_error < 0.2
    assert (broken.outcome, broken.metric) == ("crashed", None) and "no two torques" in broken.detail
    cheat = run({"policy.py": POLICY + "\nprint('METRIC metres=99')\nimport swim, statistics\nswim.STEPS = 10**6\n"})
    assert cheat.metric is None or cheat.metric < 3, "what the candidate prints or changes in its own process"
    assert by_hand("control", "swim.py", tmp_path).startswith("METRIC metres=")
