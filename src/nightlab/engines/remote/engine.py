"""The engine of a session whose trials run on a cluster: it sends parcels, and lays out here what comes back."""

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

LOOK = 1.0  # seconds between looks at whether any node can take a trial
PATIENCE = 10.0  # seconds that no node can take a trial before that is said


class Lost(Exception):
    """A trial that its cluster lost: nobody knows what it would have measured."""


class Job(Protocol):
    """A parcel under way on some node."""

    def done(self) -> bool: ...

    def result(self) -> tuple[str, NodeResult]:
        """By which node, by its name in the cluster, and what.

        Raises Lost when the node died, and NightlabError when no other node would do better.
        """
        ...

    def cancel(self) -> None:
        """End it, on its node too."""
        ...

    def news(self) -> TrialProgress:
        """The latest that is known here; nobody is waited for."""
        ...


class Cluster(Protocol):
    """Nodes that take parcels, by their names in the cluster."""

    def look(self, device: str | None) -> dict[str, NodeFacts]:
        """What each node is that can be asked now. Raises NightlabError when none can."""
        ...

    def room(self, avoid: set[str]) -> int:
        """How many trials fit at once on the other nodes."""
        ...

    def trouble(self, avoid: set[str]) -> str:
        """Why all trials have to wait just now; empty when some other node can take them. Waits for nobody.

        Raises NightlabError when the cluster is gone.
        """
        ...

    def open(self, base: bytes, platform: Platform, seconds: float) -> None:
        """Take the bundle that every parcel stands on, and what one trial needs: at most so many seconds."""
        ...

    def send(self, parcel: TrialParcel, avoid: set[str]) -> Job: ...


@dataclass
class NodeIsolation:
    """What trials are sealed in, on nodes that may differ in it."""

    name: str
    missing: tuple[str, ...]
    why: str


@dataclass
class RemoteTrial:
    """A trial on a cluster."""

    trial: Trial
    slot: Slot
    parcel: TrialParcel
    engine: ClusterEngine
    job: Job
    news: TrialProgress = field(default_factory=TrialProgress)
    brought: NodeResult | None = None
    stopped: bool = False

    def phase(self) -> tuple[str, float | None]:
        """As it is known here."""
        news = self.job.news()
        if news.phase == "starting" and self.engine.waits:
            news = TrialProgress("waiting", self.news.since or time.time())
        if news != self.news:
            self.news = news
            self.engine.show(self.trial, news)
        return news.phase, news.since

    def finished(self) -> bool:
        self.engine.check_health()
        if self.brought is None and self.job.done():
            if self.stopped:
                self.brought = NodeResult("", Measurement("interrupted", detail="stopped by the user"))
                return True
            try:
                node, brought = self.job.result()
            except Lost as lost:
                node, brought = "", NodeResult("", Measurement("lost", detail=str(lost)))
            if brought.refused:
                self.engine.avoid(node, brought.host, brought.refused)
                self.job = self.engine.send(self.parcel)  # nothing was measured: it is still the same attempt
            else:
                self.brought = brought
        return self.brought is not None

    def stop(self) -> None:
        self.stopped = True
        self.job.cancel()


class ClusterEngine:
    """Runs the trials of one session on a cluster, on nodes of one platform.

    ``box``: the session's engine on this machine, which holds the trials' folders and the lab; ``base``: the commit
    that the session began with; ``say`` tells the user about nodes, and ``record`` writes an event into the ledger.
    Raises NightlabError when no node of the cluster is fit for the session.
    """

    def __init__(
        self,
        box: LocalEngine,
        base: str,
        cluster: Cluster,
        nodes: Mapping[str, NodeFacts],
        allow: Iterable[str],
        say: Callable[[str], None],
        record: Callable[[LedgerEvent], object],
    ) -> None:
        self.box, self.cluster, self.say, self.record = box, cluster, say, record
        self.platform = common(nodes)
        self.avoided: dict[str, str] = {}
        self.waits = ""  # why all trials wait, once that has lasted
        self._waits_since = math.inf
        self._heed_again = 0.0
        self._opened = False
        self.allowed = tuple(sorted({*box.lab.sandbox.allow_missing, *allow}))
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
        self.base = commit_snapshot(box.repo, base)
        budget, checks = box.budget, len(box.lab.checks)
        longest = budget.startup + budget.longest() + budget.evaluation * (1 + checks)
        cluster.open(pack_bundle(box.repo, self.base), self.platform, longest)
        self._opened = True

    @property
    def room(self) -> int:
        """How many trials fit at once."""
        return self.cluster.room(set(self.avoided))

    def slots(self, count: int | None) -> list[Slot]:
        """Places in the queue of the cluster, which gives each trial what it needs.

        Raises NightlabError when it has room for none, and nobody says how many may wait.
        """
        places = count or self.room
        if not places:
            raise NightlabError(
                "no node of the cluster has room for a trial", "start one, or let trials wait for one: --slots N"
            )
        return [Slot(number) for number in range(places)]

    def fault(self, slot: Slot) -> str:
        """Nothing: a node that fails says so itself, and is avoided."""
        return ""

    def start(self, trial: Trial, slot: Slot) -> RemoteTrial:
        repo = self.box.repo
        commit = commit_snapshot(repo, trial.commit, on=self.base)
        parcel = TrialParcel(
            trial=replace(trial, commit=commit),
            base=self.base,
            change=pack_bundle(repo, commit, without=self.base),
            prefix=repo.prefix,
            lab=self.box.lab.model_dump(mode="json", exclude_unset=True),
            budget=self.box.budget.model_dump(),
            platform=self.platform,
            allowed=self.allowed,
            shared=self.box.shared,
        )
        return RemoteTrial(trial, slot, parcel, self, self.send(parcel))

    def stand_by(self, like: Trial, slot: Slot) -> None:
        """Nothing: which node has the next trial is the cluster's to say."""

    def dismiss(self) -> None: ...

    def adopt(self, trial: Trial) -> RunningTrial:
        """What an orchestrator now dead had started ended with it, unless it had come back, or ran here."""
        return self.box.adopt(trial)

    def collect(self, handle: RunningTrial | RemoteTrial) -> Measurement:
        if isinstance(handle, RunningTrial):
            return self.box.collect(handle)
        brought = handle.brought
        if brought is None:
            return Measurement("lost", detail="it was given up before its node answered")
        lay_out(self.box.folder / handle.trial.id, brought.files)
        if brought.measurement is None:
            return Measurement("lost", detail=f"{brought.host} took no trial: {brought.refused}")
        machine = brought.measurement.machine
        return replace(brought.measurement, machine={**machine, "node": brought.host} if machine else {})

    def send(self, parcel: TrialParcel) -> Job:
        return self.cluster.send(parcel, set(self.avoided))

    def check_health(self) -> None:
        """Say when trials have to wait because no node can take them, and when one can again.

        Raises NightlabError when the cluster is gone.
        """
        now = time.monotonic()
        if now < self._heed_again:
            return
        self._heed_again = now + LOOK
        if not (why := self.cluster.trouble(set(self.avoided))):
            if self.waits:
                self.say("  [bold]the cluster is back:[/] trials go on")
            self.waits, self._waits_since = "", math.inf
            return
        self._waits_since = min(self._waits_since, now)
        if not self.waits and now - self._waits_since > PATIENCE:
            self.waits = why
            self.record(ClusterWaits(why))
            self.say(f"  [bold red]all trials wait:[/] {why}; they go on when one can")

    def show(self, trial: Trial, news: TrialProgress) -> None:
        """Put what is known of a trial where one of this machine would have it, for whoever watches."""
        folder, said = self.box.folder / trial.id, {"phase": news.phase, "at": news.since or time.time()}
        with contextlib.suppress(OSError):  # a full disk ends a session elsewhere, with its own words
            folder.mkdir(parents=True, exist_ok=True)
            _put(folder / "phase.json", json.dumps(said).encode())
            if news.curve:
                _put(folder / CURVE, news.curve)

    def avoid(self, node: str, host: str, why: str) -> None:
        """A node that is not fit gets no trial of this session any more.

        Raises NightlabError when there is no other.
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
                "mend the nodes, or run on others; what this lab can do without: --allow-missing NAME",
            )


def common(nodes: Mapping[str, NodeFacts]) -> Platform:
    """The platform that most nodes have; one with an accelerator where there are any."""
    platforms = [facts.platform for facts in nodes.values()]
    alike = Counter({one: sum(not differences(one, other) for other in platforms) for one in platforms})
    return max(alike, key=lambda one: (bool(one.accelerator), alike[one]))


def lay_out(folder: Path, files: Mapping[str, bytes]) -> None:
    """Put what came back where a trial of this machine would have left it, the result last."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / Path(name).name).write_bytes(content)


def _put(path: Path, content: bytes) -> None:
    """In one step, for somebody may be reading it."""
    draft = path.with_name(f"{path.name}.tmp")
    draft.write_bytes(content)
    os.replace(draft, path)
