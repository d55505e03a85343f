"""Programs that begin while another trial trains: how far they come, when they train, and what ends them."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.bench import GUEST, LEAST, Bench, benches
from support.processes import living, wait

from nightlab.core.types import Measurement, Trial
from nightlab.engines import slots
from nightlab.engines.local.held import SAMPLE, SHARE, HeldStart, worth_holding
from nightlab.engines.local.outcome import TrialEnded
from nightlab.engines.slots import WHOLE
from nightlab.session.session import detect_sandbox

CONTRACT = LEAST.replace("[metric]", 'warm = ["decimal"]\n[metric]') + '[resources]\ncpus = 1\ndisk = "50MB"\n'
FREE = {"over": 0.0, "signals": 1.0, "start ahead": 1.0}
BURN = "import os, sys, time\ndef burn(s):\n    u = time.process_time() + s\n    while time.process_time() < u: pass\n"
START = GUEST + BURN + "HELD = 'NIGHTLAB_HELD' in os.environ\nprint('BEFORE', flush=True)\n"
COMPILES = START + "burn(0.8)\nprint('COMPILED', flush=True)\ntrial.start()\nprint('METRIC loss=1', flush=True)\n"
AMOUNT = 20.0


@pytest.fixture
def box(make_lab: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Benches on a machine of two cores, of which a training leaves one."""
    monkeypatch.setattr(slots, "_cores", lambda: [0, 1])
    sandbox = detect_sandbox()
    if not sandbox.movable:
        pytest.skip("nothing waits here")
    make = benches(make_lab, sandbox)
    return lambda genome, **more: make(genome, CONTRACT, **{"clock": "cpu", "amount": AMOUNT, **more})


def trial_of(one: Bench, name: str = "t2", **more: Any) -> Trial:
    return Trial(name, 2, one.commit, 1, "search", one.engine.budget.record(), **{"free": FREE, **more})


def hold(one: Bench, trial: Trial) -> Path:
    """Have a trial's program begin; the folder in which it does."""
    one.engine.stand_by(replace(trial, id="t1", experiment=1), WHOLE)
    wait(lambda: one.engine.can_hold(WHOLE))
    one.engine.hold(trial, WHOLE)
    return one.engine.standing_by[0].folder


def said(folder: Path) -> str:
    return (folder / "candidate.log").read_text()


def ended(one: Bench) -> bool:
    return one.engine.standing_by[0].process.poll() is not None


def run(one: Bench, trial: Trial) -> Measurement:
    running = one.engine.start(trial)
    wait(running.finished)
    measured = one.engine.collect(running)
    one.engine.dismiss()
    assert living(one.engine.folder) == [] and not list(one.engine.folder.glob("ahead-*"))
    return measured


def test_it_waits_at_its_start_signal_until_its_trial_begins(box: Any) -> None:
    one = box(COMPILES)
    trial = trial_of(one)
    folder = hold(one, trial)
    wait(lambda: "COMPILED" in said(folder))
    with pytest.raises(AssertionError):
        wait(lambda: "METRIC" in said(folder) or ended(one), 1.5)
    assert not (folder / "phase.json").exists()
    measured = run(one, trial)
    assert measured.metric == 1, measured.detail
    assert one.engine.log("t2").split() == ["BEFORE", "COMPILED", "METRIC", "loss=1"], "once, and nothing is lost"
    assert measured.overhead and measured.overhead["start ahead"] > 0.7, "it is counted all the same"
    cold = run(one, replace(trial, id="t3", attempt=2))
    assert 0 < measured.startup_seconds < cold.startup_seconds / 2, "its slot did not wait for the compiler"
    assert measured.wall_seconds < cold.wall_seconds and measured.training_seconds < 0.5


def test_its_trial_may_begin_before_it_has_come_that_far(box: Any) -> None:
    one = box(COMPILES)
    trial = trial_of(one)
    folder = hold(one, trial)
    wait(lambda: "BEFORE" in said(folder))
    measured = run(one, trial)
    assert measured.metric == 1 and (one.engine.folder / "t2" / "born").exists(), measured.detail
    assert measured.overhead and measured.overhead["start ahead"] > 0.7, "of what came before, too"
    assert one.engine.log("t2").split() == ["BEFORE", "COMPILED", "METRIC", "loss=1"]


def test_it_goes_on_where_its_folder_is_renamed_before_it_hears_of_it(box: Any) -> None:
    one = box(COMPILES)
    trial = trial_of(one)
    folder = hold(one, trial)
    wait(lambda: "COMPILED" in said(folder))
    folder.rename(other := folder.with_name("renamed"))
    with pytest.raises(AssertionError):
        wait(lambda: ended(one), 2 * SAMPLE + 0.3)
    other.rename(folder)
    measured = run(one, trial)
    assert measured.metric == 1 and (one.engine.folder / "t2" / "born").exists(), measured.detail


def test_its_trial_may_begin_before_its_supervisor_has_heard_of_either(box: Any) -> None:
    one = box(COMPILES)
    trial = trial_of(one)
    one.engine.stand_by(replace(trial, id="t1", experiment=1), WHOLE)
    wait(lambda: one.engine.can_hold(WHOLE))
    supervisor = one.engine.standing_by[0].process
    supervisor.send_signal(signal.SIGSTOP)
    one.engine.hold(trial, WHOLE)
    running = one.engine.start(trial)
    supervisor.send_signal(signal.SIGCONT)
    wait(running.finished)
    measured = one.engine.collect(running)
    assert measured.metric == 1 and (running.folder / "born").exists(), measured.detail


def test_what_it_computes_after_its_signal_is_training(box: Any) -> None:
    """A thread of it goes on, for less than what is noticed."""
    works = START + "import threading\nlet = threading.Event()\n"
    works += "threading.Thread(target=lambda: (let.wait(), burn(0.08), print('DONE', flush=True))).start()\n"
    one = box(works + "let.set()\ntrial.start()\nprint('METRIC loss=1')\n")
    trial = trial_of(one)
    folder = hold(one, trial)
    wait(lambda: "DONE" in said(folder))
    measured = run(one, trial)
    assert measured.metric == 1 and measured.training_seconds > 0.05, measured.detail
    assert (one.engine.folder / "t2" / "born").exists()


@pytest.mark.parametrize(
    ("does", "more"),
    [
        ("os.write(int(os.environ['NIGHTLAB_CONTROL']), b'start\\n'); burn(9)", {}),
        ("os.write(int(os.environ['NIGHTLAB_CONTROL']), b'start\\nreport 0.5 1\\n'); time.sleep(60)", {}),
        ("os.write(int(os.environ['NIGHTLAB_CONTROL']), b'serve\\n'); time.sleep(60)", {}),
        ("burn(9)", {}),
        ("sys.exit(3)", {}),
        ("sys.exit()", {}),
        ("time.sleep(60)", {"startup": 2}),
        ("open('large', 'wb').write(bytes(60 << 20)); time.sleep(60)", {}),
    ],
    ids=["trains", "reports", "hands over", "takes long", "dies", "ends", "hangs", "fills the disk"],
)
def test_one_that_does_otherwise_is_ended_and_starts_anew(box: Any, does: str, more: dict[str, Any]) -> None:
    one = box(START + f"if HELD:\n    {does}\ntrial.start()\nprint('METRIC loss=1')\n", **more)
    trial = trial_of(one)
    folder = hold(one, trial)
    wait(lambda: ended(one))
    assert living(folder) == []
    measured = run(one, trial)
    assert measured.metric == 1 and not (one.engine.folder / "t2" / "born").exists(), measured.detail
    assert one.engine.log("t2").split() == ["BEFORE", "METRIC", "loss=1"]


@pytest.mark.parametrize("does", ["sys.exit(3)", "burn(3)", "time.sleep(60)"], ids=["dies", "takes long", "hangs"])
def test_one_that_fails_before_its_start_costs_no_verdict(box: Any, does: str) -> None:
    """Its trial has begun by then."""
    waits = "while not os.path.exists('go'): time.sleep(0.02)\n    "
    one = box(START + f"if HELD:\n    {waits}{does}\ntrial.start()\nprint('METRIC loss=1')\n", startup=3, wall_limit=4)
    trial = trial_of(one, free={**FREE, "start ahead": 0.2})
    folder = hold(one, trial)
    wait(lambda: "BEFORE" in said(folder))
    running = one.engine.start(trial)
    (running.folder / "work" / "go").touch()
    wait(running.finished)
    lost = one.engine.collect(running)
    assert lost.outcome == "lost" and "began while another trial trained" in lost.detail, lost
    assert run(one, replace(trial, id="t3", attempt=2)).metric == 1


def test_what_is_held_for_another_trial(box: Any) -> None:
    one = box(COMPILES)
    trial = trial_of(one)
    folder = hold(one, trial)
    wait(lambda: "COMPILED" in said(folder))
    assert one.engine.holds(one.commit, 2, WHOLE) and not one.engine.holds(one.commit, 3, WHOLE)
    second_run = replace(trial, id="t1", experiment=1)
    running = one.engine.start(second_run)
    wait(running.finished)
    assert one.engine.collect(running).metric == 1
    assert not ended(one) and one.engine.can_hold(WHOLE), "its turn comes after that"
    other = replace(trial, id="t3", experiment=3)
    one.engine.hold(other, WHOLE)
    assert living(folder) == [] and not folder.exists() and one.engine.standing_by == {}
    folder = hold(one, trial)
    measured = run(one, replace(trial, seed=7))
    assert measured.metric == 1 and not (one.engine.folder / "t2" / "born").exists(), "another seed"
    assert not folder.exists()
    folder = hold(one, trial)
    one.engine.hold(None, WHOLE)
    assert not folder.exists() and living(one.engine.folder) == []


ORCHESTRATOR = """
import sys, time
from dataclasses import replace
from pathlib import Path
sys.path[:0] = {tests!r}
from support.labs import TinyLab
from support.bench import Bench
from nightlab.core.types import Trial
from nightlab.engines import slots
from nightlab.engines.local.layout import detect_sandbox
slots._cores = lambda: [0, 1]
one = Bench(TinyLab(Path({lab!r})), {contract!r}, detect_sandbox(), clock="cpu")
trial = Trial("t2", 2, one.commit, 1, "search", one.engine.budget.record(), free={free!r})
one.engine.stand_by(replace(trial, id="t1", experiment=1), slots.WHOLE)
while not one.engine.can_hold(slots.WHOLE): time.sleep(0.01)
one.engine.hold(trial, slots.WHOLE)
print("holds", flush=True)
time.sleep(600)
"""


def test_it_ends_with_an_orchestrator_that_is_killed(box: Any, make_lab: Any) -> None:
    lab = make_lab(COMPILES)
    program = ORCHESTRATOR.format(tests=sys.path, lab=str(lab.folder), contract=CONTRACT, free=FREE)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "holds\n"
        [folder] = (lab.folder / ".nightlab" / "t" / "trials").glob("ahead-*")
        wait(lambda: "COMPILED" in said(folder))
        assert living(folder)
        process.kill()
    wait(lambda: living(folder) == [])


def test_a_served_model_is_evaluated_as_ever(box: Any, make_lab: Any) -> None:
    evaluate = "import array, nightlab_guest\nserved = nightlab_guest.Served()\n"
    evaluate += "[answer] = served.map([array.array('i', [1])], 'f', (1,))\nprint('METRIC loss=%g' % answer[0])\n"
    genome = "import array, nightlab_guest\ndef load(arrays): return lambda x: array.array('f', arrays['a'])\n"
    genome += "nightlab_guest.answer(load)\n" + COMPILES + "trial.hand_over({'a': array.array('f', [trial.seed])})\n"
    evaluator = '[evaluator]\ncommand = "python evaluate.py"\nserved = true\nprocesses = 1\nwarm = ["decimal"]\n'
    lab = make_lab(genome, files={"evaluate.py": evaluate})
    one = Bench(lab, CONTRACT + evaluator, detect_sandbox(), clock="cpu", amount=AMOUNT)
    trial = replace(trial_of(one), seed=5)
    folder = hold(one, trial)
    wait(lambda: "COMPILED" in said(folder))
    measured = run(one, trial)
    assert measured.metric == 5 and (one.engine.folder / "t2" / "born").exists(), measured.detail
    assert measured.overhead and measured.overhead["answer"] > 0


# -- the limits, without processes ----------------------------------------------------------------


class Stub:
    """What a held start uses, in numbers."""

    begun_cpu = 1.0
    children: Any = None

    def __init__(self, excess: bool = False) -> None:
        self.excess = excess

    def beyond(self, *, starting: bool) -> bool:
        return self.excess and starting


def held(cpu: float, *, seconds: float = 100.0, excess: bool = False, signalled: float | None = None) -> None:
    part: Any = Stub(excess)
    one = HeldStart({"amount": 30.0, "startup": 120.0}, Path(), part, part, part)
    one.begun -= seconds
    one.signalled = signalled
    one._hold_to_limits(cpu)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    found = SimpleNamespace(percent=50.0)
    monkeypatch.setattr("nightlab.engines.local.held.psutil.virtual_memory", lambda: found)
    return found


def test_how_much_a_start_may_take_beside_a_training(memory: SimpleNamespace) -> None:
    held(1 + 9.9)
    held(1 + 2.9, seconds=2.0)
    held(5.2, signalled=5.0)
    for over, why in (
        ({"cpu": 1 + 30 * SHARE + 0.1}, "beside another"),
        ({"cpu": 1.1, "excess": True}, "beside another"),
        ({"cpu": 1 + 3.1, "seconds": 2.0}, "the core"),
        ({"cpu": 1.1, "seconds": 121.0}, "120 s"),
        ({"cpu": 5.3, "signalled": 5.0}, "did not wait"),
    ):
        with pytest.raises(TrialEnded, match=why) as end:
            held(**over)  # type: ignore[arg-type]
        assert end.value.outcome == "lost"
    memory.percent = 91.0
    for signalled in (None, 1.1):
        with pytest.raises(TrialEnded, match="memory"):
            held(1.1, signalled=signalled)


def test_where_a_start_is_worth_it() -> None:
    assert worth_holding(FREE, [], 60)
    assert worth_holding({**FREE, "start ahead": 20.0}, [], 60)
    assert not worth_holding({**FREE, "start ahead": 21.0}, [], 60), (
        "that can't be held under half a standard deviation"
    )
    assert not worth_holding({**FREE, "start ahead": 0.4}, [], 60), "too short to be worth it"
    assert worth_holding({**FREE, "start ahead": 0.4, "start compiled": 30.0}, [], 60), "what it compiles anew is long"
    cold = {"over": 0.0, "signals": 1.0, "start": 3.0}
    assert not worth_holding(cold, [], 60), "most of it may be imports"
    assert worth_holding(cold, [0.1, 0.7, 2.0], 60) and not worth_holding(cold, [0.1, 0.4, 2.0], 60)
    assert not worth_holding({"over": 0.0, "start ahead": 1.0}, [], 60), "it does not say when training begins"
    assert not worth_holding(None, [], 60)
