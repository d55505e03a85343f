"""A program that begins while the trial before it trains: it runs up to its start signal, and is held there.

Until the signal it may use what is free before a start, and never more than ``SHARE`` of the budget or than one core;
after it nothing, and that counts as training. One that does otherwise is ended, and its trial starts anew: no verdict.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from nightlab.core.overhead import SMALL, Figures
from nightlab.engines.local.beside import Beside
from nightlab.engines.local.launch import Launch
from nightlab.engines.local.outcome import TrialEnded
from nightlab.engines.local.resource_sampler import ResourceSampler

BEGIN = "begin\n"  # to a supervisor that stands by: its trial is known, and its program begins
TICK, SAMPLE, LEAST = 0.1, 0.5, 0.001  # as those of a supervisor, in seconds
AHEAD = "start ahead"  # the name of such a figure
WORTH = 0.5  # CPU seconds of a start from which on it is worth that
# Of the budget, in CPU seconds that a program may take beside another's training. With two beside it a training makes
# 0.972 of the steps (standard error 0.018), and a tenth fewer cost 2.0 standard deviations of the metric: so a third,
# at the most that two standard errors allow, costs 0.43 of one (docs/speed.md).
SHARE = 1 / 3
FULL = 90.0  # percent of the machine's memory in use, at which the trial that trains has it to itself
ABOVE = 1.0  # seconds by which it may be over one core: its processes end, and others begin


def worth_holding(free: Figures | None, lately: Sequence[float], amount: float) -> bool:
    """Whether starts take long, but not beside a budget of this amount.

    ``free``: what the baseline showed. ``lately``: seconds of the latest starts whose imports had been made ahead.
    """
    if not free or "over" not in free or not free.get("signals"):
        return False
    import statistics  # not in a supervisor

    compiled = [value for name, value in free.items() if name.startswith("start") and name.endswith("compiled")]
    usual = free.get(AHEAD, statistics.median(lately) if lately else 0.0)
    return max([usual, *compiled]) >= WORTH and usual <= SHARE * amount


class HeldStart:
    """Runs the program of the trial in ``folder``, whose imports are made, in its supervisor.

    The folder is looked at by a descriptor: it is renamed once the trial begins, before there is a line that says so.
    ``signalled``: CPU seconds of the candidate at its start signal, once that has come.
    """

    def __init__(
        self, spec: dict[str, Any], folder: Path, launch: Launch, beside: Beside, sampler: ResourceSampler
    ) -> None:
        self.spec, self.launch, self.beside, self.sampler = spec, launch, beside, sampler
        self.children = launch.children
        self.folder = Path(f"/proc/self/fd/{os.open(folder, os.O_RDONLY | os.O_DIRECTORY)}")  # held on Linux alone
        self.begun = self.sampled = time.monotonic()
        self.signalled: float | None = None

    @property
    def seconds(self) -> float:
        """For how long it has run, or been held."""
        return time.monotonic() - self.begun

    def run(self, orders: int, exits: int) -> str:
        """Until there is a line of ``orders``, as ``read_line``. Raises TrialEnded where it does what it may not."""
        self.beside.move(self.folder, self.spec)
        self.beside.begin(ahead=True)
        self.launch.begin()
        while True:
            time.sleep(LEAST)  # however much it signals
            heard, _, _ = select.select([orders, exits, *self.launch.sources()], [], [], TICK)
            with contextlib.suppress(BlockingIOError):
                os.read(exits, 4096)
            self._look()
            if orders in heard:
                return read_line(orders)

    def _look(self) -> None:
        for role in self.launch.imported():
            self.beside.imported(role)
        for line in self.launch.signals():
            if line != b"start" or self.signalled is not None:
                raise TrialEnded("lost", "it did not wait for its time")
            self.beside.started()
            self.signalled = self.children.cpu()
        if self.children.status("candidate") is not None:
            raise TrialEnded("lost", "it ended before its time")
        if (now := time.monotonic()) - self.sampled > SAMPLE:
            self.sampled = now
            self.sampler.sample(self.spec, self.folder)
            self._hold_to_limits(self.children.cpu())

    def _hold_to_limits(self, cpu: float) -> None:
        if psutil.virtual_memory().percent > FULL:
            raise TrialEnded("lost", "memory is short")
        if self.signalled is not None:
            if cpu - self.signalled > SMALL["cpu"]:
                raise TrialEnded("lost", "it did not wait for its time")
            return
        used = cpu - self.beside.begun_cpu
        if self.beside.beyond(starting=True) or used > SHARE * self.spec["amount"]:
            raise TrialEnded("lost", f"its start took {used:.1f} s of CPU time beside another training")
        if used > self.seconds + ABOVE:
            raise TrialEnded("lost", "its start took more than the core that the training leaves")
        if self.seconds > self.spec["startup"]:
            raise TrialEnded("lost", f"its start took more than {self.spec['startup']:g} s")


def read_line(orders: int) -> str:
    """The next line, with nothing read beyond it; empty at the end of what is said."""
    found = b""
    while not found.endswith(b"\n"):
        if not (byte := os.read(orders, 1)):
            return ""
        found += byte
    return os.fsdecode(found)
