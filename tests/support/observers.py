"""Observers that remember what they were told."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from nightlab.core.observer import Observer, RunningTrialStatus


class Counting(Observer):
    def __init__(self) -> None:
        self.flights: list[set[str]] = []

    def tick(self, flights: Sequence[RunningTrialStatus]) -> None:
        self.flights.append({flight.trial.id for flight in flights})


WAITS = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.02)\n"


class Together(Counting):
    """Lets trials that wait (``WAITS``) end once ``count`` of them run at the same time."""

    def __init__(self, trials: Path, count: int) -> None:
        super().__init__()
        self.trials, self.count, self.met = trials, count, False

    def tick(self, flights: Sequence[RunningTrialStatus]) -> None:
        super().tick(flights)
        self.met = self.met or len(flights) >= self.count
        for flight in flights if self.met else ():
            with contextlib.suppress(OSError):  # its copy is not there yet, or not any more
                (self.trials / flight.trial.id / "work" / "go").touch()
