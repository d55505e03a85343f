"""A session in which the next candidate's program begins while a trial trains."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Sequence
from typing import Any

import pytest
from support.bench import GUEST
from support.labs import TinyLab
from support.observers import Counting

from nightlab.core.config import StopRules
from nightlab.core.events import TrialFinished
from nightlab.core.observer import RunningTrialStatus
from nightlab.engines import slots
from nightlab.loop import scheduler
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.scheduler import Scheduler
from nightlab.session.session import Session, detect_sandbox

# Its start takes a while, as a compiler does, and it trains until it is let go.
GENOME = (
    GUEST + "import os, time\nA = 9.0\n# 1\n# 2\n# 3\nB = 1\n"
    "until = time.process_time() + 0.7\nwhile time.process_time() < until: pass\nprint('COMPILED', flush=True)\n"
    "trial.start()\nprint('METRIC began=%.3f' % time.time(), flush=True)\n"
    "while not os.path.exists('go'): time.sleep(0.02)\nprint('METRIC loss=%g' % A)\n"
)
LAST = 3
LOOKS = 20  # at a trial beside which nothing may begin


class LetsGo(Counting):
    """Lets a trial of those that ``wait`` end once the next one's program waits at its start; others after some looks.

    ``then`` is called with the number of a trial beside which another is held: whether it may end.
    """

    def __init__(
        self, session: Session, *, wait: Collection[int], then: Callable[[int], bool] = lambda number: True
    ) -> None:
        super().__init__()
        self.engine, self.waiting, self.then, self.looks = session.local_engine, wait, then, 0
        self.begun = set[int]()  # experiments whose program began before its trial

    def tick(self, flights: Sequence[RunningTrialStatus]) -> None:
        super().tick(flights)
        self.begun |= {ready.held.experiment for ready in self.engine.standing_by.values() if ready.held}
        for flight in flights:
            number = flight.trial.experiment
            self.looks += flight.phase == "training"
            if flight.phase == "training" and (
                (self._held(number) and self.then(number)) if number in self.waiting else self.looks > LOOKS
            ):
                self.looks = 0
                with contextlib.suppress(OSError):
                    (self.engine.folder / flight.trial.id / "work" / "go").touch()

    def _held(self, number: int) -> bool:
        """Whether the program after that of an experiment has come to its start signal."""
        ready = self.engine.standing_by.get(0)
        if ready is None or ready.held is None or ready.held.experiment != number + 1:
            return False
        return "COMPILED" in (ready.folder / "candidate.log").read_text()


@pytest.fixture
def compiling(make_lab: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., TinyLab]:
    """A lab with a slow start, on a machine of two cores; ``values`` of the ideas, of which 9 is the baseline's."""
    monkeypatch.setattr(slots, "_cores", lambda: [0, 1])
    if not detect_sandbox().movable:
        pytest.skip("nothing waits here")

    def make(values: Sequence[float], more: str = "[resources]\ncpus = 1\n\n", name: str = "lab") -> TinyLab:
        lab = make_lab(GENOME, name=name)
        contract = (
            (lab.folder / "lab.toml")
            .read_text()
            .replace('"python measure.py"', '"python genome.py"\nwarm = ["decimal"]')
        )
        contract = contract.replace("amount = 20", 'clock = "cpu"\namount = 20')
        lab.commit(lab_toml=contract.replace("[judge]", f"{more}[judge]", 1))
        for number, value in enumerate(values, 1):
            lab.idea(
                f"0{number}", GENOME.replace("A = 9.0", f"A = {value}") if value else GENOME.replace("B = 1", "B = 2")
            )
        return lab

    return make


def night(lab: TinyLab, wait: Collection[int], begun: Collection[int]) -> Session:
    session = lab.session(device="cpu")
    view = LetsGo(session, wait=wait)
    ExperimentLoop(session, StopRules(experiments=LAST), Scheduler(session, view)).run()
    assert view.begun == set(begun) and not list(session.local_engine.folder.glob("ahead-*"))
    return session


def held(session: Session) -> set[int]:
    """The experiments whose program began before their trial."""
    found = set()
    for experiment in session.ledger.experiments():
        [(trial, measured)] = session.ledger.trials(experiment.number)
        assert measured and measured.measured, measured
        log = session.local_engine.folder / trial.id / "candidate.log"
        assert log.read_text().count("COMPILED") == 1, "nothing that it prints is lost"
        if measured.startup_seconds < 0.35:
            found.add(experiment.number)
    return found


def start(session: Session) -> float:
    """Seconds that the slot waited for the last program's start."""
    return sum(m.startup_seconds for t, m in session.ledger.trials() if m and t.experiment == LAST)


def test_the_device_does_not_wait_for_a_slow_start(compiling: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    session = night(compiling([10.0, 11.0, 12.0]), {2}, {3})
    assert held(session) == {3}, "once it is known that starts take long"
    ended = {int(event.id.split("-")[0]): event.at for event in session.ledger.events(TrialFinished)}
    experiments = session.ledger.experiments()
    assert [e.measurement.metric for e in experiments] == [9.0, 10.0, 11.0, 12.0]
    for one in experiments[1:]:
        assert one.measurement.secondary["began"] > ended[one.number - 1] - 0.1, "its time had come"
        assert one.measurement.overhead["start ahead"] > 0.6
    monkeypatch.setattr(scheduler, "worth_holding", lambda *_: False)
    without = night(compiling([10.0, 11.0, 12.0], name="without"), (), ())
    assert held(without) == set()
    assert start(session) < 0.3 * start(without)


def test_one_that_is_made_anew_on_another_champion_begins_anew(compiling: Any) -> None:
    session = night(compiling([10.0, 2.0, 0]), {2}, {3})
    two, three = session.ledger.experiments()[2:]
    assert two.kept and three.candidate.parent == two.candidate.commit and three.measurement.metric == 2.0
    assert held(session) == set()


def test_nothing_begins_while_the_champion_moves_often(compiling: Any) -> None:
    session = night(compiling([2.0, 10.0, 11.0]), (), ())
    assert session.ledger.experiment(1).kept and held(session) == set()


@pytest.mark.parametrize(
    "more",
    [
        "",
        "[resources]\ncpus = 2\n\n",
        '[resources]\ncpus = 1\n\n[limits]\nwall_seconds = "+900%"\n\n',
        '[resources]\ncpus = 1\n\n[objectives]\nstartup_seconds = "minimise"\n\n',
        "[resources]\ncpus = 1\n\n[search]\npilot = 0.5\n\n",
    ],
    ids=["no core is named", "none is left", "a limit", "an objective", "pilots"],
)
def test_where_it_would_tell_nothing_begins_before_its_trial(compiling: Any, more: str) -> None:
    session = night(compiling([10.0, 11.0, 12.0], more), (), ())
    assert all(m and m.startup_seconds > 0.6 for _, m in session.ledger.trials())


@pytest.mark.parametrize("how", ["paused", "stopped"])
def test_what_is_held_ends_with_a_pause_or_a_stop(compiling: Any, how: str) -> None:
    lab = compiling([10.0, 11.0, 12.0])
    session = lab.session(device="cpu")
    began: list[int] = []

    def halt(number: int) -> bool:
        if number == 2 and not began:
            began.append(number)
            if how == "paused":
                loop.scheduler.paused = True
            else:
                loop.scheduler.ask_to_stop()
        return number != 2

    view = LetsGo(session, wait={2}, then=halt)
    loop = ExperimentLoop(session, StopRules(experiments=LAST), Scheduler(session, view))
    with loop.scheduler.on_duty():
        loop.resume()
        while not began or session.local_engine.standing_by:
            loop.step()
            loop.scheduler.paused |= bool(began) and how == "paused"
            loop.scheduler.wait()
        assert [trial.experiment for trial in session.ledger.open_trials()] == [2], "which goes on"
        assert not list(session.local_engine.folder.glob("ahead-*"))
        loop.scheduler.stop_now()
    session.close()
