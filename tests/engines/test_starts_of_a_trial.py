"""What a trial's start takes before the program's own code: each trial waits for it, and pays its CPU time."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import cache_from_source
from pathlib import Path

import pytest

from nightlab.engines.local import layout
from nightlab.sandbox.bubblewrap import Bubblewrap, NoSandbox, SandboxSpec


def test_what_runs_beside_candidates_is_compiled_also_where_imports_leave_no_compiled_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "GUEST", tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    source = tmp_path / "beside.py"
    source.write_text("x = 1\n", encoding="utf-8")
    layout.compile_guest()
    assert Path(cache_from_source(str(source))).exists()


def imported(code: str) -> set[str]:
    """The modules of a trial's Python after this code."""
    argv = [sys.executable, "-P", "-c", f"{code}; import sys; print(*sys.modules)"]
    env = {**os.environ, "PYTHONPATH": layout.WITH_START}
    return set(subprocess.run(argv, capture_output=True, text=True, check=True, env=env).stdout.split())


@pytest.mark.integration
def test_the_start_of_a_trial_imports_nothing_that_a_bare_python_does_not() -> None:
    assert not imported("pass") & {"pathlib", "contextlib", "json", "re", "importlib.util"}


@pytest.mark.integration
def test_both_sides_of_another_system_s_evaluator_import_little() -> None:
    heavy = {"dataclasses", "fractions", "inspect", "shutil", "tempfile"}
    serve = imported("import nightlab_bridge.serve")
    assert "nightlab_guest" in serve and not serve & (heavy | {"argparse", "pathlib"})
    assert not imported("from nightlab_bridge import openevolve, runner; runner.arguments(1)") & heavy


def test_private_folders_are_on_disk_only_where_they_can_t_be_in_memory(tmp_path: Path) -> None:
    """Three folders fewer for each trial: to remove one takes up to 3 ms."""
    trial = tmp_path / "trial"
    spec = SandboxSpec(tmp_path, False, (), trial / "home", trial / "tmp", (), 16, "cpu")
    Bubblewrap([]).start(spec)
    assert not trial.exists()
    NoSandbox().start(spec)
    assert {path.name for path in trial.iterdir()} == {"home", "tmp"}
