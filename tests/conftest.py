"""Fixtures that all tests share; what they are made of lies in ``tests/support``."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis.internal.conjecture import providers
from support.bench import Bench, benches
from support.commands import PYTHON
from support.labs import TinyLab, lab_in
from support.processes import FONTS, PROGRAM, Done, has_ended, living, program_env, wait
from support.program_server import ProgramServer
from support.run import Run
from support.warm_server import WarmServer

from nightlab.core.config import CommandConfig
from nightlab.core.types import Experiment, Metric
from nightlab.proposers import Briefing, Proposal
from nightlab.proposers.command import AnyCommand
from nightlab.proposers.proposer import ProposerWorkspace
from nightlab.sandbox.bubblewrap import NoSandbox, Sandbox
from nightlab.session import seeds
from nightlab.session.session import detect_sandbox

# Every trial starts Python programs: they compile nightlab once, not each time, whatever the environment says.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
settings.register_profile("nightlab", max_examples=50, deadline=None, derandomize=True)
settings.load_profile("nightlab")
# It takes constants for its examples from all modules that were imported, which differ from run to run.
setattr(providers, "_get_local_constants", lambda: providers._local_constants)  # noqa: B010


warm_server = WarmServer()


def pytest_configure() -> None:
    """Sessions that tests make have counted seeds and named trials; those of the program's processes have a secret."""
    setattr(seeds, "fresh_secret", lambda: "")  # noqa: B010
    warm_server.serve_all()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background of a script
        signal.signal(signal.SIGINT, signal.default_int_handler)


LONG_ID = 200


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Three for a core, as a test waits for processes of its own half of the time; unit tests have none."""
    return (os.cpu_count() or 1) * (1 if config.getoption("markexpr") == "unit" else 3)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Long parameters are named by their size: a process gets no environment with the name of a test of a megabyte."""
    return f"{argname} of {len(val):,}" if isinstance(val, str | bytes) and len(val) > LONG_ID else None


# A test that asks for one of these runs real processes, git or a sandbox.
REAL = {"make_lab", "nightlab", "start_nightlab", "killed", "bench", "bare_bench", "proposer", "arena", "cuda_stand_in"}
unit_test_runs = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tier of each test: ``machine`` is said by its mark; ``integration`` by its mark, or by what it asks for."""
    for item in items:
        if item.get_closest_marker("machine"):
            continue
        if REAL & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.integration)
        elif not item.get_closest_marker("integration"):
            item.add_marker(pytest.mark.unit)


STARTS = ("subprocess.Popen", "os.fork", "os.posix_spawn")


def _refuse_processes(event: str, _: tuple[object, ...]) -> None:
    if unit_test_runs and event in STARTS and threading.current_thread() is threading.main_thread():
        raise RuntimeError("a unit test starts no process: mark this one with pytest.mark.integration")


sys.addaudithook(_refuse_processes)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Hold unit tests to starting no process, fixtures included."""
    global unit_test_runs
    unit_test_runs = item.get_closest_marker("unit") is not None
    try:
        return (yield)
    finally:
        unit_test_runs = False


@pytest.fixture
def make_lab(tmp_path: Path) -> Callable[..., TinyLab]:
    """Make a tiny lab in the test's own folder."""
    return partial(lab_in, tmp_path)


@pytest.fixture(scope="session")
def program_server() -> Iterator[ProgramServer]:
    server = ProgramServer(warm_server)
    yield server
    server.close()


@pytest.fixture
def nightlab(tmp_path: Path, program_server: ProgramServer) -> Callable[..., Done]:
    """Run the real command in a process of its own, with a home of its own."""
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)

    def run(*args: str, cwd: Path | TinyLab, before: tuple[str, ...] = (), **env: str) -> Done:
        folder = cwd.folder if isinstance(cwd, TinyLab) else cwd
        own = program_env(home, **env)
        if before or not program_server.serves(own):
            done = subprocess.run(
                [*before, *PROGRAM, *args],
                cwd=folder,
                env=own,
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                check=False,
            )
        else:
            done = program_server.run([*PROGRAM, *args], folder, own)
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
    monkeypatch.setenv("MPLCONFIGDIR", FONTS)


@pytest.fixture
def start_nightlab(tmp_path: Path, program_server: ProgramServer) -> Iterator[Callable[..., Run]]:
    """Start the real command and leave it running, for tests that send it signals."""
    started: list[Run] = []

    def start(*args: str, cwd: TinyLab, **env: str) -> Run:
        own = program_env(tmp_path / "home", **env)
        assert program_server.serves(own), "a run of the server does not read this: use subprocess"
        process = program_server.start_with_pipe([*PROGRAM, *args], cwd.folder, own)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def killed(start_nightlab: Callable[..., Run]) -> Callable[..., None]:
    """Start the real command, and kill it at once (SIGKILL) when ``until`` holds."""

    def run(*args: str, cwd: TinyLab, until: Callable[[], Any]) -> None:
        process = start_nightlab(*args, cwd=cwd)
        wait(lambda: until() or process.poll() is not None)
        assert process.poll() is None, f"it ended before it was killed: {process.communicate()[0]}"
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()

    return run


@pytest.fixture(autouse=True)
def no_process_left(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test started in a trial's name below its folder is gone after it."""
    yield
    if request.node.get_closest_marker("unit"):
        return
    while left := living(tmp_path):  # again, as one that was killed may have started another meanwhile
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait(lambda left=left: all(map(has_ended, left)))


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


@pytest.fixture(params=[pytest.param("bare", marks=pytest.mark.machine), "sandbox"])
def bench(make_lab: Any, request: pytest.FixtureRequest) -> Callable[..., Bench]:
    """What must hold with a sandbox and, in the machine tier, without one."""
    sandbox = NoSandbox() if request.param == "bare" else detect_sandbox()
    if request.param == "sandbox" and sandbox.name == "none":
        pytest.skip(sandbox.why)
    return benches(make_lab, sandbox)


@pytest.fixture
def bare_bench(make_lab: Any) -> Callable[..., Bench]:
    """Without a sandbox: for candidates that leave traces outside their box so that the test sees them."""
    return benches(make_lab, NoSandbox())


@pytest.fixture
def proposer(make_lab: Any, tmp_path: Path) -> Callable[..., Callable[[], Proposal]]:
    """A command whose program is a script of the lab's own; returns one turn of it."""

    def make(script: str, sandbox: Sandbox, **more: Any) -> Callable[[], Proposal]:
        lab: TinyLab = make_lab(files={"agent.py": script, "sub/frozen.txt": "ice", "program.md": "committed\n"})
        session = lab.session()
        part = CommandConfig(kind="command", **{"command": f"{PYTHON} agent.py", "name": "a", **more})
        one = AnyCommand(part, ProposerWorkspace(session.repo, session.lab, sandbox, tmp_path / "place"))
        first = Experiment(0, session.baseline_candidate(), 0.0)
        genome, program = session.genome(session.base), "the strategy that holds\n"
        told = Briefing(Metric("loss"), "cpu", genome, first, [first], lab=session.lab, program=program)
        made.append(one)
        return lambda: one.propose(told)

    made: list[AnyCommand] = []
    make.made = made  # type: ignore[attr-defined]
    return make
