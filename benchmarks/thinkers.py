"""Do proposers keep many slots busy? python benchmarks/thinkers.py [--slots 8] [--trial 60] [--turn 60] [--turns 1 16]

A real session (ledger, git, judge, queue) on an engine whose trials only wait, so that one machine stands for many,
with a proposer whose turns only wait. Printed: the share of the slots' time in which a trial ran, from the first
candidate's start to the last one's, for one turn at a time, and for as many as the queue wants.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from machine import heading, table
from slots import make_lab

from nightlab.core.config import StopRules
from nightlab.core.observer import Observer
from nightlab.core.types import Measurement, Platform, Trial
from nightlab.engines.slots import Slot
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.scheduler import Scheduler
from nightlab.proposers import Briefing, Mixture, Proposal
from nightlab.proposers.backoff import Backoff
from nightlab.sandbox.bubblewrap import PROTECTIONS
from nightlab.session.session import Session


@dataclass
class Waiting:
    """A trial that waits until its end."""

    trial: Trial
    slot: Slot
    begun: float
    seconds: float

    def phase(self) -> tuple[str, float | None]:
        return "training", None

    def finished(self) -> bool:
        return time.monotonic() >= self.begun + self.seconds

    def stop(self) -> None:
        self.seconds = 0.0


class WaitingEngine:
    """An engine whose trials wait for ``seconds`` and measure their number: each a little worse than the baseline."""

    def __init__(self, session: Session, seconds: float) -> None:
        self.seconds, self.sandbox = seconds, session.sandbox
        self.platform: Platform = session.platform
        self.spans: list[tuple[float, float]] = []

    def slots(self, count: int | None) -> list[Slot]:
        return [Slot(number) for number in range(count or 1)]

    def slot_failure(self, slot: Slot) -> str:
        return ""

    def start(self, trial: Trial, slot: Slot) -> Waiting:
        seconds = self.seconds if trial.experiment else 0.5
        return Waiting(trial, slot, time.monotonic(), seconds)

    def collect(self, handle: Waiting) -> Measurement:
        if handle.trial.experiment:
            self.spans.append((handle.begun, handle.begun + handle.seconds))
        number = float(handle.trial.experiment)
        return Measurement("measured", metric=1 + number, training_seconds=handle.seconds, wall_seconds=handle.seconds)

    def stand_by(self, like: Trial, slot: Slot) -> None: ...
    def dismiss(self) -> None: ...
    def adopt(self, trial: Trial) -> Waiting:
        return Waiting(trial, Slot(0), time.monotonic(), 0.0)


class Thinker:
    """A proposer whose turns take ``seconds``."""

    name = "thinker"
    numbers = itertools.count(1)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def propose(self, briefing: Briefing) -> Proposal:
        time.sleep(self.seconds)
        return Proposal(self.name, "another number", {"genome.py": f"A = {next(self.numbers)}\n"})

    def stop(self) -> None: ...


def busy(slots: int, trial: float, turn: float, turns: int, each: int) -> float:
    """The share of the slots' time in which a trial ran, over ``each`` candidates a slot."""
    with tempfile.TemporaryDirectory() as home:
        session = Session.create(make_lab(Path(home) / "lab", "", 0), "s", device="cpu", allow=PROTECTIONS)
        engine = WaitingEngine(session, trial)
        scheduler = Scheduler(session, Observer(), slots, engine)
        night = ExperimentLoop(session, StopRules(experiments=slots * each), scheduler)
        thinkers = [Thinker(turn) for _ in range(turns)]
        night.candidates.turns.proposers = Mixture({"thinker": (Backoff(*thinkers), 1.0)}, {})
        night.run()
        session.close()
    # The last round is left out: a slot that ends first then has nothing more to do.
    last = sorted(begun for begun, _ in engine.spans)[-slots]
    first = min(begun for begun, _ in engine.spans)
    return sum(max(min(end, last) - begun, 0.0) for begun, end in engine.spans) / (slots * (last - first))


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--slots", type=int, default=8)
    ask.add_argument("--trial", type=float, default=60.0, help="seconds of a trial")
    ask.add_argument("--turn", type=float, default=60.0, help="seconds of a turn")
    ask.add_argument("--each", type=int, default=4, help="candidates for each slot")
    ask.add_argument("--turns", type=int, nargs="+", default=[1, 16], help="turns at the same time, at most")
    args = ask.parse_args()
    heading("Slots kept busy by proposers that think")
    rows = []
    for turns in args.turns:
        share = busy(args.slots, args.trial, args.turn, turns, args.each)
        rows.append([f"{turns}", f"{args.slots}", f"{args.trial:g}", f"{args.turn:g}", f"{share:.1%}"])
    table(["turns at most", "slots", "trial s", "turn s", "slots busy"], rows)


if __name__ == "__main__":
    main()
