"""Slots: how a machine is shared out, and that a trial has its share and no more."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.labs import TinyLab
from support.observers import WAITS, Counting, Together
from support.processes import wait

from nightlab.core.config import StopRules
from nightlab.core.events import MachineChanged, Rechecked, SlotsMeasured
from nightlab.core.observer import Observer
from nightlab.core.types import NightlabError
from nightlab.engines import slots
from nightlab.engines.local.machine_monitor import MachineMonitor, disturbance, overuse
from nightlab.engines.slots import WHOLE, Slot, allocate_slots, contention, describe_slots, gpu_failure, leaves_a_core
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.scheduler import Scheduler
from nightlab.sandbox.bubblewrap import Bubblewrap, SandboxSpec

two_cores = pytest.mark.skipif(len(slots._cores()) < 2, reason="needs two cores")


def machine(monkeypatch: pytest.MonkeyPatch, cores: int = 8, gpus: str = "") -> None:
    """Another machine: so many cores, and what NVIDIA's tool says of its GPUs."""
    monkeypatch.setattr(slots, "_cores", lambda: list(range(0, 2 * cores, 2)))

    def tool(argv: Any, **_: Any) -> subprocess.CompletedProcess[str]:
        if not gpus:
            raise FileNotFoundError
        return subprocess.CompletedProcess(argv, 0, gpus)

    monkeypatch.setattr(subprocess, "run", tool)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


GPUS = """\
0, GPU-aaaa, 00000000:01:00.0, NVIDIA H200
1, GPU-bbbb, 00000000:02:00.0, NVIDIA H200
2, GPU-cccc, 00000000:03:00.0, NVIDIA T4
3, GPU-dddd, 00000000:04:00.0, NVIDIA H200
"""


@given(cores=st.integers(1, 64), count=st.none() | st.integers(1, 80), cpus=st.none() | st.integers(1, 80))
def test_slots_are_alike_and_share_no_core(cores: int, count: int | None, cpus: int | None) -> None:
    with pytest.MonkeyPatch.context() as patch:
        machine(patch, cores)
        try:
            made = allocate_slots("cpu", count, cpus)
        except NightlabError as refusal:
            assert count and count * (cpus or 1) > cores and str(count) in str(refusal) and refusal.hint
            return
        assert len(made) == (count or max(cores // (cpus or cores), 1))
        if len(made) == 1:
            assert made == [WHOLE] and describe_slots(made) == ""
            return
        used = [core for slot in made for core in slot.cores]
        assert len(used) == len(set(used)) <= cores and {core % 2 for core in used} == {0}
        assert {len(slot.cores) for slot in made} == {cpus or cores // len(made)}
        assert [slot.number for slot in made] == list(range(len(made)))
        assert str(len(made)) in describe_slots(made)


def test_one_slot_for_each_gpu_of_a_kind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine(monkeypatch, 8, GPUS)
    monkeypatch.setattr(slots, "DRIVER", tmp_path)
    for bus, minor in (("0000:01:00.0", 0), ("0000:02:00.0", 3)):
        (tmp_path / bus).mkdir()
        (tmp_path / bus / "information").write_text(f"Model: x\nDevice Minor: \t {minor}\n")
    made = allocate_slots("cuda", None, cpus=1)
    assert [slot.gpu for slot in made] == ["GPU-aaaa", "GPU-bbbb", "GPU-dddd"], "another model does not compare"
    assert [slot.gpu_node for slot in made] == ["nvidia0", "nvidia3", ""], "the driver did not say"
    assert [len(slot.cores) for slot in made] == [2, 2, 2], "cpus is of trials on a CPU"
    assert made[1].environment() == {"OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": "GPU-bbbb"}
    with pytest.raises(NightlabError, match="4 slots need 4 GPUs of one kind, and there are 3"):
        allocate_slots("cuda", 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    assert [slot.gpu for slot in allocate_slots("cuda")] == ["GPU-dddd", "GPU-bbbb"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-cc")
    assert allocate_slots("cuda") == [WHOLE]


def test_what_leaves_a_core_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 2)
    assert leaves_a_core(WHOLE, "cpu", "cpu", 1)
    assert not leaves_a_core(WHOLE, "cpu", "cpu", 2)
    assert not leaves_a_core(WHOLE, "cpu", "cpu", None), "its contract does not say what it needs"
    assert not leaves_a_core(WHOLE, "cpu", "wall", 1), "what waits for a core has less of a wall clock"
    assert not leaves_a_core(Slot(0, cores=(0,)), "cpu", "cpu", 1), "the other slots' trials are there"


def test_memory_bounds_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 64)
    total = slots.psutil.virtual_memory().total / 2**20
    assert len(allocate_slots("cpu", None, 1, memory_mb=total / 3.5)) == 3


def test_a_slot_sees_its_own_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = ["nvidia0", "nvidia1", "nvidia10", "nvidiactl", "nvidia-uvm", "nvidia-caps"]
    monkeypatch.setattr(Path, "glob", lambda self, pattern: [Path("/dev") / name for name in names])
    place = SandboxSpec(tmp_path, False, (), tmp_path, tmp_path, (), 10, "cuda", None, "nvidia1")
    argv = Bubblewrap([]).start(place).prefix
    seen = [argv[at + 1].removeprefix("/dev/") for at, word in enumerate(argv) if word == "--dev-bind"]
    assert sorted(set(seen) & set(names)) == ["nvidia-caps", "nvidia-uvm", "nvidia1", "nvidiactl"]


# -- trials in slots -----------------------------------------------------------------------------------

SAYS = "A = 3.0\nB = 8\nimport os\nprint('METRIC core=%d' % min(os.sched_getaffinity(0)))\n"
SAYS += "print('METRIC cores=%d' % len(os.sched_getaffinity(0)))\n"
SAYS += "print('METRIC threads=%s' % os.environ.get('OMP_NUM_THREADS', 0))\n"


@two_cores
def test_trials_are_pinned_to_cores_of_their_own(make_lab: Callable[..., TinyLab]) -> None:
    lab = make_lab(SAYS)
    for number in range(4):
        lab.idea(f"0{number}", SAYS.replace("3.0", f"4.{number}") + WAITS)
    session = lab.session()
    view = Together(session.local_engine.folder, 2)
    ExperimentLoop(session, StopRules(experiments=4), Scheduler(session, view, 2)).run()
    found = [m.secondary for n in range(1, 5) for _, m in session.ledger.trials(n) if m]
    assert all(one["cores"] == one["threads"] == len(slots._cores()) // 2 for one in found)
    assert len({one["core"] for one in found}) == 2 and max(map(len, view.flights)) == 2
    [note] = session.ledger.events(SlotsMeasured)
    assert note.slots == describe_slots(allocate_slots("cpu", 2)) and note.speed > 0


@two_cores
def test_another_class_of_slots_is_another_machine(make_lab: Callable[..., TinyLab]) -> None:
    lab = make_lab()
    lab.idea("01", "A = 2.0\nB = 8\n")
    lab.run(experiments=1)[1].close()
    lab.idea("02", "A = 1.0\nB = 8\n")
    _, session = lab.run(slots=2, experiments=2)
    [changed] = session.ledger.events(MachineChanged)
    assert changed.since == 2 and len(session.ledger.events(Rechecked)) == 1
    session.close()
    lab.idea("03", "A = 0.0\nB = 8\n")
    _, session = lab.run(slots=2, experiments=3)
    assert len(session.ledger.events(MachineChanged)) == 1, "the same class as before"


@two_cores
@pytest.mark.integration
def test_a_trial_that_leaves_its_cores_is_over_its_limit() -> None:
    escapes = "import os; os.sched_setaffinity(0, {cores}); print(len(os.sched_getaffinity(0)))"
    assert subprocess.run([sys.executable, "-c", escapes.format(cores=slots._cores())], check=True).returncode == 0
    facts: dict[str, float | str] = {"own_cores": 1.9, "cores": 1, "seconds": 30.0}
    assert overuse(facts) == "it used 1.9 cores, its slot has 1"
    assert not overuse({**facts, "own_cores": 1.15}) and not overuse({**facts, "seconds": 1.0})
    assert not overuse({"own_cores": 8.0, "seconds": 30.0}) and not overuse({}), "without a slot all are its own"


@two_cores
@pytest.mark.integration
def test_only_neighbours_on_its_own_cores_disturb() -> None:
    here, there = slots._cores()[:2]
    burn = f"import os\nos.sched_setaffinity(0, [{there}])\nprint(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", burn], stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline(), "it burns by now"
        facts = {}
        try:
            for name, core in (("here", here), ("there", there)):
                seen = MachineMonitor(False, [core])
                seen.start(0.0)
                os.wait4(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1)"]).pid, 0)
                seen.stop(0.0)
                facts[name] = {**seen.facts, "seconds": 60.0, "stolen": 0.0}
        finally:
            process.kill()
    assert facts["there"]["other_cores"] > 0.5 and facts["there"]["cores"] == 1
    assert "other programs" in disturbance(facts["there"], "cpu", shared=True)
    assert "other programs" in disturbance(facts["there"], "wall", shared=True)
    calm = {**facts["here"], "other_cores": 0.1, "own_cores": 1.0}
    assert (
        disturbance(calm, "wall", shared=True) == "" == disturbance({**facts["there"], "cores": 0}, "cpu", shared=True)
    )


@two_cores
@pytest.mark.integration
def test_slots_in_each_others_way_are_noticed() -> None:
    one, two = slots._cores()[:2]
    apart, crowded = [Slot(0, (one,)), Slot(1, (two,))], [Slot(number, (one,)) for number in range(12)]
    wait(lambda: contention(crowded) < 0.5 * contention(apart))  # the machine's other programs blur one look


def test_slots_that_are_no_number(make_lab: Callable[..., TinyLab], nightlab: Any) -> None:
    lab = make_lab()
    for wrong in ("0", "-1", "many", "1.5"):
        done = nightlab("run", f"--slots={wrong}", cwd=lab)
        assert done.code == 2 and "a number from 1, or auto" in done.err
    done = nightlab("run", "--slots", "999", "-n", "1", cwd=lab)
    assert done.code == 1 and "999 slots" in done.err and "--slots auto" in done.err


def test_slots_auto(make_lab: Callable[..., TinyLab], nightlab: Any) -> None:
    lab = make_lab()
    contract = (lab.folder / "lab.toml").read_text()
    lab.commit(lab_toml=contract.replace("[sandbox]", "[resources]\ncpus = 1\n\n[sandbox]"))
    done = nightlab("run", "--slots", "auto", "-n", "1", cwd=lab)
    assert done.code == 0, done.err
    assert (f"{len(slots._cores())} slots of 1 core" in done.out) == (len(slots._cores()) > 1)


# -- a GPU that fails ----------------------------------------------------------------------------------


class PeerDigest(Counting):
    def __init__(self) -> None:
        super().__init__()
        self.output: list[str] = []

    def say(self, words: str) -> None:
        self.output.append(words)


@pytest.mark.integration
def test_what_the_tool_says_of_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_failure(WHOLE) == "", "there is no such tool"
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\ncase "$*" in *GPU-bad*) echo "Unable to determine the device handle"; exit 15;; esac\n')
    tool.chmod(0o755)
    assert gpu_failure(WHOLE) == "" == gpu_failure(Slot(0, (), "GPU-good"))
    assert gpu_failure(Slot(0, (), "GPU-bad")) == "the GPU GPU-bad has failed: Unable to determine the device handle"


def test_a_gpu_that_falls_off_the_bus_costs_its_slot_and_no_verdict(
    make_lab: Callable[..., TinyLab], monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = "A = 2.0\nB = 8\nimport os\nassert os.environ.get('CUDA_VISIBLE_DEVICES') != 'GPU-1', 'CUDA error'\n"
    lab = make_lab("A = 3.0\nB = 8\n")
    lab.idea("01", fails)
    lab.idea("02", fails.replace("A = 2.0", "A = 1.5"))
    session, view = lab.session(device="cuda"), PeerDigest()
    scheduler = Scheduler(session, view)
    scheduler.slots = [Slot(0, (), "GPU-1"), Slot(1, (), "GPU-2")]
    monkeypatch.setattr(
        "nightlab.engines.local.engine.gpu_failure", lambda slot: "it has failed" if slot.gpu == "GPU-1" else ""
    )
    ExperimentLoop(session, StopRules(experiments=2), scheduler).run()
    verdicts = [e.verdict for e in session.ledger.experiments()][1:]
    assert {v.status for v in verdicts if v} <= {"keep", "discard"}, "in which order they end is up to the machine"
    assert [e.measurement.metric for e in session.ledger.experiments() if e.measurement][1:] == [3.5, 2.75]
    assert [slot.gpu for slot in scheduler.slots] == ["GPU-2"] and any(
        "slot 0 is lost" in words for words in view.output
    )
    [lost] = [m for n in (1, 2) for _, m in session.ledger.trials(n) if m and m.outcome == "lost"]
    assert lost.detail == "it has failed"


def test_without_any_slot_the_session_ends(make_lab: Callable[..., TinyLab], monkeypatch: pytest.MonkeyPatch) -> None:
    session = make_lab("raise RuntimeError('CUDA error')").session(device="cuda")
    monkeypatch.setattr("nightlab.engines.local.engine.gpu_failure", lambda slot: "the GPU is gone")
    with pytest.raises(NightlabError, match="no slot is left: the GPU is gone"):
        ExperimentLoop(session, StopRules(experiments=2), Scheduler(session, Observer())).run()
    assert session.ledger.experiment(0).verdict is None, "it runs when the machine is mended"
