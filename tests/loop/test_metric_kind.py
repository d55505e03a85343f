"""What is said of the metric's noise as the trials show it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from nightlab.core.types import Budget, Measurement, Trial
from nightlab.judge import Noise
from nightlab.loop.metric_kind import MetricKind

TRIAL = Trial("", 1, "", 1, "search", Budget("work", 1.0))


class Night:
    """What ``MetricKind`` has of a scheduler, with a noise that changes."""

    def __init__(self, same_seeds: bool) -> None:
        self.noise, self.said = Noise(1.0, 3.0), list[str]()
        self.ledger = SimpleNamespace(trials=lambda *_: [])
        self.replicates = SimpleNamespace(noise=lambda: self.noise)
        self.view = SimpleNamespace(say=self.said.append)
        scale = SimpleNamespace(metric=SimpleNamespace(scale="difference"))
        rule = SimpleNamespace(rule=SimpleNamespace(same_seeds=same_seeds))
        self.session: Any = SimpleNamespace(lab=scale, judge=rule, metric=SimpleNamespace(name="loss"))


@pytest.mark.parametrize("same_seeds", [False, True])
def test_common_luck_is_said_where_it_begins_to_show_and_where_it_ceases(same_seeds: bool) -> None:
    night = Night(same_seeds)
    kind = MetricKind(night)
    for rho in (0.0, 0.84, 0.8, 0.0, 0.0, 0.5):
        night.noise = Noise(1.0, 3.0, rho=rho)
        kind.learn(TRIAL, Measurement("measured", 1.0))
    said = [("about 84%" in each, "rho 0)" in each) for each in night.said]
    assert said == ([] if same_seeds else [(True, False), (False, True), (False, False)])
