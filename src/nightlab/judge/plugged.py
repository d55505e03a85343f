"""A keep rule of another package: a comparison in which it fails keeps nothing, and the night goes on."""

from __future__ import annotations

import math
from typing import Any

from nightlab.core.text import one_line
from nightlab.core.types import Metric, Verdict
from nightlab.judge.judge import Contestant, NeedsTrial
from nightlab.judge.noise import Noise


class PluggedRule:
    """Asks a plug-in for its verdicts."""

    def __init__(self, name: str, rule: Any) -> None:
        self.name, self.rule = name, rule
        self.baseline_runs, self.same_seeds = max(int(rule.baseline_runs), 1), bool(rule.same_seeds)

    def compare(
        self, metric: Metric, champion: Contestant, candidate: Contestant, noise: Noise
    ) -> Verdict | NeedsTrial:
        """The rule's verdict; if it raises, or returns none that can be used, a discard that says so."""
        try:
            found = self.rule.compare(metric, champion, candidate, noise)
        except Exception as error:
            return self._failed(f"raised {type(error).__name__}: {error}")
        if isinstance(found, NeedsTrial):
            known = (candidate if found.who == "candidate" else champion).runs
            return self._failed(f"asked again for seed {found.seed}") if found.seed in known else found
        if not isinstance(found, Verdict):
            return self._failed(f"returned {type(found).__name__}, not a Verdict or NeedsTrial")
        if found.status not in ("keep", "discard"):
            return self._failed(f"returned the status {found.status!r}, not keep or discard")
        if found.status == "keep" and not (isinstance(found.bar, int | float) and math.isfinite(found.bar)):
            return self._failed("kept it without a finite bar")
        return found

    def remeasured(self, bar: float, weight: int, value: float) -> float:
        """The rule's new bar; if it raises, or returns no finite number, the old one."""
        try:
            found = float(self.rule.remeasured(bar, weight, value))
        except Exception:
            return bar
        return found if math.isfinite(found) else bar

    def _failed(self, why: str) -> Verdict:
        return Verdict("discard", "inconclusive", f"the rule {self.name} {one_line(why)}")
