"""Compile caches: the baseline fills them, the others get a copy, and no candidate leaves anything for another."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.labs import TinyLab

from nightlab.engines.local.caches import LIST, Caches
from nightlab.sandbox.bubblewrap import CACHES, cache_env
from nightlab.session.session import Session

# Says what it finds in the cache, then puts in something of its own, and a link out of it.
COMPILES = """\
A = 3.0
B = 8
import os
from pathlib import Path
cache = Path(os.environ["TRITON_CACHE_DIR"])
cache.mkdir(parents=True, exist_ok=True)
found = sorted(path.name for path in cache.rglob("*"))
print("FOUND", *found)
(cache / f"kernel-{A}").write_text(f"made by {A}")
(cache / "link").symlink_to("/etc/hostname")
"""


def found(session: Session) -> list[str]:
    """What each trial found, in order."""
    logs = [session.local_engine.log(trial.id) for trial, _ in session.ledger.trials()]
    return [line.removeprefix("FOUND").strip() for log in logs for line in log.splitlines() if line.startswith("FOUND")]


def test_what_the_baseline_compiled_is_found_by_the_others_and_nothing_else(
    make_lab: Callable[..., TinyLab],
) -> None:
    lab = make_lab(COMPILES)
    for number in (1, 2, 3):
        lab.idea(f"0{number}", COMPILES.replace("A = 3.0", f"A = {3 - number / 2}"))
    _, session = lab.run(experiments=3)
    assert found(session) == ["", "kernel-3.0", "kernel-3.0", "kernel-3.0"]
    [cache] = (session.folder / "compiled").iterdir()
    assert sorted(path.name for path in cache.rglob("*")) == [LIST, "kernel-3.0", "triton"], "no link, no candidate's"


def test_one_that_was_changed_is_nobodys(make_lab: Callable[..., TinyLab]) -> None:
    lab = make_lab(COMPILES)
    for number in (1, 2):
        lab.idea(f"0{number}", COMPILES.replace("A = 3.0", f"A = {3 - number / 2}"))
    lab.run(experiments=1)[1].close()
    [cache] = (lab.folder / ".nightlab/t/compiled").iterdir()
    (cache / "triton" / "kernel-3.0").write_text("made by 9.9")
    _, session = lab.run(experiments=2)
    assert found(session) == ["", "kernel-3.0", ""] and not cache.exists()


def test_bounds(tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    (made / "a").write_bytes(b"x" * 1000)
    small, large = Caches(tmp_path / "small", 999), Caches(tmp_path / "large", 1000)
    (tmp_path / "small").mkdir()
    (tmp_path / "large").mkdir()
    assert not small.keep(made) and small.kept() is None and not small.give(tmp_path / "to")
    assert large.keep(made) and not large.keep(made), "once"
    assert large.give(tmp_path / "to") and (tmp_path / "to" / "a").read_bytes() == b"x" * 1000
    assert not large.keep(tmp_path / "nothing")


def test_kernels_for_another_driver_are_not_given_and_that_is_said(tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    (made / "a").write_text("kernel")
    before = Caches(tmp_path / "kept", 1000, "570.1")
    before.folder.mkdir()
    assert before.keep(made) and before.give(tmp_path / "same") and (tmp_path / "same" / "a").exists()
    now = Caches(tmp_path / "kept", 1000, "580.95.05")
    assert not before.outdated and now.outdated == "570.1" and now.kept() is None
    assert not now.give(tmp_path / "to") and list((tmp_path / "to").iterdir()) == []
    assert now.keep(made) and not now.outdated and now.give(tmp_path / "again"), "a new baseline's are kept"
    (now.kept() or tmp_path).joinpath("driver").unlink()
    assert now.kept(), "one of an earlier nightlab"


def test_a_list_that_was_changed_with_its_file(tmp_path: Path) -> None:
    """The folder's name is the hash of the list: a new list for a new file does not pass either."""
    made = tmp_path / "made"
    made.mkdir()
    (made / "a").write_text("right")
    caches = Caches(tmp_path / "kept", 1000)
    caches.folder.mkdir()
    caches.keep(made)
    kept = caches.kept()
    assert kept
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a").write_text("wrong")
    other = Caches(tmp_path / "elsewhere", 1000)
    other.folder.mkdir()
    other.keep(tmp_path / "other")
    theirs = other.kept()
    assert theirs
    for name in ("a", LIST):
        shutil.copy(theirs / name, kept / name)
    assert not caches.give(tmp_path / "to") and list((tmp_path / "to").iterdir()) == []


def test_each_compiler_has_a_folder_of_its_own() -> None:
    told = cache_env(Path("/c"))
    assert set(told) == set(CACHES) and len(set(told.values())) == len(CACHES)
    assert all(folder.startswith("/c/") for folder in told.values())


def test_without_a_cache(make_lab: Callable[..., TinyLab]) -> None:
    says = "A = 3.0\nB = 8\nimport os\nprint('FOUND', os.environ.get('TRITON_CACHE_DIR', 'nothing'))\n"
    lab = make_lab(says)
    contract = (lab.folder / "lab.toml").read_text()
    lab.commit(lab_toml=contract.replace("[sandbox]", '[resources]\ncompiled = "0MB"\n\n[sandbox]'))
    _, session = lab.run(experiments=1)
    assert found(session)[0] == "nothing" and not (session.folder / "compiled").exists()


@pytest.mark.machine
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_inductor_finds_what_the_baseline_compiled(make_lab: Callable[..., TinyLab]) -> None:
    genome = """\
A = 3.0
B = 8
import torch
from torch._dynamo.utils import counters
compiled = torch.compile(lambda x: torch.sin(x) @ x.T + 1)
compiled(torch.ones(8, 8))
print("FOUND", counters["inductor"]["fxgraph_cache_hit"], counters["inductor"]["fxgraph_cache_miss"])
"""
    lab = make_lab(genome)
    contract = (lab.folder / "lab.toml").read_text().replace("amount = 20", "amount = 200")
    lab.commit(lab_toml=contract)
    lab.idea("01", genome.replace("A = 3.0", "A = 2.0"))
    _, session = lab.run(experiments=1)
    first, *others = found(session)
    assert first == "0 1" and others and set(others) == {"1 0"}, "hits and misses"
