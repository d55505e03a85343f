"""Cgroups, on a folder that looks like the kernel's: the machines of the tests delegate none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.bench import LEAST, Bench

from nightlab.core.types import Measurement
from nightlab.engines.local.cgroup import LEAF, Cgroup, delegated, make_room
from nightlab.sandbox.bubblewrap import NoSandbox

SCOPE = "user.slice/run-u1.scope"


@pytest.fixture
def tree(tmp_path: Path) -> dict[str, Path]:
    """A delegated scope that holds this process alone."""
    root, ours = tmp_path / "cgroup", tmp_path / "self"
    scope = root / SCOPE
    scope.mkdir(parents=True)
    for name, text in {"cgroup.controllers": "cpu memory pids\n", "cgroup.subtree_control": "\n"}.items():
        (scope / name).write_text(text)
    (scope / "cgroup.procs").write_text(f"{os.getpid()}\n")
    ours.write_text(f"1:cpu:/\n0::/{SCOPE}\n")
    return {"root": root, "ours": ours}


def test_a_delegated_scope_is_used_and_left_for_a_leaf(tree: dict[str, Path]) -> None:
    scope = tree["root"] / SCOPE
    assert delegated(**tree) == scope and not (scope / LEAF).exists(), "looking changes nothing"
    assert make_room(**tree) == scope
    assert (scope / LEAF / "cgroup.procs").read_text() == str(os.getpid())
    assert (scope / "cgroup.subtree_control").read_text() == "+memory +pids"


def test_a_second_session_of_the_process_finds_the_room(tree: dict[str, Path]) -> None:
    scope = tree["root"] / SCOPE
    (scope / LEAF).mkdir()
    (scope / "cgroup.subtree_control").write_text("memory pids\n")
    tree["ours"].write_text(f"0::/{SCOPE}/{LEAF}\n")
    assert delegated(**tree) == make_room(**tree) == scope
    (scope / "cgroup.subtree_control").write_text("pids\n")
    assert delegated(**tree) is None


FAULTS = {
    "somebody else is in it": ("cgroup.procs", f"1\n{os.getpid()}\n"),
    "only somebody else is": ("cgroup.procs", "1\n"),
    "memory is not delegated": ("cgroup.controllers", "cpu pids\n"),
    "nothing is": ("cgroup.controllers", ""),
}


@pytest.mark.parametrize("what", sorted(FAULTS))
def test_what_is_not_ours_is_left_alone(tree: dict[str, Path], what: str) -> None:
    name, text = FAULTS[what]
    scope = tree["root"] / SCOPE
    (scope / name).write_text(text)
    before = {path: path.read_text() for path in scope.iterdir()}
    assert delegated(**tree) is None and make_room(**tree) is None
    assert {path: path.read_text() for path in scope.iterdir()} == before


@pytest.mark.parametrize("ours", ["4:memory:/x\n", "", "0::/nowhere\n"])
def test_no_version_two(tree: dict[str, Path], ours: str) -> None:
    tree["ours"].write_text(ours)
    assert delegated(**tree) is None
    tree["ours"].unlink()
    assert delegated(**tree) is None


def test_a_kernel_that_refuses_leaves_us_where_we_were(tree: dict[str, Path]) -> None:
    scope = tree["root"] / SCOPE
    (scope / LEAF).mkdir()
    (scope / LEAF / "cgroup.procs").mkdir()  # which can't be written
    assert make_room(**tree) is None
    assert (scope / "cgroup.procs").read_text() == str(os.getpid())


def test_limits_and_what_is_read(tmp_path: Path) -> None:
    one = Cgroup(tmp_path / "one")
    assert one.peak_mb() == 0 and not one.ran_out()
    one.open(300, 40)
    found = {path.name: path.read_text() for path in one.folder.iterdir()}
    limit = str(300 * 2**20)
    assert found == {"memory.max": limit, "memory.swap.max": "0", "memory.oom.group": "1", "pids.max": "40"}
    (one.folder / "memory.peak").write_text(f"{25 * 2**20}\n")
    (one.folder / "memory.events").write_text("low 0\nmax 7\noom 0\noom_kill 0\n")
    assert one.peak_mb() == 25 and not one.ran_out()
    (one.folder / "memory.events").write_text("low 0\nmax 7\noom 1\noom_kill 2\n")
    assert one.ran_out()
    one.kill()
    assert (one.folder / "cgroup.kill").read_text() == "1"


@pytest.mark.integration
def test_a_process_joins_before_its_program(tmp_path: Path) -> None:
    one = Cgroup(tmp_path / "one")
    one.open(None, 40)
    assert not (one.folder / "memory.max").exists()
    subprocess.run([sys.executable, "-c", ""], preexec_fn=one.join, check=True)
    assert (one.folder / "cgroup.procs").read_text() == "0"


def test_close_removes_what_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cgroup, "kill", lambda one: None)  # a plain folder would have a file from it
    (tmp_path / "one").mkdir()
    Cgroup(tmp_path / "two").close()
    Cgroup(tmp_path / "one").close()
    assert not (tmp_path / "one").exists()


def measure(make_lab: Any, cgroups: Path, events: str) -> tuple[Measurement, Path]:
    """A trial whose cgroup is a plain folder, in which the candidate plays the kernel."""
    fill = f"""
import pathlib
(one,) = pathlib.Path({str(cgroups)!r}).iterdir()
(one / "memory.peak").write_text(str(999 * 2**20))
(one / "memory.events").write_text({events!r})
print("METRIC loss=1")
"""
    one = Bench(make_lab(genome=fill), LEAST + '[resources]\nmemory = "300MB"\n', NoSandbox())
    one.engine.cgroups = cgroups
    measured = one.run()
    return measured, next(cgroups.iterdir())


def test_a_trial_in_a_cgroup(make_lab: Any, tmp_path: Path) -> None:
    (tmp_path / "cgroups").mkdir()
    measured, folder = measure(make_lab, tmp_path / "cgroups", "oom_kill 0\n")
    assert (measured.outcome, measured.peak_memory_mb) == ("measured", 999)
    assert folder.name == f"nightlab-{os.getpid()}-t1"
    assert (folder / "memory.max").read_text() == str(300 * 2**20) and (folder / "cgroup.kill").exists()


def test_a_trial_that_the_kernel_ended(make_lab: Any, tmp_path: Path) -> None:
    (tmp_path / "cgroups").mkdir()
    measured, _ = measure(make_lab, tmp_path / "cgroups", "oom_kill 1\n")
    assert (measured.outcome, measured.detail) == ("over limit", "it needed more than 300 MB of memory")


def test_a_cgroup_that_can_not_be_made_leaves_sampling(make_lab: Any, tmp_path: Path) -> None:
    one = Bench(make_lab(genome="print('METRIC loss=1')"), LEAST, NoSandbox())
    one.engine.cgroups = tmp_path / "nowhere"
    assert one.run().metric == 1
