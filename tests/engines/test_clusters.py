"""Real clusters: Ray on the loopback, and submitit's own scheduler in Slurm's place; skipped where neither is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from support.labs import TinyLab
from support.population import population_lab
from support.processes import living, wait

from nightlab.core.config import StopRules
from nightlab.core.events import ClusterWaits
from nightlab.core.observer import Observer
from nightlab.core.types import Measurement, NightlabError, Trial
from nightlab.engines.remote import Cluster, common_platform
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.scheduler import RunInterrupted, Scheduler
from nightlab.session.create import on_cluster
from nightlab.storage.ledger import Ledger

pytestmark = pytest.mark.integration

# Before Ray is imported: or it would look for a cluster on the loopback at this machine's other address.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
PROGRAM = [sys.executable, "-c", "from nightlab.cli.main import main; main()"]
BETTER = "A = 1.0  # [0.25..8 log]\nB = 8  # [1..16]\n"


def crew_on(lab: TinyLab, cluster: Cluster, slots: int = 2) -> Scheduler:
    nodes = cluster.describe_nodes("cpu")
    session = lab.session(elsewhere=common_platform(nodes))
    return Scheduler(session, Observer(), slots, on_cluster(session, cluster, nodes, (), print))


def waiting_lab(make_lab: Callable[..., TinyLab], data: Path) -> TinyLab:
    """Its trials wait until somebody lets them go on."""
    data.mkdir()
    waits = f"import os, time\nwhile not os.path.exists('{data}/go'):\n    time.sleep(0.1)\nprint('METRIC loss=4')\n"
    return make_lab(measure=waits, more=f'[data]\nopen = ["{data}"]\n')


def admit_baseline(scheduler: Scheduler) -> int:
    candidates = ExperimentLoop(scheduler.session, StopRules(), scheduler).candidates
    return candidates.making.admit(candidates.making.baseline())


def at_work(cache: Path) -> bool:
    commands = (Path(f"/proc/{pid}/cmdline") for pid in living(cache))
    return any("measure.py" in path.read_text() for path in commands if path.exists())


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: Any) -> Any:
    pytest.importorskip("submitit")
    from nightlab.engines.remote.slurm_cluster import SlurmCluster

    monkeypatch.setenv("NIGHTLAB_CACHE", str(tmp_path / "cache"))
    return SlurmCluster(tmp_path / "jobs", 2, "local")


def test_a_session_in_jobs(make_lab: Callable[..., TinyLab], slurm: Any, tmp_path: Path) -> None:
    lab = make_lab()
    lab.idea("1", BETTER)
    scheduler = crew_on(lab, slurm)
    ExperimentLoop(scheduler.session, StopRules(experiments=1), scheduler).run()
    assert scheduler.ledger.experiment(1).kept
    assert "METRIC loss=2.5" in scheduler.session.local_engine.log("0001-search-s1-1")
    assert not list(slurm.folder.glob("*.phase"))


def test_a_job_that_is_killed_is_lost_and_a_cancelled_one_leaves_nothing(
    make_lab: Callable[..., TinyLab], slurm: Any, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    scheduler = crew_on(waiting_lab(make_lab, tmp_path / "data"), slurm)
    trial = scheduler.start(admit_baseline(scheduler), "search", 1)
    wait(lambda: at_work(cache))
    for process in workers(slurm.folder):
        os.kill(process, 9)
    assert scheduler.drain()[trial.id].outcome == "lost"
    wait(lambda: not living(cache))
    scheduler.start(0, "search", 1)
    wait(lambda: at_work(cache))
    scheduler.asked_to_stop = 2
    with pytest.raises(RunInterrupted):
        scheduler.drain()
    outcomes = [m.outcome for _, m in scheduler.ledger.trials(0) if m]
    assert outcomes == ["lost", "interrupted"] and not living(cache)


def workers(folder: Path) -> list[int]:
    """The processes in which jobs of this folder run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        words = path.read_bytes().split(b"\0") if path.exists() else []
        if b"submitit.core._submit" in words and str(folder).encode() in words:
            found.append(int(path.parent.name))
    return found


def test_a_cluster_that_does_not_answer_is_named_at_once() -> None:
    pytest.importorskip("ray")
    from nightlab.engines.remote.ray_cluster import RayCluster

    for address in ("127.0.0.1:9", "ray://127.0.0.1:9", "nowhere"):
        with pytest.raises(NightlabError, match=f"there is no Ray cluster at {address}"):
            RayCluster(address)


def test_a_cluster_is_asked_whether_it_wants_a_token() -> None:
    grpc = pytest.importorskip("grpc")
    from concurrent.futures import ThreadPoolExecutor

    from nightlab.engines.remote.ray_cluster import _wants_token

    def answer(code: Any) -> Callable[..., bytes]:
        return lambda request, context: context.abort(code, "no") if code else b""

    methods = {"NodeInfoGcsService": "CheckAlive", "RayletDriver": "ClusterInfo"}
    for refused in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.INTERNAL, None):
        server = grpc.server(ThreadPoolExecutor(1))
        for service, method in methods.items():
            handler = {method: grpc.unary_unary_rpc_method_handler(answer(refused))}
            server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(f"ray.rpc.{service}", handler)])
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        wants = refused is grpc.StatusCode.UNAUTHENTICATED
        assert _wants_token(address) == _wants_token(f"ray://{address}") == wants
        server.stop(None)


def test_a_full_object_store_is_named(monkeypatch: Any) -> None:
    ray = pytest.importorskip("ray")
    from nightlab.engines.remote.ray_cluster import RayCluster

    def full(thing: Any) -> None:
        raise ray.exceptions.ObjectStoreFullError("no")

    cluster = RayCluster.__new__(RayCluster)  # without the minute that a cluster takes
    cluster.ray = ray
    monkeypatch.setattr(ray, "put", full)
    with pytest.raises(NightlabError, match="the cluster has no room left in its object store") as told:
        cluster._put(b"bundle")
    assert "--object-store-memory" in told.value.hint


def test_what_ray_says_of_a_task_that_failed() -> None:
    """Where its node can be told, no trial goes there again; where it is gone, the trial was lost; never a verdict."""
    exceptions: Any = pytest.importorskip("ray").exceptions
    from nightlab.engines.remote.engine import Lost
    from nightlab.engines.remote.ray_cluster import RayJob

    def job(error: Exception) -> RayJob:
        future = SimpleNamespace(result=lambda: throw(error))
        there = SimpleNamespace(
            ray=SimpleNamespace(exceptions=exceptions),
            at=lambda ip: "n1" if ip == "10.0.0.1" else "",
            _host=lambda node: "one",
            latest={},
        )
        return RayJob(there, "t", SimpleNamespace(future=lambda: future))  # type: ignore[arg-type]

    causes = {
        exceptions.OwnerDiedError("00", b"", ""): "does not reach the machine that sends trials",
        exceptions.ObjectStoreFullError("no"): "has no room left in its object store",
        ModuleNotFoundError("No module named 'nightlab'"): "can't run nightlab: No module named 'nightlab'",
    }
    for cause, words in causes.items():
        node, result = job(exceptions.RayTaskError("f", "", cause, ip="10.0.0.1")).result()
        assert node == "n1" and words in result.refused and result.measurement is None
        with pytest.raises(Lost, match=words):
            job(exceptions.RayTaskError("f", "", cause, ip="10.0.0.2")).result()
    lost = {
        exceptions.NodeDiedError("gone"): "its node died",
        exceptions.WorkerCrashedError(): "its node lost the process that ran it",
        exceptions.ObjectLostError("00", b"", ""): "its node died before what it held was fetched",
        ConnectionError("cut off"): "the connection to its cluster was lost",
    }
    for error, words in lost.items():
        with pytest.raises(Lost, match=words):
            job(error).result()


def throw(error: Exception) -> None:
    raise error


@pytest.fixture
def ray_nodes(tmp_path: Path, monkeypatch: Any) -> Iterator[Any]:
    pytest.importorskip("ray")
    monkeypatch.setenv("NIGHTLAB_CACHE", str(tmp_path / "cache"))
    from ray.cluster_utils import Cluster as Nodes

    from nightlab.engines.remote.ray_cluster import HEALTH, LOOPBACK

    on = {"node_ip_address": LOOPBACK, "include_dashboard": False}
    nodes = Nodes(initialize_head=True, head_node_args={**on, "num_cpus": 0, "_system_config": HEALTH})
    for _ in range(2):
        nodes.add_node(num_cpus=1, node_ip_address=LOOPBACK)
    yield nodes
    import ray

    ray.shutdown()
    nodes.shutdown()


@pytest.mark.machine
def test_a_night_on_ray_survives_its_nodes(make_lab: Callable[..., TinyLab], ray_nodes: Any, tmp_path: Path) -> None:
    from nightlab.engines.remote.ray_cluster import LOOPBACK, RayCluster

    cache, data = tmp_path / "cache", tmp_path / "data"
    cluster = RayCluster(ray_nodes.address)
    scheduler = crew_on(waiting_lab(make_lab, data), cluster)
    assert scheduler.engine.room == 2  # type: ignore[attr-defined]
    trial = scheduler.start(admit_baseline(scheduler), "search", 1)
    wait(lambda: at_work(cache))
    node = next(n for n in ray_nodes.worker_nodes if runs_a_trial(n))
    ray_nodes.remove_node(node, allow_graceful=False)
    lost = scheduler.drain()[trial.id]
    assert lost.outcome == "lost" and "died" in lost.detail
    wait(lambda: not living(cache))
    (data / "go").touch()
    trial = scheduler.start(0, "search", 1)
    assert scheduler.drain()[trial.id].measured and trial.attempt == 2
    assert scheduler.contestant(scheduler.ledger.experiment(0)).runs[1].metric == 4
    (data / "go").unlink()
    ray_nodes.add_node(num_cpus=1, node_ip_address=LOOPBACK)
    scheduler.start(0, "search", 2)
    wait(lambda: at_work(cache))
    scheduler.asked_to_stop = 2
    with pytest.raises(RunInterrupted):
        scheduler.drain()
    assert not living(cache) and not list(cache.glob("nightlab/far/*/runs/*/*/result.json"))
    scheduler.asked_to_stop = 0
    (data / "go").touch()
    for node in list(ray_nodes.worker_nodes):
        ray_nodes.remove_node(node, allow_graceful=False)
    engine: Any = scheduler.engine
    trial = scheduler.start(0, "search", 3)
    wait(lambda: [*scheduler.finished()] == [] and engine.waiting_reason)
    assert scheduler.running[trial.id].phase()[0] == "waiting"
    ray_nodes.add_node(num_cpus=1, node_ip_address=LOOPBACK)
    assert scheduler.drain()[trial.id].measured and not engine.waiting_reason
    (told,) = scheduler.ledger.events(ClusterWaits)
    assert told.why == "no running node of the cluster can take a trial"


def runs_a_trial(node: Any) -> bool:
    """Whether a worker of this node is at one now."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    return any("ray::trial" in " ".join(worker.cmdline()) for worker in raylet.children())


@pytest.mark.machine
def test_a_driver_that_is_killed_leaves_nothing_on_its_nodes(
    make_lab: Callable[..., TinyLab], ray_nodes: Any, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    lab = waiting_lab(make_lab, tmp_path / "data")
    (Path.home() / ".ray").mkdir()
    (Path.home() / ".ray" / "auth_token").write_text("0" * 64)  # of another cluster: this one wants none
    driver = subprocess.Popen([*PROGRAM, "run", "--on", ray_nodes.address, "-t", "t"], cwd=lab.folder)
    try:
        wait(lambda: at_work(cache))
    finally:
        driver.kill()
        driver.wait()
    wait(lambda: not living(cache))
    (tmp_path / "data" / "go").touch()
    done = subprocess.run([*PROGRAM, "run", "--on", ray_nodes.address, "-t", "t", "-n", "1"], cwd=lab.folder)
    assert done.returncode == 0
    first, second = lab.session().ledger.trials(0)
    assert first[1] is not None and first[1].outcome == "lost" and second[1] is not None and second[1].measured


@pytest.mark.machine
def test_a_population_goes_on_after_its_driver_and_a_node_are_killed(
    make_lab: Callable[..., TinyLab], ray_nodes: Any, tmp_path: Path
) -> None:
    """What the nodes trained is here: checkpoints are handed to whichever node trains the next part."""
    from nightlab.engines.remote.ray_cluster import LOOPBACK

    lab = population_lab(make_lab)
    words = [*PROGRAM, "pbt", "--engine", ray_nodes.address, "-t", "t", "--seeds", "0"]
    path = lab.folder / ".nightlab" / "t" / "ledger.db"

    def parts() -> list[tuple[Trial, Measurement | None]]:
        if not path.exists():
            return []
        ledger = Ledger(path, read_only=True)
        found = ledger.trials(purpose="population")
        ledger.close()
        return found

    driver = subprocess.Popen([*words, "--members", "3", "--parts", "4"], cwd=lab.folder)
    try:
        wait(lambda: sum(one is not None for _, one in parts()) >= 4 or driver.poll() is not None)
        assert driver.poll() is None, "it ended before it was killed"
    finally:
        driver.kill()
        driver.wait()
    ended = {trial.id for trial, one in parts() if one and one.measured}
    ray_nodes.remove_node(next(iter(ray_nodes.worker_nodes)), allow_graceful=False)
    ray_nodes.add_node(num_cpus=1, node_ip_address=LOOPBACK)
    done = subprocess.run([*words, "--json"], cwd=lab.folder, stdout=subprocess.PIPE, check=False)
    facts, found = json.loads(done.stdout), parts()
    measured = {trial.id: (trial.segment, one) for trial, one in found if one and one.measured and trial.segment}
    assert measured.keys() >= ended, "what had ended counts"
    assert sorted((part.member, part.part) for part, _ in measured.values()) == [
        (member, part) for member in range(3) for part in range(1, 5)
    ], "each part once"
    for part, _ in measured.values():
        assert not part.after or measured[part.after][1].checkpoint == part.checkpoint
    winner = measured[facts["winner"]][1]
    assert facts["experiment"]["metric"] == winner.metric, "no noise here: its schedule is its whole history"
    assert len(facts["history"]) == 4 and done.returncode == (0 if facts["experiment"]["status"] == "keep" else 3)
