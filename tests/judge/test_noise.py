"""What one trial's noise is, and a gain in units of it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from nightlab.core.types import Metric
from nightlab.judge import in_sigmas, pooled


@pytest.mark.parametrize(
    ("goal", "value", "gain", "sigmas"),
    [
        ("minimise", 0.1, 0.3, math.log(4) / 0.5),
        ("minimise", 0.01, 0.03, math.log(4) / 0.5),
        ("minimise", 0.4, -0.3, -math.log(4) / 0.5),
        ("maximise", 0.4, 0.3, math.log(4) / 0.5),
        ("maximise", 0.1, -0.3, -math.log(4) / 0.5),
        ("minimise", 0.1, -0.3, -150.0),
    ],
)
def test_a_gain_in_sigmas_is_a_ratio_where_ratios_are_compared(
    goal: Any, value: float, gain: float, sigmas: float
) -> None:
    metric = Metric("m", goal)
    assert in_sigmas(metric, value, gain, 0.002, 0.5) == pytest.approx(sigmas)
    assert in_sigmas(metric, value, gain, 0.002) == pytest.approx(gain / 0.002)
    assert in_sigmas(metric, None, gain, 0.0, 0.5) is None


def test_only_the_noise_of_ratios_is_a_share_of_a_value() -> None:
    assert pooled([[1.0, 2.0]], 0.1, "ratio").relative > 0 and pooled([[1.0, 2.0]], 0.1).relative == 0
