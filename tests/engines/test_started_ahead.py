"""Trials that are started ahead: what has happened by then, what has not, and that nothing of them is left behind."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.bench import GUEST, LEAST, SERVED, Bench, benches
from support.processes import MARK, living, wait

from nightlab.core.config import StopRules
from nightlab.core.observer import Observer, RunningTrialStatus
from nightlab.core.types import Measurement
from nightlab.engines import slots
from nightlab.engines.local import layout
from nightlab.engines.local.launch import IMPORTED, Launch
from nightlab.engines.local.layout import GUEST as GUEST_FOLDER
from nightlab.engines.local.process_group import ProcessGroup
from nightlab.engines.slots import WHOLE, Slot
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.scheduler import Scheduler
from nightlab.sandbox.bubblewrap import Bubblewrap
from nightlab.sandbox.detect import find_sandbox
from nightlab.sandbox.macos import SandboxExec
from nightlab.session.session import detect_sandbox
from nightlab.storage.git import Repo

WARM = 'warm = ["decimal", "no_such_module"]\n'
CONTRACT = LEAST.replace("[metric]", f"{WARM}[metric]")
# Says what was imported before its first line, and what it was told of its trial.
TELLS = """
import sys, os
print('METRIC loss=1')
print('METRIC warm=%d' % ('decimal' in sys.modules))
print('METRIC seed=' + os.environ['NIGHTLAB_SEED'])
print('METRIC waits=%d' % ('NIGHTLAB_GO' in os.environ))
print('METRIC guest=%d' % os.environ['PYTHONPATH'].endswith('guest'))
print('METRIC path=%d' % any(path.endswith('warm') for path in sys.path))
print('PLACE', os.environ['NIGHTLAB_TRIAL'].rsplit('/')[-1], os.getcwd().rsplit('/')[-2:])
"""


def stand_by(one: Bench) -> Path:
    """Have a trial started ahead, and wait until its processes do; the folder."""
    first = one.start()
    one.engine.stand_by(first.trial, WHOLE)
    wait(first.finished)
    one.engine.collect(first)
    [ready] = one.engine.standing_by.values()
    wait((ready.folder / "born").exists)
    return ready.folder


def candidates(folder: Path) -> list[int]:
    """Processes of a folder that wait for the go."""
    found = []
    for pid in living(folder):
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # it ended while we looked
            if b"NIGHTLAB_GO=" in Path(f"/proc/{pid}/environ").read_bytes():
                found.append(pid)
    return found


def change(one: Bench, **files: str) -> None:
    """Another commit of the genome, for the trials from now on."""
    repo = one.engine.repo
    one.commit = repo.commit_files(one.commit, {name.replace("_py", ".py"): text for name, text in files.items()}, "x")


COMPILES = (
    """\
import os
from pathlib import Path
cache = Path(os.environ["TRITON_CACHE_DIR"])
print("FOUND", sorted(path.name for path in cache.glob("*/*")))
(cache / "kernel").mkdir(parents=True, exist_ok=True)
(cache / "kernel" / f"by-{os.environ['NIGHTLAB_TRIAL'].rsplit('/')[-1]}").touch()
"""
    + TELLS
)


def test_one_that_stood_by_before_anything_was_compiled_finds_what_the_baseline_compiled(bench: Any) -> None:
    one = bench(COMPILES, CONTRACT)
    folder = stand_by(one)
    assert "FOUND []" in one.engine.log("t1")
    if one.engine.sandbox.movable:
        wait(lambda: candidates(folder))
    measured = one.run()
    assert measured.outcome == "measured", measured.detail  # it adds to its own copy
    assert "FOUND ['by-t1']" in one.log()


def test_it_imports_ahead_and_is_told_of_its_trial_at_the_go(bench: Any) -> None:
    one = bench(TELLS, CONTRACT)
    folder = stand_by(one)
    cold = one.engine.log("t1")
    assert "METRIC warm=0" in cold
    if movable := one.engine.sandbox.movable:
        wait(lambda: candidates(folder))
        assert not (folder / "candidate.log").read_text(), "nothing has run"
    measured = one.run(seed=77)
    assert measured.outcome == "measured" and not folder.exists() and one.engine.standing_by == {}
    assert measured.secondary == {"warm": movable, "seed": 77, "waits": 0, "guest": 1, "path": 0}
    assert "PLACE t2" in one.log() and json.loads((one.folder / "spec.json").read_text())["ahead"] is None


def test_what_it_prints_is_the_same_as_without(bench: Any) -> None:
    program = "import random, sys; print('METRIC loss=%.9f' % random.Random(hash('x')).random()); print(sys.argv)"
    one = bench(program + "; print(__name__, __file__, sys.path[0])", CONTRACT)
    stand_by(one)
    ahead = one.run()
    assert (one.folder / "born").exists()
    cold_log, ahead_log = one.engine.log("t1"), one.log()
    assert ahead.metric is not None
    assert cold_log.replace("t1", "t2") == ahead_log


def test_it_runs_the_genome_of_its_own_commit(bench: Any) -> None:
    one = bench(
        "import helper, extra\nprint('METRIC loss=%d' % (helper.A + extra.B))",
        CONTRACT.replace('["genome.py"]', '["*.py"]'),
        files={"helper.py": "A = 1", "extra.py": "B = 10"},
    )
    stand_by(one)
    change(
        one, helper_py="A = 2", genome_py="import helper, os\nprint('METRIC loss=%d' % helper.A)\nprint(os.listdir())"
    )
    repo: Repo = one.engine.repo
    with repo.index(one.commit) as index:
        repo.run("update-index", "--force-remove", "extra.py", env=index)
        one.commit = repo._commit(one.commit, index, "without extra")
    assert one.run().metric == 2
    assert "extra.py" not in one.log() and (one.folder / "born").exists()


def test_frozen_files_stay_frozen(make_lab: Any) -> None:
    sandbox = detect_sandbox()
    if sandbox.name == "none":
        pytest.skip(sandbox.why)
    one = benches(make_lab, sandbox)("print('METRIC loss=1')", CONTRACT, files={"frozen.py": "x = 1"})
    stand_by(one)
    change(one, genome_py="open('frozen.py', 'w').write('x = 2')")
    measured = one.run()
    assert measured.outcome == "crashed" and "Read-only" in measured.detail


def test_a_served_evaluator_waits_too(bench: Any) -> None:
    evaluator = (
        "import sys, os, array, nightlab_guest\n"
        "served = nightlab_guest.Served()\n"
        "[answer] = served.map([array.array('i', [1, 2])], 'f', (2,))\n"
        "print('METRIC loss=%g' % sum(answer.tolist()))\n"
        "print('METRIC warm=%d' % ('decimal' in sys.modules))\n"
        "print('METRIC told=' + os.environ.get('NIGHTLAB_HELD_OUT', '0'))\n"
    )
    genome = GUEST + "import array\ntrial.start()\ntrial.serve(lambda x: array.array('f', [trial.seed, 2]))\n"
    contract = CONTRACT + SERVED + 'held_out = true\nwarm = ["decimal"]\n'
    one = bench(genome, contract, files={"evaluate.py": evaluator})
    folder = stand_by(one)
    if movable := one.engine.sandbox.movable:
        wait(lambda: len({Path(f"/proc/{pid}/environ").read_bytes() for pid in candidates(folder)}) >= 2)
    assert "METRIC told=1" in one.engine.log("t1", "evaluator"), "of the baseline held-out data are scored"
    measured = one.run(seed=40, purpose="round")
    assert measured.metric == 42 and measured.secondary == {"warm": movable, "told": 0}, measured.detail
    assert measured.startup_seconds < one.engine.budget.startup


def test_beside_a_training_the_imports_are_made_in_turn(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "_cores", lambda: [0, 1])
    genome = GUEST + "import array\ntrial.start()\ntrial.serve(lambda x: array.array('f', [1]))\n"
    evaluate = "import nightlab_guest\nlink = nightlab_guest.Served()\n[_] = link.map([b'x'], 'f', (1,))\n"
    files = {"evaluate.py": evaluate + "print('METRIC loss=1')\n"}
    one = bench(genome, CONTRACT + "[resources]\ncpus = 1\n" + SERVED, files=files, clock="cpu")
    folder = stand_by(one)
    spec = json.loads((folder / "spec.json").read_text())
    if spec["ahead"]:
        launch = Launch(folder, spec, ProcessGroup(), None)
        launch.dismissed, mine = os.pipe()
        for role in ("evaluator", "candidate"):
            launch.start(role, spec["command"], None, spec["ahead"][role])
            gate = launch.gates[role]
            assert select.select([gate], [], [], 0)[0] and os.read(gate, 2) == IMPORTED, (
                "the next one begins after that"
            )
        os.close(mine)
        launch.start("candidate", spec["command"], None, spec["ahead"]["candidate"])  # not for long: it is dismissed
        assert launch.ready()
        for process in launch.children.roles.values():
            inside = psutil.Process(process.pid).children(recursive=True)
            process.kill()
            process.wait()
            psutil.wait_procs(inside)
        os.close(launch.dismissed)
    assert one.run().metric == 1


def test_a_program_that_could_not_wait_is_not_started_ahead(bench: Any) -> None:
    one = bench("print('METRIC loss=1')", CONTRACT.replace("python genome.py", "sh -c 'python genome.py'"))
    folder = stand_by(one)
    wait(lambda: (folder / "lock").exists())  # its supervisor stands by all the same
    assert candidates(folder) == []
    assert one.run().metric == 1 and (one.folder / "born").exists()


def test_where_nothing_may_wait(make_lab: Any) -> None:
    lab = make_lab("print('METRIC loss=1')")
    assert Bench(lab, CONTRACT, Bubblewrap([])).engine.layout.ahead()
    assert Bench(lab, CONTRACT, SandboxExec([])).engine.layout.ahead() == {}, "its rules name paths"
    limited = CONTRACT.replace("[metric]", '[limits]\nstartup_seconds = "+20%"\n[metric]')
    assert Bench(lab, limited, Bubblewrap([])).engine.layout.ahead() == {}, "starts ahead and others don't compare"


def test_one_that_was_ended_meanwhile(bench: Any) -> None:
    one = bench("print('METRIC loss=1')", CONTRACT)
    folder = stand_by(one)
    [ready] = one.engine.standing_by.values()
    ready.process.kill()
    ready.process.wait()
    assert one.run().metric == 1, "a trial without its head start"
    assert not folder.exists() and not (one.folder / "born").exists()
    if not one.engine.sandbox.movable:
        return
    folder = stand_by(one)
    wait(lambda: candidates(folder))
    for pid in candidates(folder):
        with contextlib.suppress(ProcessLookupError):  # the first took the others with it
            os.kill(pid, signal.SIGKILL)
    wait(lambda: not candidates(folder))
    lost: Measurement = one.run()
    assert lost.outcome == "lost" and "in advance" in lost.detail, "no verdict on the candidate, which never ran"


def test_imports_that_hang_cost_a_start_and_no_verdict(
    make_lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = tmp_path / "modules"
    modules.mkdir()
    modules.chmod(0o755)  # trials are another user's
    sandbox = find_sandbox({Path(sys.prefix), Path(sys.base_prefix), GUEST_FOLDER, modules})
    if not sandbox.movable:
        pytest.skip("nothing imports ahead here")
    (modules / "hangs.py").write_text("import time; time.sleep(600)")
    monkeypatch.setattr(layout, "WITH_START", os.pathsep.join([str(modules), layout.WITH_START]))
    contract = CONTRACT.replace("no_such_module", "hangs")
    one = benches(make_lab, sandbox)("print('METRIC loss=1')", contract, amount=3, startup=3)
    stand_by(one)
    lost = one.run()
    assert lost.outcome == "lost" and "its imports did not end: candidate" in lost.detail, lost
    first = one.start()
    one.engine.stand_by(first.trial, WHOLE)
    wait(first.finished)
    again = one.engine.start(replace(first.trial, id="again", attempt=2))
    wait(again.finished)
    assert one.engine.collect(again).metric == 1, "without the head start"
    one.engine.dismiss()


def test_one_that_is_not_in_place_yet(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def comes_late(folder: Path, slot: Slot, stdin: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["cat"], stdin=stdin, env={**os.environ, MARK: str(folder)})

    monkeypatch.setattr("nightlab.engines.local.engine.PATIENCE", 0.1)
    one = bench("print('METRIC loss=1')", CONTRACT)
    first = one.start()
    with monkeypatch.context() as patch:
        patch.setattr(one.engine, "_supervise", comes_late)
        one.engine.stand_by(first.trial, WHOLE)
    wait(first.finished)
    one.engine.collect(first)
    assert one.run().metric == 1 and not (one.folder / "born").exists(), "a trial without its head start"
    assert [path.name for path in one.engine.folder.glob("ahead-*")] == []


def test_dismissed(bench: Any) -> None:
    one = bench("print('METRIC loss=1')", CONTRACT)
    folder = stand_by(one)
    wait(lambda: living(folder))
    one.engine.dismiss()
    assert living(one.engine.folder) == [] and not folder.exists()


ORCHESTRATOR = """
import sys, time
from pathlib import Path
sys.path[:0] = {tests!r}
from support.labs import TinyLab
from support.bench import Bench
from nightlab.engines.local.layout import detect_sandbox
from nightlab.engines.slots import WHOLE, Slot
one = Bench(TinyLab(Path({lab!r})), {contract!r}, detect_sandbox())
one.engine.stand_by(one.start().trial, WHOLE)
print("standing by", flush=True)
time.sleep(600)
"""


def test_it_ends_with_an_orchestrator_that_is_killed(make_lab: Any) -> None:
    lab = make_lab("print('METRIC loss=1')")
    program = ORCHESTRATOR.format(tests=sys.path, lab=str(lab.folder), contract=CONTRACT)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "standing by\n"
        trials = lab.folder / ".nightlab" / "t" / "trials"
        wait(lambda: any(living(folder) for folder in trials.glob("ahead-*")))
        process.kill()
    wait(lambda: living(trials) == [])
    # What it left on the disk goes with the next that stands by.
    [left] = trials.glob("ahead-*")
    one = Bench(lab, CONTRACT)
    one.count = 1
    stand_by(one)
    assert not left.exists()
    one.engine.dismiss()


@pytest.mark.integration
def test_an_environment_with_a_sitecustomize_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.custom = 5\n")
    path = os.pathsep.join([str(GUEST_FOLDER / "warm"), str(tmp_path)])
    told, go = (end.detach() for end in socket.socketpair())
    env = {"PYTHONPATH": path, "NIGHTLAB_GO": str(go), "NIGHTLAB_WARM": "decimal"}
    says = "import sys, os; print(sys.custom, 'decimal' in sys.modules, os.environ['A'], 'NIGHTLAB_GO' in os.environ)"
    argv = [sys.executable, "-c", says]
    with subprocess.Popen(argv, env=env, pass_fds=[go], stdout=subprocess.PIPE, text=True) as process:
        os.write(told, b'{"A": "b"}\n')
        assert process.communicate()[0].split() == ["5", "True", "b", "False"]
    with subprocess.Popen(argv, env=env, pass_fds=[go], stdout=subprocess.PIPE, text=True) as process:
        os.close(told)
        os.close(go)
        assert process.communicate()[0] == "" and process.returncode == 0, "no trial came"


@pytest.mark.parametrize(("timed", "ahead"), [(False, True), (True, False)])
def test_a_session_starts_ahead_unless_its_evaluator_keeps_the_time(make_lab: Any, timed: bool, ahead: bool) -> None:
    lab = make_lab(
        GUEST + "import array, os, time\ntrial.start()\n"
        "def answer(x):\n    while not os.path.exists('go'): time.sleep(0.02)\n    return array.array('f', [3.0])\n"
        "trial.serve(answer)\n",
        files={
            "evaluate.py": "import array, time, nightlab_guest\nserved = nightlab_guest.Served()\n"
            "[answer] = served.map([array.array('i', [1])], 'f', (1,))\n"
            "print('METRIC loss=%g' % answer[0])\n"
        },
    )
    contract = (lab.folder / "lab.toml").read_text()
    part = f'[evaluator]\ncommand = "python evaluate.py"\nserved = true\ntimed = {str(timed).lower()}\n\n[metric]'
    lab.commit(lab_toml=contract.replace("[metric]", part, 1).replace("evaluation = 20", "evaluation = 200"))
    for number in (1, 2):
        lab.idea(f"0{number}", (lab.folder / "genome.py").read_text().replace("3.0", f"{3 - number}.0"))
    session = lab.session()
    trials = session.local_engine.folder

    class OneIsReady(Observer):
        """Lets a trial be answered once another stands by, where one should."""

        def tick(self, flights: Sequence[RunningTrialStatus]) -> None:
            for flight in flights if not ahead or any(trials.glob("ahead-*/born")) else ():
                with contextlib.suppress(OSError):  # its copy is not there yet, or not any more
                    (trials / flight.trial.id / "work" / "go").touch()

    ExperimentLoop(session, StopRules(experiments=2), Scheduler(session, OneIsReady())).run()
    assert [e.measurement.metric for e in session.ledger.experiments()] == [3.0, 2.0, 1.0]
    born = {path.parent.name for path in session.local_engine.folder.glob("*/born")}
    assert born == ({"0001-search-s1-1", "0002-search-s1-1"} if ahead else set())
    assert not list(session.local_engine.folder.glob("ahead-*"))
