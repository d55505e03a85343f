"""What runs on a node: a trial in the node's own box, from a bundle, in the node's own cache folder."""

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
from nightlab.core.config import BudgetConfig, Lab
from nightlab.core.types import Measurement, NightlabError, Platform, Trial
from nightlab.engines.local.cgroup import make_room
from nightlab.engines.local.curve import written
from nightlab.engines.local.engine import LocalEngine
from nightlab.engines.local.handles import RunningTrial
from nightlab.engines.local.layout import detect_sandbox
from nightlab.engines.local.prepare import run_prepare
from nightlab.engines.local.trial_folder import end_leftovers
from nightlab.engines.platform import differences, this_platform
from nightlab.sandbox.bubblewrap import Sandbox
from nightlab.storage.git import Repo
from nightlab.storage.git.bundles import unpack

POLL = 0.05  # seconds between looks at the trial
BROUGHT = (
    "spec.json",
    "phase.json",
    "curve.jsonl",
    "*.log",
    "result.json",
)  # what is brought back of a trial's folder, in this order
NEWS = 1.0  # seconds between news of a trial


class TrialProgress(NamedTuple):
    """What a trial under way is at, since when (seconds since the epoch), and its curve so far, as it is written."""

    phase: str = "starting"
    since: float | None = None
    curve: bytes = b""


Tell = Callable[[TrialProgress], None]


@dataclass(frozen=True, slots=True)
class TrialParcel:
    """One trial as it travels. ``trial.commit`` and ``base`` are snapshots, ``change`` what the first adds."""

    trial: Trial
    base: str
    change: bytes
    prefix: str
    lab: dict[str, Any]
    budget: dict[str, Any]
    platform: Platform
    """What the node must be."""
    allowed: tuple[str, ...]
    """Protections that the node's sandbox need not give."""
    shared: bool
    """Whether other trials of ours may run on the node meanwhile."""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a node is, as it says itself."""

    host: str
    platform: Platform
    version: str
    missing: tuple[str, ...]
    """Protections that its sandbox does not give."""
    why: str

    def unfit(self, platform: Platform, allowed: tuple[str, ...]) -> str:
        """Why no trial may run there; empty when it may."""
        if self.version != __version__:
            return f"it has nightlab {self.version}, not {__version__}"
        if other := differences(platform, self.platform):
            return ", ".join(other)
        if open_ := [name for name in self.missing if name not in allowed]:
            return f"its sandbox gives no protection of {', '.join(open_)} ({self.why})"
        return ""


@dataclass(frozen=True, slots=True)
class NodeResult:
    """What came back from a node: a measurement with the files of its folder, or why there is none."""

    host: str
    measurement: Measurement | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    refused: str = ""


def describe_node(device: str | None = None, sandbox: Sandbox | None = None) -> NodeFacts:
    """What this node is, with all of its accelerators; its sandbox is looked for where nobody has."""
    given = os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # looking takes none of them
    try:
        box = sandbox or detect_sandbox()
        return NodeFacts(socket.gethostname(), this_platform(device), __version__, box.missing, box.why)
    finally:
        if given is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = given


def run(parcel: TrialParcel, base: bytes, tell: Tell = lambda news: None) -> NodeResult:
    """Run a trial on this node and bring back what it left. When this process ends, so does the trial.

    ``base`` is the bundle of the parcel's base. Nothing of a node that is not fit, or fails, is ever a measurement.
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
    lab, trial = Lab.recorded(parcel.lab), parcel.trial
    budget = BudgetConfig(**parcel.budget)
    box = LocalEngine(repo, lab, budget, parcel.platform.device, folder, sandbox, make_room())
    box.shared = parcel.shared
    box.leash, ours = os.pipe()
    try:
        started = box.start(trial)
        running = box.adopt(trial)  # its supervisor is no child of ours
        try:
            assert started.process is not None
            started.process.wait()
            _wait(running, tell)
        except BaseException:  # cancelled
            running.stop()
            _wait(running, tell, 10.0)
            box.clear(running.folder)
            raise
        measurement = box.collect(running)
    finally:
        os.close(box.leash)
        os.close(ours)
    if not measurement.measured and (gone := differences(parcel.platform, this_platform(box.device))):
        return NodeResult(socket.gethostname(), refused=f"{', '.join(gone)}, since the trial began")
    files = {path.name: path.read_bytes() for name in BROUGHT for path in sorted(running.folder.glob(name))}
    return NodeResult(socket.gethostname(), measurement, files)


def _wait(running: RunningTrial, tell: Tell, longest: float = float("inf")) -> None:
    now = time.monotonic()
    told, due, until = TrialProgress(), now, now + longest
    while not running.finished() and now < until:
        if now >= due:
            news, due = TrialProgress(*running.phase(), written(running.folder)), now + NEWS
            if news != told:
                tell(news)
                told = news
        time.sleep(POLL)
        now = time.monotonic()


@contextmanager
def _place(parcel: TrialParcel, base: bytes) -> Iterator[tuple[Repo, Path]]:
    """The lab's repository on this node, prepared, and a folder for one run, which is gone afterwards."""
    home = cache() / parcel.base
    runs = home / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    with _locked(home / "lock"):
        unpack(home / "lab", base, parcel.base, parcel.prefix)
        repo = unpack(home / "lab", parcel.change, parcel.trial.commit, parcel.prefix)
        _sweep(runs)
        _prepare(repo, parcel, home)
        folder = Path(tempfile.mkdtemp(dir=runs))
        folder.chmod(0o755)  # a trial of root's runs as nobody
        alive = os.open(folder / "alive", os.O_CREAT | os.O_RDWR)
        fcntl.flock(alive, fcntl.LOCK_EX)
    try:
        yield repo, folder
    finally:
        os.close(alive)
        shutil.rmtree(folder, ignore_errors=True)


def cache() -> Path:
    """Where a node keeps labs that came to it; each is named by its content."""
    given = os.environ.get("NIGHTLAB_CACHE") or os.environ.get("XDG_CACHE_HOME")
    return Path(given or Path.home() / ".cache") / "nightlab" / "far"


def _prepare(repo: Repo, parcel: TrialParcel, home: Path) -> None:
    """Run the lab's ``prepare`` here, once for each base and interpreter."""
    lab = Lab.recorded(parcel.lab)
    which = hashlib.sha256(f"{lab.prepare}\0{sys.executable}".encode()).hexdigest()[:16]
    done = home / f"prepared-{which}"
    if not done.exists():
        run_prepare(repo, lab, parcel.base, home)
        done.touch()


def _sweep(runs: Path) -> None:
    """Remove what runs left whose process was killed."""
    for folder in runs.iterdir():
        try:
            handle = os.open(folder / "alive", os.O_RDWR)
        except OSError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # it runs
        finally:
            os.close(handle)
        end_leftovers(folder)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Alone on this node. Waits in small steps, so that a trial that waits can be cancelled."""
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
