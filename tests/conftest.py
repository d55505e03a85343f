"""Tiny labs in real repositories, the real program in a process of its own, and ways to look at both."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from nightlab.core.config import StopRules
from nightlab.core.observer import Observer
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.scheduler import Scheduler
from nightlab.session.session import Session
from nightlab.storage.git import Repo

settings.register_profile("nightlab", deadline=None, derandomize=True)
settings.load_profile("nightlab")

PROGRAM = [str(Path(sys.executable).parent / "nightlab")]
MARK = "NIGHTLAB_TRIAL"


def pytest_xdist_auto_num_workers() -> int:
    """Twice as many as there are cores: half of the time a test waits for processes of its own."""
    return 2 * (os.cpu_count() or 1)


GENOME = """\
A = 4.0  # [0.25..8 log]
B = 8  # [1..16]
"""

MEASURE = """\
from genome import A, B

print(f"METRIC loss={(A - 1) ** 2 + 0.1 * (B - 3) ** 2:.6f}")
"""

CONTRACT = """\
name = "tiny"
genome = ["genome.py"]
command = "python measure.py"

[metric]
name = "loss"

[budget]
amount = 20
startup = 20
evaluation = 20

[judge]
rule = "greedy"
upkeep = 0
confirm = 0

[sandbox]
allow_missing = ["files", "network", "processes", "privileges"]

[[proposers]]
kind = "{proposer}"
"""


@dataclass
class TinyLab:
    """A lab in a git folder, whose trials take a moment."""

    folder: Path

    def git(self, *args: str) -> str:
        who = ("-c", "user.name=me", "-c", "user.email=me@here")
        return subprocess.run(
            ["git", *who, *args], cwd=self.folder, check=True, capture_output=True, text=True
        ).stdout.strip()

    def write(self, path: str, text: str) -> Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def commit(self, **files: str) -> str:
        """Commit the given files (``genome_py="…"``) and whatever else changed."""
        for name, text in files.items():
            self.write(name.replace("_py", ".py").replace("_toml", ".toml"), text)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "a change", "--allow-empty")
        return self.git("rev-parse", "HEAD")

    def idea(self, name: str, genome: str, hypothesis: str = "", *, path: str = "genome.py") -> None:
        """Put a patch into the queue that gives the committed genome this text."""
        repo = Repo(self.folder)
        head = repo.resolve() or ""
        patch = repo.diff(head, repo.commit_files(head, {path: genome}, "x"))
        self.write(f"ideas/{name}.patch", (f"Hypothesis: {hypothesis}\n" if hypothesis else "") + patch)

    def session(self, tag: str = "t", **more: Any) -> Session:
        """The session ``tag``, made if it is not there, open for writing."""
        repo = Repo(self.folder)
        if (self.folder / ".nightlab" / tag / "ledger.db").exists():
            return Session(repo, tag, writer=True)
        return Session.create(repo, tag, **more)

    def run(self, tag: str = "t", *, slots: int = 1, **stop: Any) -> tuple[str, Session]:
        """Run a session in this process until it stops by itself; returns why, and the session, still open."""
        session = self.session(tag)
        return ExperimentLoop(session, StopRules(**stop), Scheduler(session, Observer(), slots)).run(), session

    def table(self, tag: str = "t") -> list[list[str]]:
        lines = (self.folder / ".nightlab" / tag / "results.tsv").read_text().splitlines()
        return [line.split("\t") for line in lines]


def lab_in(
    place: Path,
    genome: str = GENOME,
    measure: str = MEASURE,
    *,
    proposer: str = "patches",
    contract: str | None = None,
    more: str = "",
    files: Mapping[str, str] | None = None,
    name: str = "lab",
) -> TinyLab:
    """Make a tiny lab. ``patches`` for its proposer costs no import of the tuner's engine."""
    lab = TinyLab(place / name)
    lab.folder.mkdir(parents=True)
    text = CONTRACT.format(proposer=proposer) if contract is None else contract
    lab.write("lab.toml", text + more)
    lab.write("genome.py", genome)
    lab.write("measure.py", measure)
    for path, content in (files or {}).items():
        lab.write(path, content)
    lab.git("init", "-q", "--template=", "-b", "main")
    lab.commit()
    return lab


@pytest.fixture
def make_lab(tmp_path: Path) -> Callable[..., TinyLab]:
    """Make a tiny lab in the test's own folder."""
    return partial(lab_in, tmp_path)


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def program_env(home: Path, **more: str) -> dict[str, str]:
    """What a newcomer's shell has: a home, a path, a language."""
    # But one cache of fonts for all: matplotlib takes seconds to make it anew in every home.
    fonts = str(Path(tempfile.gettempdir()) / "nightlab-tests-matplotlib")
    # And the tree under test, where that is not the one that is installed.
    tree = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
    return {
        **tree,
        "HOME": str(home),
        "MPLCONFIGDIR": fonts,
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "COLUMNS": "200",
        **{name: os.environ[name] for name in ["PYTHONPATH"] if name in os.environ},  # where the code under test is
        **more,
    }


@pytest.fixture
def nightlab(tmp_path: Path) -> Callable[..., Done]:
    """Run the real command in a process of its own, with a home of its own."""
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)

    def run(*args: str, cwd: Path | TinyLab, before: tuple[str, ...] = (), **env: str) -> Done:
        folder = cwd.folder if isinstance(cwd, TinyLab) else cwd
        done = subprocess.run(
            [*before, *PROGRAM, *args],
            cwd=folder,
            env=program_env(home, **env),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's git configuration or cache takes part in a test."""
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


@pytest.fixture
def start_nightlab(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the real command and leave it running, for tests that send it signals."""
    started: list[subprocess.Popen[str]] = []

    def start(*args: str, cwd: TinyLab, **env: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*PROGRAM, *args],
            cwd=cwd.folder,
            env=program_env(tmp_path / "home", **env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait(until: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait until something holds, and return it."""
    end = time.monotonic() + seconds
    while not (found := until()):
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)
    return found


def users_own(lab: TinyLab) -> str:
    """A fingerprint of all that is the user's: every file, the index, HEAD and the user's branch."""
    found = hashlib.sha256()
    for path in sorted(lab.folder.rglob("*")):
        inside = path.relative_to(lab.folder).parts
        if path.is_file() and inside[0] not in (".git", ".nightlab"):
            found.update(f"{path}\0".encode() + path.read_bytes())
    for name in ("index", "HEAD", "refs/heads/main"):
        found.update((lab.folder / ".git" / name).read_bytes())
    return found.hexdigest()


def living(folder: Path) -> list[int]:
    """Processes that run in the name of a trial below ``folder``, found without nightlab's help."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                names = (entry / "environ").read_bytes()
                zombie = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
            except OSError:
                continue
            if f"{MARK}={folder}".encode() in names and not zombie:
                found.append(int(entry.name))
    return found


@pytest.fixture(autouse=True)
def no_process_left(tmp_path: Path) -> Iterator[None]:
    """Whatever a test started in a trial's name below its folder is gone after it."""
    yield
    for pid in living(tmp_path):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def cuda_stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a ``libcuda.so.1`` that works on host memory."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    folder = tmp_path_factory.mktemp("driver")
    folder.chmod(0o755)  # a trial of root's runs as nobody
    source = Path(__file__).parent / "support" / "cuda_stand_in.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / "libcuda.so.1", source], check=True)
    return folder
