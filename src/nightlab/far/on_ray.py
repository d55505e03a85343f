"""A Ray cluster as the place where trials run: one already there, or one of our own on this machine.

Each trial is a Ray task that is never retried by Ray: what was lost is run again by us, under an id of its own.
Written for and measured with Ray 2.60.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nightlab.far.engine import Lost
from nightlab.far.node import Brought, Facts, Parcel, look, run
from nightlab.records import NightlabError, Platform
from nightlab.trial.machine import usable_cores

LOCAL, AUTO, LOOPBACK = "local-ray", "auto", "127.0.0.1"
# How soon a head knows that a node is gone; with Ray's own settings it takes half a minute.
HEALTH = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 2000,
    "health_check_failure_threshold": 3,
}
TOKENS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")  # where Ray looks for one before it looks into the home
ANSWER = 120.0  # seconds that a node has to say what it is: its first worker imports everything
NEWS = 1.0  # seconds between looks at the board


class Board:
    """An actor on which nodes write the phase of each trial, once per phase."""

    def __init__(self) -> None:
        self.phases: dict[str, tuple[str, float | None]] = {}

    def write(self, trial: str, phase: str, since: float | None) -> None:
        self.phases[trial] = (phase, since)

    def read(self) -> dict[str, tuple[str, float | None]]:
        return self.phases


class RayCluster:
    """The cluster ``on`` an address (``ray://host:10001``, ``host:6379``, ``auto``), or of our own (``local-ray``).

    ``slots``: as many trials fit into one of our own at once; as many as it has processors when left out.
    Raises NightlabError when Ray is not installed, or no such cluster answers.
    """

    def __init__(self, on: str, slots: int | None = None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        address = _found(on)
        if address == LOCAL or address.startswith(("127.", "localhost")):
            # Or Ray would take the machine's other address for its loopback, and be open to others.
            os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        if any(map(os.environ.get, TOKENS)) or (Path.home() / ".ray" / "auth_token").exists():
            os.environ.setdefault("RAY_AUTH_MODE", "token")  # as `ray start` does; a program would not show it
        self.ray = _imported()
        quiet = {"log_to_driver": False, "logging_level": "ERROR"}
        with _named(self.ray, on):
            if on == LOCAL:
                self.ray.init(
                    address="local",  # never one that happens to run here
                    num_cpus=slots or usable_cores(),
                    include_dashboard=False,
                    _node_ip_address=LOOPBACK,  # nothing of it is open to others
                    _system_config=HEALTH,
                    **quiet,
                )
            else:
                self.ray.init(address=address, **({} if address.startswith("ray://") else quiet))
        self.needs: dict[str, float] = {"num_cpus": 1}
        self.base: Any = None
        self.board: Any = None
        self.phases: dict[str, tuple[str, float | None]] = {}
        self._asked: Any = None
        self._asked_at = 0.0

    def look(self, device: str | None) -> dict[str, Facts]:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        ask = self.ray.remote(num_cpus=0, max_retries=0)(look)
        until, found, silent = time.monotonic() + ANSWER, {}, []
        try:
            asked = {
                node: ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(device)
                for node in self._alive()
            }
        except ImportError as error:  # the head of a client makes the tasks in its stead
            raise NightlabError(f"the head of the cluster {_why(error)}", MEND_NODE) from None
        for node, answer in asked.items():
            try:
                found[node] = self.ray.get(answer, timeout=max(until - time.monotonic(), 0.1))
            except (self.ray.exceptions.RayError, ImportError) as error:
                silent.append(f"{self._host(node)} {_why(error)}")
        if not found:
            raise NightlabError(f"no node of the cluster answers: {'; '.join(silent) or 'it has none'}", MEND_NODE)
        return found

    def room(self, avoid: set[str]) -> int:
        fits = 0
        for node, there in self._alive().items():
            if node not in avoid:
                wanted = {"CPU": self.needs["num_cpus"], "GPU": self.needs.get("num_gpus", 0)}
                fits += min(math.floor(there.get(what, 0) / n) for what, n in wanted.items() if n)
        return fits

    def open(self, base: bytes, platform: Platform, seconds: float) -> None:
        if platform.device == "cuda":
            self.needs["num_gpus"] = 1
        self.base = self._put(base)
        self.board = self.ray.remote(num_cpus=0)(Board).remote()

    def send(self, parcel: Parcel, avoid: set[str]) -> RayJob:
        options: dict[str, Any] = {**self.needs, "max_retries": 0, "name": f"trial {parcel.trial.id}"}
        if avoid:
            options["label_selector"] = {"ray.io/node-id": f"!in({','.join(sorted(avoid))})"}
        task = self.ray.remote(**options)(on_node)
        self.phases.pop(parcel.trial.id, None)
        return RayJob(self, parcel.trial.id, task.remote(self._put(parcel), self.base, self.board))

    def phase(self, trial: str) -> tuple[str, float | None]:
        """What the board says of a trial; it is asked now and then, and never waited for."""
        if self._asked is not None and self._asked.done():
            with contextlib.suppress(Exception):  # a board whose node died says nothing more
                self.phases = self._asked.result()
            self._asked = None
        if self._asked is None and time.monotonic() - self._asked_at > NEWS:
            self._asked, self._asked_at = self.board.read.remote().future(), time.monotonic()
        return self.phases.get(trial, ("starting", None))

    def close(self) -> None:
        self.ray.shutdown()

    def _alive(self) -> dict[str, dict[str, float]]:
        """What each living node has, by its id."""
        return {node["NodeID"]: node["Resources"] for node in self.ray.nodes() if node["Alive"]}

    def _host(self, node: str) -> str:
        return next((str(n["NodeManagerHostname"]) for n in self.ray.nodes() if n["NodeID"] == node), node[:8])

    def _put(self, thing: Any) -> Any:
        try:
            return self.ray.put(thing)
        except (self.ray.exceptions.ObjectStoreFullError, self.ray.exceptions.OutOfDiskError) as error:
            raise NightlabError(f"the cluster {_why(error)}", MEND_STORE) from None


class RayJob:
    """One task."""

    def __init__(self, cluster: RayCluster, trial: str, ref: Any) -> None:
        self.cluster, self.trial, self.ref = cluster, trial, ref
        self.future = ref.future()

    def done(self) -> bool:
        return bool(self.future.done())

    def result(self) -> tuple[str, Brought]:
        exceptions = self.cluster.ray.exceptions
        try:
            node, brought = self.future.result()
            return str(node), brought
        except exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, (exceptions.TaskCancelledError, KeyboardInterrupt)):
                raise Lost("it was cancelled") from None
            full = isinstance(cause, (exceptions.ObjectStoreFullError, exceptions.OutOfDiskError))
            raise NightlabError(f"a node {_why(cause)}", MEND_STORE if full else MEND_NODE) from None
        except (ImportError, exceptions.RaySystemError, exceptions.RuntimeEnvSetupError) as error:
            raise NightlabError(f"a node {_why(error)}", MEND_NODE) from None
        except (exceptions.RayError, ConnectionError) as error:
            raise Lost(f"its node {_why(error)}") from None

    def cancel(self) -> None:
        with contextlib.suppress(Exception):  # it ended meanwhile
            self.cluster.ray.cancel(self.ref)

    def phase(self) -> tuple[str, float | None]:
        return self.cluster.phase(self.trial)


def on_node(parcel: Parcel, base: bytes, board: Any) -> tuple[str, Brought]:
    """The task: runs a trial, and says on which node."""
    import ray

    def tell(phase: str, since: float | None) -> None:
        board.write.remote(parcel.trial.id, phase, since)

    return ray.get_runtime_context().get_node_id(), run(parcel, base, tell)


MEND_NODE = "install the same nightlab on every node, for the same Python, and start its ray from there (docs/far.md)"
MEND_START = "start one: ray start --head, or run on this machine: --on local-ray (docs/far.md)"
MEND_STORE = "give the cluster more room: ray start --object-store-memory BYTES, and free disk space on its head"


def _why(error: BaseException) -> str:
    """What happened to a node, in the words of nightlab."""
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
        "ObjectLostError": "died before its result was fetched",
        "OwnerDiedError": "died before its result was fetched",
        "GetTimeoutError": f"did not answer in {ANSWER:.0f} s",
        "TaskUnschedulableError": "is not there any more",
    }
    return known.get(name, f"failed with {name}: {said[-1]}")


def _imported() -> Any:
    try:
        import ray
    except ImportError:
        raise NightlabError("Ray is not installed here", "pip install 'nightlab[ray]'") from None
    return ray


def _found(on: str) -> str:
    """The address of a cluster that something answers at: Ray would ask at a dead one for minutes."""
    if on == LOCAL:
        return on
    latest = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster"
    try:
        address = on if on != AUTO else os.environ.get("RAY_ADDRESS") or latest.read_text().strip()
        host, _, port = address.removeprefix("ray://").rpartition(":")
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        said = f"nothing answers there ({getattr(error, 'strerror', '') or error})"
        raise NightlabError(f"there is no Ray cluster at {on}: {said}", MEND_START) from None
    return address


@contextmanager
def _named(ray: Any, on: str) -> Iterator[None]:
    """Say what is wrong when a cluster does not let us in."""
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
        mend = "copy ~/.ray/auth_token from its head, and see there that it runs: ray status"
        raise NightlabError(f"the Ray cluster at {on} does not let us in: {said}", mend) from None
