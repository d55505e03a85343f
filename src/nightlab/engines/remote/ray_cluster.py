"""Trials on a Ray cluster: an existing one, or a private one on this machine.

Each trial is a Ray task without retries by Ray: nightlab repeats a lost trial itself, under a new id.
Written for and measured with Ray 2.60.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nightlab.core.types import NightlabError, Platform
from nightlab.engines.platform import usable_cores
from nightlab.engines.remote.engine import Lost
from nightlab.engines.remote.node import (
    NEWS_INTERVAL,
    NodeFacts,
    NodeResult,
    TrialParcel,
    TrialProgress,
    describe_node,
    run_parcel,
)

LOCAL, AUTO, LOOPBACK = "local-ray", "auto", "127.0.0.1"
# Time until the head notices a dead node; Ray's defaults take half a minute.
HEALTH = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 2000,
    "health_check_failure_threshold": 3,
}
ANSWER = 120.0  # seconds for a node to describe itself: its first worker has to import everything
LOOK = 2.0  # seconds between checks of the nodes
LATE, GONE = 10.0, 40.0  # seconds without an answer of the head; after 60 s Ray would end this process


class NodeBoard:
    """An actor that collects the progress of trials until the session fetches it."""

    def __init__(self) -> None:
        self.news: dict[str, TrialProgress] = {}

    def write(self, trial: str, news: TrialProgress) -> None:
        self.news[trial] = news

    def take(self) -> dict[str, TrialProgress]:
        taken, self.news = self.news, {}
        return taken


class RayCluster:
    """The cluster at an address (``ray://host:10001``, ``host:6379``, ``auto``), or a private one (``local-ray``).

    ``slots``: number of trials at once in a private cluster; by default its number of processors.
    Raises NightlabError when Ray is not installed, or the cluster does not answer.
    """

    def __init__(self, on: str, slots: int | None = None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        address = _found(on)
        if address == LOCAL or address.startswith(("127.", "localhost")):
            # Otherwise Ray would bind to the machine's external address and accept connections from others.
            os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        if address != LOCAL and not os.environ.get("RAY_USE_TLS"):
            # Ray decides by the presence of a token on this machine. If the cluster uses none, a token here would make
            # it reject its nodes when they fetch what they were sent.
            os.environ.setdefault("RAY_AUTH_MODE", "token" if _wants_token(address) else "disabled")
        self.ray = _imported()
        quiet = {"log_to_driver": False, "logging_level": "ERROR"}
        with _named(self.ray, on):
            if on == LOCAL:
                self.ray.init(
                    address="local",  # never an existing cluster
                    num_cpus=slots or usable_cores(),
                    include_dashboard=False,
                    _node_ip_address=LOOPBACK,  # not reachable from other machines
                    _system_config=HEALTH,
                    **quiet,
                )
            else:
                self.ray.init(address=address, **({} if address.startswith("ray://") else quiet))
        self.needs: dict[str, float] = {"num_cpus": 1}
        self.base: Any = None
        self.board: Any = None
        self.task = self.ray.remote(max_retries=0)(ray_task)
        self.latest: dict[str, TrialProgress] = {}  # by trial
        self._asked: Any = None
        self._asked_at = 0.0
        self._there, self._there_at = self._alive(), time.monotonic()
        threading.Thread(target=self._keep_looking, daemon=True).start()

    def describe_nodes(self, device: str | None) -> dict[str, NodeFacts]:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        ask = self.ray.remote(num_cpus=0, max_retries=0)(describe_node)
        until, found, silent = time.monotonic() + ANSWER, {}, []
        try:
            asked = {
                node: ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(device)
                for node in self._alive()
            }
        except ImportError as error:  # with Ray Client, the head creates the tasks
            raise NightlabError(f"the head of the cluster {_why(error)}", HINT_NODE) from None
        for node, answer in asked.items():
            try:
                found[node] = self.ray.get(answer, timeout=max(until - time.monotonic(), 0.1))
            except (self.ray.exceptions.RayError, ImportError) as error:
                silent.append(f"{self._host(node)} {_why(error)}")
        if not found:
            raise NightlabError(f"no node of the cluster answers: {'; '.join(silent) or 'it has none'}", HINT_NODE)
        return found

    def room(self, avoid: set[str]) -> int:
        return self._room(self._alive(), avoid)

    def outage(self, avoid: set[str]) -> str:
        silent = time.monotonic() - self._there_at
        if silent > GONE:
            raise NightlabError(f"the head of the cluster has not answered for {silent:.0f} s", HINT_HEAD)
        if silent > LATE:
            return "the head of the cluster does not answer"
        return "" if self._room(self._there, avoid) else "no running node of the cluster can take a trial"

    def _room(self, nodes: dict[str, dict[str, float]], avoid: set[str]) -> int:
        fits = 0
        for node, there in nodes.items():
            if node not in avoid:
                wanted = {"CPU": self.needs["num_cpus"], "GPU": self.needs.get("num_gpus", 0)}
                fits += min(math.floor(there.get(what, 0) / n) for what, n in wanted.items() if n)
        return fits

    def open(self, base: bytes, platform: Platform, seconds: float) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        if platform.device == "cuda":
            self.needs["num_gpus"] = 1
        self.base = self._put(base)
        here = NodeAffinitySchedulingStrategy(self.ray.get_runtime_context().get_node_id(), soft=True)
        # On the head or this machine, which outlive the nodes; if not, Ray restarts it elsewhere.
        self.board = self.ray.remote(num_cpus=0, max_restarts=-1, scheduling_strategy=here)(NodeBoard).remote()

    def send(self, parcel: TrialParcel, avoid: set[str]) -> RayJob:
        options: dict[str, Any] = {**self.needs, "name": f"trial {parcel.trial.id}"}
        if avoid:
            options["label_selector"] = {"ray.io/node-id": f"!in({','.join(sorted(avoid))})"}
        self.latest.pop(parcel.trial.id, None)
        task = self.task.options(**options)
        return RayJob(self, parcel.trial.id, task.remote(self._put(parcel), self.base, self.board))

    def news(self, trial: str) -> TrialProgress:
        """A trial's latest progress. The board is queried once per NEWS_INTERVAL, without blocking."""
        if self._asked is not None and self._asked.done():
            with contextlib.suppress(Exception):  # the board's node died
                self.latest |= self._asked.result()
            self._asked = None
        if self._asked is None and time.monotonic() - self._asked_at > NEWS_INTERVAL:
            self._asked_at = time.monotonic()
            with contextlib.suppress(Exception):  # the client is disconnected
                self._asked = self.board.take.remote().future()
        return self.latest.get(trial, TrialProgress())

    def at(self, ip: str) -> str:
        """The id of the running node with this address; empty if there is none."""
        nodes = (n for n in self.ray.nodes() if n["Alive"] and n["NodeManagerAddress"] == ip)
        return next((str(node["NodeID"]) for node in nodes), "")

    def close(self) -> None:
        self.ray.shutdown()

    def _keep_looking(self) -> None:
        """Runs in a thread, because a query to a dead head blocks."""
        while self.ray.is_initialized():
            with contextlib.suppress(Exception):  # any error means that the head did not answer
                self._there, self._there_at = self._alive(), time.monotonic()
            time.sleep(LOOK)

    def _alive(self) -> dict[str, dict[str, float]]:
        """The resources of each running node, by its id."""
        return {node["NodeID"]: node["Resources"] for node in self.ray.nodes() if node["Alive"]}

    def _host(self, node: str) -> str:
        return next((str(n["NodeManagerHostname"]) for n in self.ray.nodes() if n["NodeID"] == node), node[:8])

    def _put(self, thing: Any) -> Any:
        try:
            return self.ray.put(thing)
        except (self.ray.exceptions.ObjectStoreFullError, self.ray.exceptions.OutOfDiskError) as error:
            raise NightlabError(f"the cluster {_why(error)}", HINT_STORE) from None
        except ConnectionError:  # from Ray Client
            raise NightlabError("the connection to the cluster was lost", HINT_HEAD) from None


class RayJob:
    """A trial as a Ray task."""

    def __init__(self, cluster: RayCluster, trial: str, ref: Any) -> None:
        self.cluster, self.trial, self.ref = cluster, trial, ref
        self.future = ref.future()

    def done(self) -> bool:
        return bool(self.future.done())

    def result(self) -> tuple[str, NodeResult]:
        exceptions = self.cluster.ray.exceptions
        try:
            node, result = self.future.result()
            return str(node), result
        except exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, (exceptions.TaskCancelledError, KeyboardInterrupt)):
                raise Lost("it was cancelled") from None
            if node := self.cluster.at(error.ip):  # nothing was measured; another node may succeed
                return node, NodeResult(self.cluster._host(node), refused=f"it {_why(cause)}")
            raise Lost(f"its node {_why(cause)}") from None
        except (ImportError, exceptions.RaySystemError, exceptions.RuntimeEnvSetupError) as error:
            raise NightlabError(f"a node {_why(error)}", HINT_NODE) from None
        except exceptions.RayError as error:
            raise Lost(f"its node {_why(error)}") from None
        except ConnectionError:
            raise Lost("the connection to its cluster was lost") from None
        finally:
            self.cluster.latest.pop(self.trial, None)

    def cancel(self) -> None:
        with contextlib.suppress(Exception):  # it may have ended
            self.cluster.ray.cancel(self.ref)

    def news(self) -> TrialProgress:
        return self.cluster.news(self.trial)


def ray_task(parcel: TrialParcel, base: bytes, board: Any) -> tuple[str, NodeResult]:
    """Ray task: run a trial; returns the node's id and the result."""
    import ray

    def tell(news: TrialProgress) -> None:
        board.write.remote(parcel.trial.id, news)

    return ray.get_runtime_context().get_node_id(), run_parcel(parcel, base, tell)


HINT_NODE = "install the same nightlab on every node, for the same Python, and start its ray from there (docs/far.md)"
HINT_START = "start one: ray start --head, or run on this machine: --on local-ray (docs/far.md)"
HINT_HEAD = "check on the head that it runs: ray status; then run the same command, which resumes"
HINT_STORE = "give the cluster more room: ray start --object-store-memory BYTES, and free disk space on its head"


def _why(error: BaseException) -> str:
    """What happened to a node, as text."""
    name, said = type(error).__name__, (str(error).strip().splitlines() or ["no reason given"])
    if isinstance(error, ImportError) or "No module named" in str(error):
        missing = next((line for line in said if "No module named" in line), said[-1])
        return f"can't run nightlab: {missing.split(': ', 1)[-1]}"
    known = {
        "ObjectStoreFullError": "has no room left in its object store",
        "OutOfDiskError": "has no disk left for its object store",
        "NodeDiedError": "died",
        "WorkerCrashedError": "lost the process that ran it",
        "LocalRayletDiedError": "died",
        "OutOfMemoryError": "ran out of memory",
        "ObjectLostError": "died before what it held was fetched",
        "OwnerDiedError": "does not reach the machine that sends trials, whose ports must be open to the nodes, "
        "or send from one of them",
        "ObjectFetchTimedOutError": "could not fetch what was sent in ten minutes",
        "GetTimeoutError": f"did not answer in {ANSWER:.0f} s",
        "TaskUnschedulableError": "is no longer part of the cluster",
    }
    return known.get(name, f"failed with {name}: {said[-1]}")


def _imported(module: str = "ray") -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise NightlabError("Ray is not installed here", "pip install 'nightlab[ray]'") from None


def _found(on: str) -> str:
    """The address of a cluster, after a check that it accepts connections: Ray would retry for minutes."""
    if on == LOCAL:
        return on
    latest = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster"
    try:
        address = on if on != AUTO else os.environ.get("RAY_ADDRESS") or latest.read_text(encoding="utf-8").strip()
        host, _, port = address.removeprefix("ray://").rpartition(":")
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        said = f"nothing answers there ({getattr(error, 'strerror', '') or error})"
        raise NightlabError(f"there is no Ray cluster at {on}: {said}", HINT_START) from None
    return address


def _wants_token(address: str) -> bool:
    """Whether a cluster rejects connections without a token."""
    grpc = _imported("grpc")  # which Ray's client needs too
    # Both calls only ask whether the cluster is alive. A proxy in the environment is not meant for the cluster.
    ask = "RayletDriver/ClusterInfo" if address.startswith("ray://") else "NodeInfoGcsService/CheckAlive"
    with grpc.insecure_channel(address.removeprefix("ray://"), [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(f"/ray.rpc.{ask}")(b"", timeout=10)
        except grpc.RpcError as error:
            return bool(error.code() is grpc.StatusCode.UNAUTHENTICATED)
    return False


@contextmanager
def _named(ray: Any, on: str) -> Iterator[None]:
    """Translate connection errors into NightlabError with a hint."""
    try:
        yield
    except Exception as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if "ersion mismatch" in str(error):
            about = " ".join(line.strip() for line in str(error).splitlines() if "ray:" in line.lower())
            raise NightlabError(
                f"the cluster at {on} has another Ray or Python: {about or said}",
                "use the same Ray and the same Python here and there (docs/far.md)",
            ) from None
        hint = "copy ~/.ray/auth_token from its head, and check there that it runs: ray status"
        raise NightlabError(f"the Ray cluster at {on} refuses the connection: {said}", hint) from None
