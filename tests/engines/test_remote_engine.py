"""Trials on other machines. The nodes are processes of this one, each with an environment and a cache of its own."""

from __future__ import annotations

import os
import pickle
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.labs import CONTRACT, TinyLab
from support.population import population_lab
from support.processes import living, wait
from support.warm_starts import step, warm_lab

from nightlab.core.config import StopRules
from nightlab.core.events import ClusterWaits
from nightlab.core.observer import Observer
from nightlab.core.types import NightlabError, Platform
from nightlab.engines.platform import differences, this_platform
from nightlab.engines.remote import common_platform
from nightlab.engines.remote.engine import Lost
from nightlab.engines.remote.node import NodeFacts, NodeResult, TrialParcel, TrialProgress
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.population_trainer import train_population
from nightlab.loop.scheduler import RunInterrupted, Scheduler
from nightlab.session.create import on_cluster
from nightlab.storage.git import Repo
from nightlab.storage.git.bundles import commit_snapshot, pack_bundle, unpack_bundle
from nightlab.ui.monitor import Follower

RUN = """
import pickle, sys
from nightlab.engines.remote.node import run_parcel
parcel, base = pickle.load(sys.stdin.buffer)
brought = run_parcel(parcel, base, lambda news: open(sys.argv[1] + ".news", "wb").write(pickle.dumps(news)))
pickle.dump(brought, open(sys.argv[1], "wb"))
"""
LOOK = "import pickle, sys\nfrom nightlab.engines.remote.node import describe_node\n"
LOOK += "pickle.dump(describe_node(sys.argv[1]), sys.stdout.buffer)"


class Process:
    """A job: one process, as a cluster's worker is."""

    def __init__(self, node: str, env: dict[str, str], out: Path, parcel: TrialParcel, base: bytes) -> None:
        self.node, self.out = node, out
        self.process = subprocess.Popen([sys.executable, "-c", RUN, str(out)], stdin=subprocess.PIPE, env=env)
        assert self.process.stdin is not None
        with self.process.stdin as line:
            line.write(pickle.dumps((parcel, base)))

    def done(self) -> bool:
        return self.process.poll() is not None

    def result(self) -> tuple[str, NodeResult]:
        if self.process.returncode:
            raise Lost("its node died")
        brought = pickle.loads(self.out.read_bytes())
        assert isinstance(brought, NodeResult)
        return self.node, brought

    def cancel(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def news(self) -> TrialProgress:
        written = Path(f"{self.out}.news")
        return pickle.loads(written.read_bytes()) if written.exists() and written.stat().st_size else TrialProgress()


class Processes:
    """A cluster of such nodes, which are given trials in turn."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes: dict[str, dict[str, str]] = {}
        self.jobs: list[Process] = []

    def add(self, name: str, **env: str) -> Path:
        cache = self.folder / name
        self.nodes[name] = {**os.environ, "NIGHTLAB_CACHE": str(cache), **env}
        return cache

    def describe_nodes(self, device: str | None) -> dict[str, NodeFacts]:
        found = {}
        for name, env in self.nodes.items():
            done = subprocess.run([sys.executable, "-c", LOOK, device or "cpu"], env=env, capture_output=True)
            found[name] = replace(pickle.loads(done.stdout), host=name)
        return found

    def room(self, avoid: set[str]) -> int:
        return len(set(self.nodes) - avoid)

    def outage(self, avoid: set[str]) -> str:
        return "" if self.room(avoid) else "they are all gone"

    def open(self, base: bytes, platform: Platform, seconds: float) -> None:
        self.base = base

    def send(self, parcel: TrialParcel, avoid: set[str]) -> Process:
        free = [name for name in self.nodes if name not in avoid]
        name = free[len(self.jobs) % len(free)]
        out = self.folder / f"job{len(self.jobs)}"
        self.jobs.append(Process(name, self.nodes[name], out, parcel, self.base))
        return self.jobs[-1]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Processes]:
    made = Processes(tmp_path / "cluster")
    made.folder.mkdir()
    yield made
    for job in made.jobs:
        job.process.kill()
        job.process.wait()


def crew_of(lab: TinyLab, cluster: Processes, slots: int = 1, device: str | None = None) -> tuple[Scheduler, list[str]]:
    said: list[str] = []
    nodes = cluster.describe_nodes(device)
    session = lab.session(elsewhere=common_platform(nodes))
    return Scheduler(session, Observer(), slots, on_cluster(session, cluster, nodes, (), said.append)), said


def night(scheduler: Scheduler, **stop: Any) -> str:
    return ExperimentLoop(scheduler.session, StopRules(**stop), scheduler).run()


BETTER = "A = 1.0  # [0.25..8 log]\nB = 8  # [1..16]\n"
WORSE = "A = 5.0  # [0.25..8 log]\nB = 8  # [1..16]\n"
SLOW = "import time\n\ntime.sleep(600)\n"


def test_a_session_on_nodes_finds_what_it_finds_here(make_lab: Callable[..., TinyLab], cluster: Processes) -> None:
    cluster.add("one")
    cluster.add("two")
    there, here = make_lab(name="there"), make_lab(name="here")
    for lab in (there, here):
        lab.idea("1-worse", WORSE)
        lab.idea("2-better", BETTER)
    scheduler, _ = crew_of(there, cluster)
    night(scheduler, experiments=2)
    _, locally = here.run(experiments=2)
    found = [
        [(e.candidate.hypothesis, e.verdict, e.measurement and e.measurement.metric) for e in ledger.experiments()]
        for ledger in (scheduler.ledger, locally.ledger)
    ]
    assert found[0] == found[1] and len(found[0]) == 3
    assert {job.node for job in cluster.jobs} == {"one", "two"}
    trial = ".nightlab/t/trials/0001-search-s1-1"
    left = [{path.name for path in (lab.folder / trial).iterdir()} for lab in (there, here)]
    assert left[0] == left[1] - {"lock"}
    assert "METRIC loss=" in scheduler.session.local_engine.log("0001-search-s1-1")


def test_a_population_trains_on_nodes(make_lab: Callable[..., TinyLab], cluster: Processes) -> None:
    """Each part on the other node than the one before: checkpoints travel with their trials."""
    cluster.add("one")
    cluster.add("two")
    lab = population_lab(make_lab)
    scheduler, _ = crew_of(lab, cluster)
    result = train_population(ExperimentLoop(scheduler.session, StopRules(), scheduler), members=3, parts=2)
    winner = next(one for trial, one in scheduler.ledger.trials() if trial.id == result.ended.winner)
    assert result.experiment and result.experiment.measurement and winner
    assert result.experiment.measurement.metric == winner.metric
    assert len(result.ended.history) == 2
    assert {job.node for job in cluster.jobs} == {"one", "two"}


def test_an_answer_travels_with_the_trial_that_starts_from_it(
    make_lab: Callable[..., TinyLab], cluster: Processes
) -> None:
    cluster.add("one")
    cluster.add("two")
    lab = warm_lab(make_lab)
    lab.idea("1", step("2"))
    scheduler, _ = crew_of(lab, cluster)
    night(scheduler, experiments=1)
    [_, (trial, measured)] = scheduler.ledger.trials()
    assert measured and measured.metric == 3 and trial.warm_start and trial.warm_start.number == 0
    assert scheduler.session.local_engine.answers.sound(measured.answer)


def test_a_trial_that_dies_with_its_node_runs_again_and_counts_once(
    make_lab: Callable[..., TinyLab], cluster: Processes, tmp_path: Path
) -> None:
    cluster.add("one")
    flag = tmp_path / "data" / "quick"
    flag.parent.mkdir()
    flag.touch()
    lab = make_lab(
        measure=f"import os, time\ntime.sleep(0 if os.path.exists({str(flag)!r}) else 600)\nprint('METRIC loss=4')\n",
        more=f'[data]\nopen = ["{flag.parent}"]\n',
    )
    scheduler, _ = crew_of(lab, cluster)
    with scheduler.on_duty():
        scheduler.start(admit_baseline(scheduler), "search", 1)
        scheduler.drain()
        flag.unlink()
        trial = scheduler.start(0, "search", 2)
        wait(lambda: any("measure.py" in command(pid) for pid in living(cluster.folder)))
        job = cluster.jobs[-1]
        job.process.kill()
        lost = scheduler.drain()[trial.id]
        assert lost.outcome == "lost" and "died" in lost.detail
        wait(lambda: not living(cluster.folder))  # nothing of the trial outlives its node's process
        flag.touch()
        again = scheduler.start(0, "search", 2)
        assert again.id != trial.id and again.attempt == 2
        assert scheduler.drain()[again.id].metric == 4.0
    assert len(scheduler.contestant(scheduler.ledger.experiment(0)).runs) == 2  # two seeds, three trials
    runs = next((cluster.folder / "one").glob("nightlab/far/*/runs"))
    assert list(runs.iterdir()) == []  # what the dead one left was swept


def admit_baseline(scheduler: Scheduler) -> int:
    candidates = ExperimentLoop(scheduler.session, StopRules(), scheduler).candidates
    return candidates.making.admit(candidates.making.baseline())


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def test_what_a_trial_is_at_is_seen_from_outside(make_lab: Callable[..., TinyLab], cluster: Processes) -> None:
    cluster.add("one")
    tells = "import os, time\nfor words in (b'start', b'report 0.5 2.25'):\n"
    tells += "    os.write(int(os.environ['NIGHTLAB_CONTROL']), words + b'\\n')\ntime.sleep(600)\n"
    scheduler, _ = crew_of(make_lab(measure=tells), cluster)
    follower = Follower(scheduler.session.folder)
    trial = scheduler.start(admit_baseline(scheduler), "search", 1)
    running = scheduler.running[trial.id]
    wait(lambda: running.phase()[0] == "training" and follower.look().running[0].curve)
    (flight,) = follower.look().running
    assert (flight.phase, flight.curve, flight.since) == ("training", ((0.5, 2.25),), running.phase()[1])
    running.stop()
    scheduler.drain()


def test_that_no_node_is_left_is_said_once_and_when_one_is_back(
    make_lab: Callable[..., TinyLab], cluster: Processes, monkeypatch: Any
) -> None:
    cluster.add("one")
    scheduler, said = crew_of(make_lab(), cluster)
    why = "they are all gone"
    monkeypatch.setattr("nightlab.engines.remote.engine.LOOK", 0.0)
    monkeypatch.setattr(cluster, "outage", lambda avoid: why)
    monkeypatch.setattr(cluster, "send", lambda parcel, avoid: Waiting())
    trial = scheduler.start(admit_baseline(scheduler), "search", 1)
    running = scheduler.running[trial.id]
    assert not running.finished() and not said and running.phase() == ("starting", None)
    monkeypatch.setattr("nightlab.engines.remote.engine.PATIENCE", -1.0)
    assert not running.finished() and not running.finished()
    assert len(said) == 1 and why in said[0]
    assert running.phase()[0] == "waiting"
    picture = Follower(scheduler.session.folder).look()
    assert picture.running[0].phase == "waiting" and why in picture.troubles[0].words
    why = ""
    assert not running.finished() and running.phase() == ("starting", None)
    assert len(said) == 2 and "back" in said[1]
    why = "they are all gone again"
    assert not running.finished()
    assert len(said) == 3 and len(scheduler.ledger.events(ClusterWaits)) == 2


class Waiting:
    """A job that no node has."""

    def done(self) -> bool:
        return False

    def news(self) -> TrialProgress:
        return TrialProgress()


def test_stopping_now_ends_trials_on_their_nodes(make_lab: Callable[..., TinyLab], cluster: Processes) -> None:
    cluster.add("one")
    lab = make_lab(measure=SLOW)
    scheduler, _ = crew_of(lab, cluster)
    tick = scheduler.view.tick

    def stop(*args: Any) -> None:
        tick(*args)
        if any("measure.py" in command(pid) for pid in living(cluster.folder)):
            scheduler.asked_to_stop = 2

    scheduler.view.tick = stop  # type: ignore[method-assign]
    with pytest.raises(RunInterrupted):
        night(scheduler)
    ((_, measured),) = scheduler.ledger.trials(0)
    assert measured is not None and measured.outcome == "interrupted"
    wait(lambda: not living(cluster.folder))
    wait(lambda: list(next((cluster.folder / "one").glob("nightlab/far/*/runs")).iterdir()) == [])


def fake_gpu(folder: Path, says: str) -> str:
    """A PATH on which NVIDIA's tool answers."""
    folder.mkdir(exist_ok=True)
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{says}\n")
    tool.chmod(tool.stat().st_mode | stat.S_IEXEC)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_a_node_of_another_platform_takes_no_trial(
    make_lab: Callable[..., TinyLab], cluster: Processes, tmp_path: Path
) -> None:
    for name, gpu in {"big": "echo NVIDIA H100", "small": "echo NVIDIA T4", "also-big": "echo NVIDIA H100"}.items():
        cluster.add(name, PATH=fake_gpu(tmp_path / f"gpu-{name}", gpu))
    scheduler, said = crew_of(make_lab(), cluster, slots=2, device="cuda")
    assert said == ["  [bold yellow]small takes no trial:[/] its accelerator is NVIDIA T4, not NVIDIA H100"]
    scheduler.start(admit_baseline(scheduler), "search", 1)
    scheduler.start(0, "search", 2)
    assert {m.outcome for m in scheduler.drain().values()} == {"measured"}
    assert {job.node for job in cluster.jobs} == {"big", "also-big"}


def test_a_gpu_that_falls_off_the_bus_is_no_verdict(
    make_lab: Callable[..., TinyLab], cluster: Processes, tmp_path: Path
) -> None:
    asked = tmp_path / "asked"
    twice = f"echo >> {asked}; test $(wc -l < {asked}) -gt 2 && exit 1; echo NVIDIA H100"
    cluster.add("bad", PATH=fake_gpu(tmp_path / "gpu-bad", twice), WHICH="bad")
    cluster.add("good", PATH=fake_gpu(tmp_path / "gpu-good", "echo NVIDIA H100"), WHICH="good")
    lab = make_lab(
        measure="import os\nassert os.environ['WHICH'] == 'good'\nprint('METRIC loss=1')\n",
        contract='environment = ["WHICH"]\n' + CONTRACT.format(proposer="patches"),
    )
    scheduler, said = crew_of(lab, cluster, device="cuda")
    scheduler.start(admit_baseline(scheduler), "search", 1)
    (measured,) = scheduler.drain().values()
    assert measured.outcome == "measured" and [job.node for job in cluster.jobs] == ["bad", "good"]
    assert len(scheduler.ledger.trials(0)) == 1
    assert len(said) == 1 and "accelerator is none, not NVIDIA H100, since the trial started" in said[0]


def test_a_node_without_a_sandbox_takes_no_trial_of_a_lab_that_needs_one(
    make_lab: Callable[..., TinyLab], cluster: Processes, tmp_path: Path
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("git", "python", "env", "sh"):
        (tools / name).symlink_to(next(f for d in os.environ["PATH"].split(":") if (f := Path(d) / name).exists()))
    cluster.add("open", PATH=str(tools))
    lab = make_lab(contract=CONTRACT.format(proposer="patches").replace('"network", ', ""))
    with pytest.raises(NightlabError, match=r"open: its sandbox lacks the protection of network \(bwrap is not inst"):
        crew_of(lab, cluster)
    assert not cluster.jobs


def test_prepare_runs_once_on_each_node(make_lab: Callable[..., TinyLab], cluster: Processes, tmp_path: Path) -> None:
    cluster.add("one")
    cluster.add("two")
    done = tmp_path / "prepared"
    lab = make_lab(more="", contract=f'prepare = "sh -c \'sleep 0.3; echo $NIGHTLAB_CACHE >> {done}\'"\n'
                   + CONTRACT.format(proposer="patches"))  # fmt: skip
    scheduler, _ = crew_of(lab, cluster, slots=6)
    scheduler.start(admit_baseline(scheduler), "search", 1)
    for seed in range(2, 7):
        scheduler.start(0, "search", seed)
    assert {m.outcome for m in scheduler.drain().values()} == {"measured"}
    assert sorted(done.read_text().split()) == [str(cluster.folder / name) for name in ("one", "two")]


def test_where_no_node_can_prepare_the_session_says_so(make_lab: Callable[..., TinyLab], cluster: Processes) -> None:
    cluster.add("one")
    lab = make_lab(contract='prepare = "false"\n' + CONTRACT.format(proposer="patches"))
    scheduler, said = crew_of(lab, cluster)
    with pytest.raises(NightlabError, match=r"no node .* can take a trial: .*prepare command failed.*: false"):
        night(scheduler)
    assert "prepare" in said[0]
    assert scheduler.ledger.experiment(0).verdict is None


def test_what_travels_is_the_labs_files_and_nothing_of_their_history(
    make_lab: Callable[..., TinyLab], tmp_path: Path
) -> None:
    lab = make_lab(files={"secret.txt": "a key"})
    lab.git("rm", "-q", "secret.txt")
    head = lab.commit()
    repo = Repo(lab.folder)
    base = commit_snapshot(repo, head)
    assert base == commit_snapshot(repo, lab.commit()), "the same files are the same base"
    better = repo.commit_files(head, {"genome.py": BETTER}, "better")
    change = commit_snapshot(repo, better, on=base)
    arrived = unpack_bundle(tmp_path / "node", pack_bundle(repo, base), base)
    assert arrived.resolve(change) is None
    small = pack_bundle(repo, change, without=base)
    arrived = unpack_bundle(tmp_path / "node", small, change)
    assert arrived.read(change, "genome.py") == BETTER and arrived.read(base, "genome.py") != BETTER
    assert arrived.tree(change) == repo.tree(better)
    objects = subprocess.run(
        ["git", "cat-file", "--batch-all-objects", "--batch"], cwd=arrived.lab, capture_output=True
    ).stdout
    assert b"a key" not in objects and b"me@here" not in objects
    assert not lab.git("for-each-ref", "refs/nightlab-travel")


def test_a_lab_inside_a_repository_travels_too(make_lab: Callable[..., TinyLab], cluster: Processes) -> None:
    cluster.add("one")
    lab = make_lab(name="repo/lab")
    (lab.folder / ".git").rename(lab.folder.parent / ".git")
    lab.git("add", "-A", "..")
    lab.commit()
    lab.idea("1", BETTER)
    scheduler, _ = crew_of(lab, cluster)
    night(scheduler, experiments=1)
    assert scheduler.ledger.experiment(1).kept


PLATFORMS = st.builds(
    Platform,
    device=st.sampled_from(["cpu", "cuda"]),
    accelerator=st.sampled_from(["", "1 x NVIDIA H100", "8 x NVIDIA H100", "8 x NVIDIA T4"]),
    processor=st.sampled_from(["a", "b"]),
    cores=st.sampled_from([2, 4]),
    system=st.sampled_from(["Linux 6.1", "Linux 6.2", "Darwin 24"]),
    python=st.sampled_from(["Python 3.11.7", "Python 3.12.1"]),
)


@given(PLATFORMS, PLATFORMS, PLATFORMS)
def test_machines_that_compare_are_a_class(a: Platform, b: Platform, c: Platform) -> None:
    assert not differences(a, a)
    assert bool(differences(a, b)) == bool(differences(b, a))
    if not differences(a, b) and not differences(b, c):
        assert not differences(a, c)
    if a.python != b.python:
        assert any("Python" in words for words in differences(a, b))


@pytest.mark.integration
def test_a_machine_compares_with_itself_and_with_more_of_the_same_accelerators() -> None:
    here = this_platform("cuda")
    one, eight = replace(here, accelerator="1 x NVIDIA H100"), replace(here, accelerator="8 x NVIDIA H100", cores=99)
    assert not differences(one, eight)
    assert differences(replace(here, device="cpu", cores=2), replace(here, device="cpu", cores=4)) == [
        "its cores is 4, not 2"
    ]


@pytest.mark.parametrize(
    ("on", "module", "hint"), [("local-ray", "ray", "nightlab[ray]"), ("slurm", "submitit", "nightlab[slurm]")]
)
def test_a_cluster_whose_software_is_not_there(
    on: str, module: str, hint: str, make_lab: Callable[..., TinyLab], nightlab: Any, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / f"{module}.py").write_text(f"raise ImportError('no {module}')\n")
    path = f"{broken}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    done = nightlab("run", "--on", on, "--slots", "2", cwd=make_lab(), PYTHONPATH=path)
    assert done.code == 1 and "is not installed" in done.err and hint in done.err


def test_a_cluster_that_is_none(make_lab: Callable[..., TinyLab], nightlab: Any) -> None:
    lab = make_lab()
    done = nightlab("run", "--on", "mars", cwd=lab)
    assert done.code == 1 and "unknown cluster 'mars'" in done.err and "local-ray" in done.err
    done = nightlab("run", "--on", "slurm", cwd=lab)
    assert done.code == 1 and "--slots" in done.err
    assert not (lab.folder / ".nightlab" / "t").exists()
