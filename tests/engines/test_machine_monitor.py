"""What the machine did meanwhile: when a number says more about the machine than about the candidate."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from support.labs import TinyLab

from nightlab.core.config import StopRules
from nightlab.core.events import MachineChanged, Rechecked
from nightlab.core.observer import Observer
from nightlab.core.types import Experiment
from nightlab.engines.local import machine_monitor
from nightlab.engines.local.machine_monitor import MachineMonitor, disturbance, slow_machine
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.scheduler import Scheduler
from nightlab.session.session import Session

pytestmark = pytest.mark.integration

SLEPT = "the machine slept, or its clock was set: it moved by"
QUIET: dict[str, float | str] = {"seconds": 60, "own_cores": 1.0, "other_cores": 0.1, "stolen": 0.0}


@pytest.mark.parametrize(
    ("clock", "facts", "why"),
    [
        ("wall", {}, ""),
        ("cpu", {}, ""),
        ("work", {}, ""),
        ("wall", {"stolen": 0.06}, "6% of the machine's time was taken by its host"),
        ("wall", {"stolen": 0.05}, ""),
        ("cpu", {"stolen": 0.5}, ""),  # it waited, and its own clock stood still
        ("work", {"stolen": 0.5}, ""),
        ("wall", {"own_cores": 3.0, "other_cores": 0.9}, "other programs used 0.9 of 4 cores, and none was idle"),
        ("wall", {"own_cores": 1.0, "other_cores": 2.0}, ""),  # one was idle
        ("wall", {"own_cores": 3.9, "other_cores": 0.4}, ""),  # hardly anybody
        ("wall", {"own_cores": 0.1, "other_cores": 3.1}, "other programs used 3.1 of 4 cores"),
        ("cpu", {"own_cores": 1.0, "other_cores": 2.9}, ""),
        ("cpu", {"own_cores": 0.8, "other_cores": 3.1}, "other programs used 3.1 of 4 cores"),
        ("work", {"other_cores": 4.0}, ""),
        ("wall", {"seconds": 4.9, "stolen": 0.9, "other_cores": 4.0}, ""),  # too short to tell
        ("wall", {"gpu_slowed": "heat"}, "the GPU was slowed (heat)"),
        ("cpu", {"gpu_slowed": "heat"}, "the GPU was slowed (heat)"),
        ("wall", {"gpu_slowed": "heat", "seconds": 1.0}, "the GPU was slowed (heat)"),
        ("wall", {"clock_jump": 30.5, "seconds": 1.0}, f"{SLEPT} +30.5 s beside the time that passed"),
        ("cpu", {"clock_jump": -3600}, f"{SLEPT} -3600 s beside the time that passed"),
        ("work", {"clock_jump": 3600}, ""),
        ("wall", {"stolen": "rubbish", "other_cores": "rubbish"}, ""),
    ],
)
def test_what_speaks_against_a_number(
    monkeypatch: pytest.MonkeyPatch, clock: str, facts: dict[str, float | str], why: str
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert disturbance({**QUIET, **facts}, clock) == why


@pytest.mark.parametrize(
    ("facts", "busy"),
    [
        ({}, False),
        ({"seconds": 0.5, "own_cores": 0.9, "other_cores": 1.2}, False),  # one was idle
        ({"seconds": 0.5, "own_cores": 0.9, "other_cores": 3.0}, True),  # however short, and also on a CPU clock
        ({"own_cores": 0.5, "cores": 1, "other_cores": 0.5}, True),
    ],
)
def test_a_trial_that_came_over_its_budget_met_a_busy_machine(
    monkeypatch: pytest.MonkeyPatch, facts: dict[str, float | str], busy: bool
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert bool(slow_machine({**QUIET, **facts})) is busy
    assert not slow_machine({})


@pytest.mark.parametrize(("moved", "jump"), [(0.5, None), (3600.0, 3600.0), (-40.0, -40.0)])
def test_a_sleep_or_a_clock_that_was_set_is_noticed(
    monkeypatch: pytest.MonkeyPatch, moved: float, jump: float | None
) -> None:
    monitor, now = MachineMonitor(gpu=False), time.time
    monitor.start(0.0)
    monkeypatch.setattr(time, "time", lambda: now() + moved)
    monitor.stop(0.0)
    assert monitor.facts.get("clock_jump") == jump


def test_nothing_known_speaks_against_nothing() -> None:
    assert disturbance({}, "wall") == disturbance({}, "cpu") == ""


@pytest.fixture
def burner() -> Iterator[psutil.Process]:
    """A neighbour that uses as much of one core as it gets."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


def test_a_busy_neighbour_is_seen(burner: psutil.Process) -> None:
    own, used = time.process_time(), sum(burner.cpu_times()[:2])
    seen = MachineMonitor("cpu")
    seen.start(own)
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        time.sleep(0.05)
    own_then, used_then = time.process_time(), sum(burner.cpu_times()[:2])
    seen.stop(own_then)
    facts, cores = seen.facts, os.cpu_count() or 1
    assert facts["seconds"] > 1.4
    neighbour = (used_then - used) / facts["seconds"]
    assert neighbour - 0.15 < facts["other_cores"] <= cores + 0.1
    assert facts["own_cores"] == pytest.approx((own_then - own) / facts["seconds"], abs=0.02)
    assert 0 <= facts["stolen"] <= 1 and facts["load"] >= 0
    assert not any(name.startswith("gpu") for name in facts)
    seen.start(99.0)
    seen.stop(99.0)
    assert seen.facts == facts, "the first end counts"


def test_the_trial_s_own_work_is_no_neighbour() -> None:
    seen, begun = MachineMonitor("cpu"), time.process_time()
    seen.start(begun)
    while time.process_time() - begun < 0.4:
        pass
    seen.stop(time.process_time())
    blind = MachineMonitor("cpu")
    blind.begun = seen.begun
    blind.stop(begun)
    assert blind.facts["other_cores"] - seen.facts["other_cores"] == pytest.approx(seen.facts["own_cores"], abs=0.2)


def test_a_machine_that_tells_nothing_disturbs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_monitor, "_processor_seconds", lambda *_: (0.0, 0.0))
    monkeypatch.setattr(psutil, "cpu_freq", lambda: None)
    seen = MachineMonitor("cuda")
    monkeypatch.setenv("PATH", "/nowhere")
    seen.start(0.0)
    seen.stop(0.0)
    assert seen.facts["other_cores"] == 0 and "clock_mhz" not in seen.facts and "gpu_mhz" not in seen.facts
    assert disturbance(seen.facts, "wall") == ""


GPU = "#!/bin/sh\necho '1980, 61, {}'\n"


@pytest.mark.parametrize(
    ("reasons", "slowed"),
    [("0x0000000000000000", None), ("0x0000000000000004", None), ("0x0000000000000028", "hardware slowdown, heat")],
)
def test_what_a_gpu_tells(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, reasons: str, slowed: str | None) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(GPU.format(reasons))
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    seen = MachineMonitor("cuda")
    seen.start(0.0)
    seen.stop(0.0)
    assert (seen.facts["gpu_mhz"], seen.facts["gpu_celsius"]) == (1980, 61)
    assert seen.facts.get("gpu_slowed") == slowed


# -- what a session does about it ----------------------------------------------------------------------


class Hearing(Observer):
    def __init__(self) -> None:
        self.output: list[str] = []
        self.kept_again: list[int] = []

    def say(self, words: str) -> None:
        self.output.append(words)

    def rechecked(self, champion: Experiment, *_: Any) -> None:
        self.kept_again.append(champion.number)


def disturbed(
    monkeypatch: pytest.MonkeyPatch, lab: TinyLab, *answers: str, slots: int = 1, short: bool = False
) -> tuple[Session, Hearing]:
    """Run a session whose trials meet a machine like this, one after the other; the last answer stays.

    ``short``: they are too short for a calm machine to be seen.
    """
    left = list(answers)
    if not short:
        monkeypatch.setattr("nightlab.loop.scheduler.too_short", lambda facts: not facts)
    monkeypatch.setattr(
        "nightlab.engines.local.read_result.disturbance",
        lambda facts, clock, shared: "" if shared else left.pop(0) if len(left) > 1 else left[0],
    )
    session, view = lab.session(), Hearing()
    ExperimentLoop(session, StopRules(), Scheduler(session, view, slots)).run()
    return session, view


def test_a_trial_on_a_disturbed_machine_runs_again(make_lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = make_lab(measure="import random\nprint(f'METRIC loss={random.random()}')\n")
    lab.idea("01", "A = 2.0\nB = 8\n")
    session, view = disturbed(monkeypatch, lab, "neighbours", "", "neighbours", "neighbours", "")
    for number, times in ((0, 2), (1, 3)):
        found = [m for _, m in session.ledger.trials(number) if m]
        assert [m.disturbed for m in found] == ["neighbours"] * (times - 1) + [""]
        assert session.ledger.experiment(number).measurement.metric == found[-1].metric, "the others are not scored"
    again = [words for words in view.output if "not counted" in words]
    assert len(again) == 3 and all("neighbours; the trial runs again" in words for words in again)
    assert not any("going on" in words for words in view.output) and view.kept_again == []


def test_a_machine_that_stays_disturbed_is_how_things_are(make_lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = make_lab()
    lab.commit(lab_toml=(lab.folder / "lab.toml").read_text().replace("upkeep = 0", "upkeep = 25"))
    lab.idea("01", "A = 2.0\nB = 8\n")
    session, view = disturbed(monkeypatch, lab, "neighbours")
    baseline = [m for _, m in session.ledger.trials(0, "search") if m]
    assert [m.disturbed for m in baseline] == ["neighbours", "neighbours", ""]
    assert [m.machine.get("disturbed") for m in baseline] == [None, None, "neighbours"], "it counts, and it is flagged"
    later = [m for t, m in session.ledger.trials() if m and (t.experiment, t.purpose) != (0, "search")]
    assert later and all(m.machine["disturbed"] == "neighbours" and not m.disturbed for m in later)
    assert session.ledger.experiment(1).kept and len(session.ledger.trials(1, "search")) == 1
    going_on = [words for words in view.output if "going on all the same" in words]
    assert len(going_on) == 1 and "neighbours, and that does not end" in going_on[0]
    assert view.kept_again == [], "the champion was measured on the machine as it is now"


def test_a_machine_that_recovers_is_another_one(make_lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = make_lab()
    lab.commit(lab_toml=(lab.folder / "lab.toml").read_text().replace("upkeep = 0", "upkeep = 25"))
    lab.idea("01", "A = 2.0\nB = 8\n")
    session, view = disturbed(monkeypatch, lab, "heat", "heat", "heat", "")
    assert view.kept_again == [0], "its number was the slow machine's"
    [note] = session.ledger.events(Rechecked)
    assert note.would == "not asked" and note.bar == note.values[0], "it is measured anew, not averaged"


def test_a_trial_too_short_to_tell_does_not_say_that_the_machine_recovered(
    make_lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the champion, which ends at once, and a slow candidate made each other's machine another one, for ever."""
    lab = make_lab()
    lab.idea("01", "A = 2.0\nB = 8\n")
    lab.idea("02", "A = 1.5\nB = 8\n")
    session, view = disturbed(monkeypatch, lab, "heat", "heat", "heat", "", "heat", short=True)
    assert len(session.ledger.events(MachineChanged)) == 1 and view.kept_again == []
    assert [len(session.ledger.trials(number, "search")) for number in (0, 1, 2)] == [3, 1, 1]
    assert [m.disturbed for _, m in session.ledger.trials(1) if m][:1] == [""]


def test_a_disturbance_does_not_matter_to_numbers_that_repeat_exactly(
    make_lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = make_lab()
    lab.commit(lab_toml=(lab.folder / "lab.toml").read_text().replace('"greedy"', '"replicate"'))
    lab.idea("01", "A = 2.0\nB = 8\n")
    session, view = disturbed(monkeypatch, lab, "", "", "", "", "", "neighbours")
    assert len(session.ledger.trials(1, "search")) == 3, "the sixth of six was disturbed, and counts"
    assert session.ledger.experiment(1).kept and not any("not counted" in words for words in view.output)


def test_with_two_slots_the_neighbours_are_our_own(make_lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = make_lab()
    lab.idea("01", "A = 2.0\nB = 8\n")
    session, view = disturbed(monkeypatch, lab, "neighbours", slots=2)
    found = [m for _, m in session.ledger.trials() if m]
    assert len(found) == 2 and all(m.machine and not m.disturbed for m in found)
    assert session.ledger.experiment(1).kept and not any("not counted" in words for words in view.output)
