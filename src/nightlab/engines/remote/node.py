"""Runs on a node: one trial in a local engine, from a git bundle, in the node's cache folder."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from nightlab import __version__
from nightlab.core.config import BudgetConfig, LabConfig
from nightlab.core.types import Measurement, NightlabError, Platform, Trial
from nightlab.engines.local.cgroup import make_room
from nightlab.engines.local.curve import raw_curve
from nightlab.engines.local.engine import LocalEngine
from nightlab.engines.local.handles import RunningTrial
from nightlab.engines.local.layout import detect_sandbox
from nightlab.engines.local.prepare import run_prepare
from nightlab.engines.local.trial_folder import ANSWER, SAVED, kill_leftovers
from nightlab.engines.platform import differences, this_platform
from nightlab.sandbox.bubblewrap import Sandbox
from nightlab.storage.git import Repo
from nightlab.storage.git.bundles import unpack_bundle

POLL = 0.05  # seconds between checks of the trial
RETURNED = (
    "spec.json",
    "phase.json",
    "curve.jsonl",
    "*.log",
    "result.json",
)  # files of the trial's folder that are returned, in this order
NEWS_INTERVAL = 1.0  # seconds between progress messages


class TrialProgress(NamedTuple):
    """A running trial's phase, since when (seconds since the epoch), and its curve file so far."""

    phase: str = "starting"
    since: float | None = None
    curve: bytes = b""


Tell = Callable[[TrialProgress], None]


@dataclass(frozen=True, slots=True)
class TrialParcel:
    """One trial as sent to a node. ``trial.commit`` and ``base`` are snapshots; ``change`` is the bundle between."""

    trial: Trial
    base: str
    change: bytes
    prefix: str
    lab: dict[str, Any]
    budget: dict[str, Any]
    platform: Platform
    """The platform that the node must have."""
    allowed: tuple[str, ...]
    """Protections that the node's sandbox may lack."""
    shared: bool
    """Whether other trials of this session may run on the node at the same time."""
    checkpoint: bytes = b""
    """What a member of a population goes on from."""
    answer: bytes = b""
    """What the trial starts from, where that is an earlier one's answer."""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """A node's description of itself."""

    host: str
    platform: Platform
    version: str
    missing: tuple[str, ...]
    """Protections that its sandbox lacks."""
    why: str

    def unfit(self, platform: Platform, allowed: tuple[str, ...]) -> str:
        """Why the node can't run the trial; empty if it can."""
        if self.version != __version__:
            return f"it has nightlab {self.version}, not {__version__}"
        if other := differences(platform, self.platform):
            return ", ".join(other)
        if open_ := [name for name in self.missing if name not in allowed]:
            return f"its sandbox lacks the protection of {', '.join(open_)} ({self.why})"
        return ""


@dataclass(frozen=True, slots=True)
class NodeResult:
    """A node's result: a measurement with the files of the trial's folder, or the reason why there is none."""

    host: str
    measurement: Measurement | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    refused: str = ""


def describe_node(device: str | None = None, sandbox: Sandbox | None = None) -> NodeFacts:
    """This node with all its accelerators; ``sandbox`` is detected if not given."""
    given = os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # describing the node needs no GPU
    try:
        local = sandbox or detect_sandbox()
        return NodeFacts(socket.gethostname(), this_platform(device), __version__, local.missing, local.why)
    finally:
        if given is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = given


def run_parcel(parcel: TrialParcel, base: bytes, tell: Tell = lambda news: None) -> NodeResult:
    """Run a trial on this node and return its result. If this process ends, so does the trial.

    ``base``: the bundle of the parcel's base. A node that is unfit or fails returns a refusal, never a measurement.
    """
    host = socket.gethostname()
    try:
        sandbox = detect_sandbox()
        if why := describe_node(parcel.platform.device, sandbox).unfit(parcel.platform, parcel.allowed):
            return NodeResult(host, refused=why)
        with _place(parcel, base) as (repo, folder):
            return _run(parcel, repo, folder, sandbox, tell)
    except NightlabError as error:
        return NodeResult(host, refused=f"{error} ({error.hint})")
    except OSError as error:
        return NodeResult(host, refused=f"{error.filename or 'a file'}: {error.strerror or error}")


def _run(parcel: TrialParcel, repo: Repo, folder: Path, sandbox: Sandbox, tell: Tell) -> NodeResult:
    lab, trial = LabConfig.recorded(parcel.lab), parcel.trial
    budget = BudgetConfig(**parcel.budget)
    device = parcel.platform.device
    local = LocalEngine(repo, lab, budget, device, folder, sandbox, make_room(), shares=False)
    local.shared = parcel.shared
    store = local.checkpoints(trial.segment.population) if trial.segment else None
    if store and parcel.checkpoint:
        store.put(parcel.checkpoint)
    if parcel.answer:
        local.answers.put(parcel.answer)
    local.leash, ours = os.pipe()
    try:
        started = local.start(trial)
        running = local.adopt(trial)  # with a leash, its supervisor is not a child of this process
        try:
            assert started.process is not None
            started.process.wait()
            _wait(running, tell)
        except BaseException:  # cancelled
            running.stop()
            _wait(running, tell, 10.0)
            local.clear(running.folder)
            raise
        measurement = local.collect(running)
    finally:
        os.close(local.leash)
        os.close(ours)
    if not measurement.measured and (gone := differences(parcel.platform, this_platform(local.device))):
        return NodeResult(socket.gethostname(), refused=f"{', '.join(gone)}, since the trial started")
    files = {path.name: path.read_bytes() for name in RETURNED for path in sorted(running.folder.glob(name))}
    if store and measurement.checkpoint:
        files = {SAVED: store.path(measurement.checkpoint).read_bytes(), **files}
    if measurement.answer:
        files = {ANSWER: local.answers.path(measurement.answer).read_bytes(), **files}
    return NodeResult(socket.gethostname(), measurement, files)


def _wait(running: RunningTrial, tell: Tell, longest: float = float("inf")) -> None:
    now = time.monotonic()
    told, due, until = TrialProgress(), now, now + longest
    while not running.finished() and now < until:
        if now >= due:
            news, due = TrialProgress(*running.phase(), raw_curve(running.folder)), now + NEWS_INTERVAL
            if news != told:
                tell(news)
                told = news
        time.sleep(POLL)
        now = time.monotonic()


@contextmanager
def _place(parcel: TrialParcel, base: bytes) -> Iterator[tuple[Repo, Path]]:
    """The lab's prepared repository on this node, and a folder for one run, which is removed afterwards."""
    home = node_cache() / parcel.base
    runs = home / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    with _locked(home / "lock"):
        unpack_bundle(home / "lab", base, parcel.base, parcel.prefix)
        repo = unpack_bundle(home / "lab", parcel.change, parcel.trial.commit, parcel.prefix)
        _sweep(runs)
        _prepare(repo, parcel, home)
        folder = Path(tempfile.mkdtemp(dir=runs))
        folder.chmod(0o755)  # as root, trials run as `nobody`
        alive = os.open(folder / "alive", os.O_CREAT | os.O_RDWR)
        fcntl.flock(alive, fcntl.LOCK_EX)
    try:
        yield repo, folder
    finally:
        os.close(alive)
        shutil.rmtree(folder, ignore_errors=True)


def node_cache() -> Path:
    """The node's folder for received labs, each named by its content."""
    given = os.environ.get("NIGHTLAB_CACHE") or os.environ.get("XDG_CACHE_HOME")
    return Path(given or Path.home() / ".cache") / "nightlab" / "far"


def _prepare(repo: Repo, parcel: TrialParcel, home: Path) -> None:
    """Run the lab's ``prepare`` command once per base and interpreter."""
    lab = LabConfig.recorded(parcel.lab)
    which = hashlib.sha256(f"{lab.prepare}\0{sys.executable}".encode()).hexdigest()[:16]
    done = home / f"prepared-{which}"
    if not done.exists():
        run_prepare(repo, lab, parcel.base, home)
        done.touch()


def _sweep(runs: Path) -> None:
    """Remove the folders of runs whose process was killed."""
    for folder in runs.iterdir():
        try:
            handle = os.open(folder / "alive", os.O_RDWR)
        except OSError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # still running
        finally:
            os.close(handle)
        kill_leftovers(folder)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on this node. Polls, so that a waiting trial can be cancelled."""
    handle = os.open(path, os.O_CREAT | os.O_RDWR)
    try:
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(POLL)
        yield
    finally:
        os.close(handle)
