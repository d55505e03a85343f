"""The engine for sessions on a cluster: it sends trials to nodes as parcels, and stores the results locally."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from nightlab.core.events import ClusterWaits, LedgerEvent
from nightlab.core.types import Measurement, NightlabError, Platform, Trial
from nightlab.engines.local.curve import CURVE
from nightlab.engines.local.engine import LocalEngine
from nightlab.engines.local.handles import RunningTrial
from nightlab.engines.platform import differences
from nightlab.engines.remote.node import NodeFacts, NodeResult, TrialParcel, TrialProgress
from nightlab.engines.slots import Slot
from nightlab.storage.git.bundles import commit_snapshot, pack_bundle

LOOK = 1.0  # seconds between checks whether any node can take a trial
PATIENCE = 10.0  # seconds without such a node before the user is told


class Lost(Exception):
    """The cluster lost a trial; its result is unknown."""


class Job(Protocol):
    """A trial sent to some node."""

    def done(self) -> bool: ...

    def result(self) -> tuple[str, NodeResult]:
        """The node's name in the cluster, and the result.

        Raises Lost when the node died, and NightlabError when another node would not do better.
        """
        ...

    def cancel(self) -> None:
        """End it, also on its node."""
        ...

    def news(self) -> TrialProgress:
        """The latest known progress. Does not block."""
        ...


class Cluster(Protocol):
    """A group of nodes that take parcels, each known by its name in the cluster."""

    def describe_nodes(self, device: str | None) -> dict[str, NodeFacts]:
        """What each reachable node is. Raises NightlabError when none is reachable."""
        ...

    def room(self, avoid: set[str]) -> int:
        """How many trials fit on the nodes not in ``avoid`` at once."""
        ...

    def outage(self, avoid: set[str]) -> str:
        """Why no node outside ``avoid`` can take a trial right now; empty if one can. Does not block.

        Raises NightlabError when the cluster is lost.
        """
        ...

    def open(self, base: bytes, platform: Platform, seconds: float) -> None:
        """Receive the bundle that all parcels build on, and the longest duration of one trial in seconds."""
        ...

    def send(self, parcel: TrialParcel, avoid: set[str]) -> Job: ...


@dataclass
class NodeIsolation:
    """The isolation of trials on nodes that may differ in it: a protection counts as missing if any node lacks it."""

    name: str
    missing: tuple[str, ...]
    why: str


@dataclass
class RemoteTrial:
    """A running trial on a cluster."""

    trial: Trial
    slot: Slot
    parcel: TrialParcel
    engine: ClusterEngine
    job: Job
    news: TrialProgress = field(default_factory=TrialProgress)
    result: NodeResult | None = None
    stopped: bool = False

    def phase(self) -> tuple[str, float | None]:
        """The phase known here, and since when (seconds since the epoch)."""
        news = self.job.news()
        if news.phase == "starting" and self.engine.waiting_reason:
            news = TrialProgress("waiting", self.news.since or time.time())
        if news != self.news:
            self.news = news
            self.engine.show(self.trial, news)
        return news.phase, news.since

    def finished(self) -> bool:
        self.engine.check_health()
        if self.result is None and self.job.done():
            if self.stopped:
                self.result = NodeResult("", Measurement("interrupted", detail="stopped by the user"))
                return True
            try:
                node, result = self.job.result()
            except Lost as lost:
                node, result = "", NodeResult("", Measurement("lost", detail=str(lost)))
            if result.refused:
                self.engine.avoid(node, result.host, result.refused)
                self.job = self.engine.send(self.parcel)  # nothing was measured: it is still the same attempt
            else:
                self.result = result
        return self.result is not None

    def stop(self) -> None:
        self.stopped = True
        self.job.cancel()


class ClusterEngine:
    """Runs a session's trials on the nodes of a cluster that have one platform.

    ``local``: the session's engine on this machine, which holds the trials' folders and the lab; ``base``: the commit
    that the session began with; ``say`` tells the user about nodes, and ``record`` writes an event into the ledger.
    Raises NightlabError when no node of the cluster is fit for the session.
    """

    def __init__(
        self,
        local: LocalEngine,
        base: str,
        cluster: Cluster,
        nodes: Mapping[str, NodeFacts],
        allow: Iterable[str],
        say: Callable[[str], None],
        record: Callable[[LedgerEvent], object],
    ) -> None:
        self.local, self.cluster, self.say, self.record = local, cluster, say, record
        self.platform = common_platform(nodes)
        self.avoided: dict[str, str] = {}
        self.waiting_reason = ""  # why all trials wait, after PATIENCE
        self._waiting_since = math.inf
        self._next_check = 0.0
        self._opened = False
        self.allowed = tuple(sorted({*local.lab.sandbox.allow_missing, *allow}))
        fit = []
        for node, facts in nodes.items():
            if why := facts.unfit(self.platform, self.allowed):
                self.avoid(node, facts.host, why)
            else:
                fit.append(facts)
        self._require_some(len(fit))
        missing = tuple(sorted({name for facts in fit for name in facts.missing}))
        why = next((facts.why for facts in fit if facts.missing), "")
        self.sandbox = NodeIsolation("the sandbox of its node", missing, why)
        self.base = commit_snapshot(local.repo, base)
        budget, checks = local.budget, len(local.lab.checks)
        longest = budget.startup + budget.longest() + budget.evaluation * (1 + checks)
        cluster.open(pack_bundle(local.repo, self.base), self.platform, longest)
        self._opened = True

    @property
    def room(self) -> int:
        """How many trials fit at once."""
        return self.cluster.room(set(self.avoided))

    def slots(self, count: int | None) -> list[Slot]:
        """Slots for ``count`` trials (None: as many as fit now); the cluster assigns the resources.

        Raises NightlabError when no trial fits and ``count`` is None.
        """
        places = count or self.room
        if not places:
            raise NightlabError(
                "no node of the cluster has room for a trial", "start one, or let trials wait for one: --slots N"
            )
        return [Slot(number) for number in range(places)]

    def slot_failure(self, slot: Slot) -> str:
        """Empty: a failing node is noticed by its trials and avoided."""
        return ""

    def start(self, trial: Trial, slot: Slot) -> RemoteTrial:
        repo = self.local.repo
        commit = commit_snapshot(repo, trial.commit, on=self.base)
        parcel = TrialParcel(
            trial=replace(trial, commit=commit),
            base=self.base,
            change=pack_bundle(repo, commit, without=self.base),
            prefix=repo.prefix,
            lab=self.local.lab.model_dump(mode="json", exclude_unset=True),
            budget=self.local.budget.model_dump(),
            platform=self.platform,
            allowed=self.allowed,
            shared=self.local.shared,
            checkpoint=self._checkpoint(trial),
            answer=self.local.answers.path(trial.warm_start.answer).read_bytes() if trial.warm_start else b"",
        )
        return RemoteTrial(trial, slot, parcel, self, self.send(parcel))

    def _checkpoint(self, trial: Trial) -> bytes:
        """What a member of a population goes on from; empty for any other trial."""
        part = trial.segment
        found = self.local.checkpoints(part.population).path(part.checkpoint) if part and part.checkpoint else None
        return found.read_bytes() if found else b""

    def stand_by(self, like: Trial, slot: Slot) -> None:
        """Does nothing: the cluster decides which node runs the next trial."""

    def dismiss(self) -> None: ...

    def adopt(self, trial: Trial) -> RunningTrial:
        """A trial of an orchestrator that has died: lost, unless its results had arrived or it ran on this machine."""
        return self.local.adopt(trial)

    def collect(self, handle: RunningTrial | RemoteTrial) -> Measurement:
        if isinstance(handle, RunningTrial):
            return self.local.collect(handle)
        result = handle.result
        if result is None:
            return Measurement("lost", detail="it was abandoned before its node answered")
        write_results_files(self.local.folder / handle.trial.id, result.files)
        if result.measurement is None:
            return Measurement("lost", detail=f"{result.host} rejected the trial: {result.refused}")
        machine = result.measurement.machine
        found = replace(result.measurement, machine={**machine, "node": result.host} if machine else {})
        return self.local.with_files(handle.trial, found)

    def send(self, parcel: TrialParcel) -> Job:
        return self.cluster.send(parcel, set(self.avoided))

    def check_health(self) -> None:
        """Tell the user when all trials wait because no node can take them, and when they continue.

        Raises NightlabError when the cluster is lost.
        """
        now = time.monotonic()
        if now < self._next_check:
            return
        self._next_check = now + LOOK
        if not (why := self.cluster.outage(set(self.avoided))):
            if self.waiting_reason:
                self.say("  [bold]the cluster is back:[/] trials go on")
            self.waiting_reason, self._waiting_since = "", math.inf
            return
        self._waiting_since = min(self._waiting_since, now)
        if not self.waiting_reason and now - self._waiting_since > PATIENCE:
            self.waiting_reason = why
            self.record(ClusterWaits(why))
            self.say(f"  [bold red]all trials wait:[/] {why}; they go on when one can")

    def show(self, trial: Trial, news: TrialProgress) -> None:
        """Store a trial's progress where a local trial would, for screens that show it."""
        folder, said = self.local.folder / trial.id, {"phase": news.phase, "at": news.since or time.time()}
        with contextlib.suppress(OSError):  # a full disk is reported elsewhere
            folder.mkdir(parents=True, exist_ok=True)
            _put(folder / "phase.json", json.dumps(said).encode())
            if news.curve:
                _put(folder / CURVE, news.curve)

    def avoid(self, node: str, host: str, why: str) -> None:
        """Send no further trial of this session to a node.

        Raises NightlabError when no other node is left.
        """
        if node not in self.avoided:
            self.avoided[node] = f"{host}: {why}"
            self.say(f"  [bold yellow]{host} takes no trial:[/] {why}")
        if self._opened:
            self._require_some(self.room)

    def _require_some(self, nodes: int) -> None:
        if not nodes:
            raise NightlabError(
                f"no node of the cluster can take a trial: {'; '.join(self.avoided.values())}",
                "fix the nodes or use others; to accept a missing protection: --allow-missing NAME",
            )


def common_platform(nodes: Mapping[str, NodeFacts]) -> Platform:
    """The platform that most nodes have, preferring those with an accelerator."""
    platforms = [facts.platform for facts in nodes.values()]
    alike = Counter({one: sum(not differences(one, other) for other in platforms) for one in platforms})
    return max(alike, key=lambda one: (bool(one.accelerator), alike[one]))


def write_results_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Store a trial's files where a local trial would have left them, the result last."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / Path(name).name).write_bytes(content)


def _put(path: Path, content: bytes) -> None:
    """Write atomically, because the file may be read at any time."""
    draft = path.with_name(f"{path.name}.tmp")
    draft.write_bytes(content)
    os.replace(draft, path)
