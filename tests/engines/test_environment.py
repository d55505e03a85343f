"""The Python environment that a lab's command runs in."""

from __future__ import annotations

import sys
import venv
from pathlib import Path
from typing import Any

import pytest
from support.bench import LEAST, Bench

from nightlab.engines.local.environment import Environment, find_environment
from nightlab.sandbox.bubblewrap import NoSandbox, search_path
from nightlab.session.session import detect_sandbox

SAYS = "import sys, mine\nprint(sys.prefix, mine.__file__)\nprint(f'METRIC loss={mine.VALUE}')\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "lab").mkdir()
    return tmp_path / "lab"


def made(prefix: Path) -> Path:
    """What looks like an environment."""
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin" / "python").symlink_to(sys.executable)
    return prefix


def test_the_labs_own_comes_first_then_an_active_one_then_ours(folder: Path, tmp_path: Path) -> None:
    active, conda = made(tmp_path / "active"), made(tmp_path / "conda")
    assert find_environment(folder, folder, "", {}).prefix is None
    named = {"CONDA_PREFIX": str(conda), "CONDA_DEFAULT_ENV": "mine"}
    assert find_environment(folder, folder, "", named).prefix == conda
    assert find_environment(folder, folder, "", {**named, "CONDA_DEFAULT_ENV": "base"}).prefix is None
    assert find_environment(folder, folder, "", {**named, "VIRTUAL_ENV": str(active)}).prefix == active
    assert find_environment(folder, folder, "", {"VIRTUAL_ENV": sys.prefix}).prefix is None
    own = made(folder / ".venv")
    found = find_environment(folder, folder, "", {"VIRTUAL_ENV": str(active)})
    assert found.prefix == own and own in found.readable


def test_folders_of_modules_are_read_and_none_that_hold_the_home(folder: Path, tmp_path: Path) -> None:
    module = tmp_path / "modules" / "lib"
    module.mkdir(parents=True)
    entries = ["relative", "/usr/lib", "/", str(Path.home()), str(folder.parent), str(module), "/not/there"]
    assert find_environment(folder, folder, "", {"LD_LIBRARY_PATH": ":".join(entries)}).readable == (module,)


@pytest.mark.parametrize(
    ("command", "runs"),
    [
        ("uv run train.py", "python train.py"),
        ("uv run --frozen python -u train.py", "python -u train.py"),
        ("poetry run -- train --fast", "train --fast"),
        ("uv run -m mine.train", "python -m mine.train"),
        ("uv run --with numpy train.py", "uv run --with numpy train.py"),
        (".venv/bin/python train.py", "/lab/.venv/bin/python train.py"),
        ("python run uv", "python run uv"),
    ],
)
def test_commands_start_in_the_environment_itself(command: str, runs: str) -> None:
    assert " ".join(Environment(Path("/lab/.venv"), ()).argv(command.split())) == runs
    assert Environment(None, ()).argv(command.split()) == command.split()


def install_in_place(prefix: Path, name: str, project: Path, root: Path) -> None:
    [packages] = prefix.glob("lib/python3*/site-packages")
    about = packages / f"{name}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Name: {name}\nVersion: 1.0\n")
    (about / "direct_url.json").write_text(f'{{"url": "file://{project}", "dir_info": {{"editable": true}}}}')
    (packages / f"__editable__.{name}.pth").write_text(f"{root}\n")


@pytest.mark.parametrize("sealed", [True, False])
def test_a_package_installed_in_place_is_the_trials_own(make_lab: Any, sealed: bool) -> None:
    """In the lab's .venv, with a package that only that has: each trial measures its own copy, not the checkout."""
    genome = {"src/mine/__init__.py": "VALUE = 1\n", "run.py": SAYS, ".gitignore": ".venv\n"}
    lab = make_lab(files=genome)
    venv.create(lab.folder / ".venv", symlinks=True, with_pip=False)
    install_in_place(lab.folder / ".venv", "mine", lab.folder, lab.folder / "src")
    contract = LEAST.replace("genome.py", "src/mine/__init__.py", 1).replace("python genome.py", "uv run run.py")
    one = Bench(lab, contract, detect_sandbox() if sealed else NoSandbox())
    assert one.run().metric == 1, one.log()
    assert one.log().split()[0] == str(lab.folder / ".venv")
    one.commit = one.engine.repo.commit_files(one.commit, {"src/mine/__init__.py": "VALUE = 2\n"}, "two")
    assert one.run().metric == 2, one.log()


@pytest.mark.integration
def test_an_install_in_place_by_links_is_the_folder_that_they_lead_to(folder: Path) -> None:
    venv.create(folder / ".venv", symlinks=True, with_pip=False)
    links, source = folder / "build" / "__editable__.mine-1.0-py3-none-any" / "mine" / "deep", folder / "src/mine/deep"
    for place in (links, source):
        place.mkdir(parents=True)
    (source / "x.py").touch()
    (links / "x.py").symlink_to(source / "x.py")
    install_in_place(folder / ".venv", "mine", folder, links.parents[1])
    assert find_environment(folder, folder, "").own == ("src",)


@pytest.mark.integration
def test_what_is_installed_in_place_elsewhere_is_named(folder: Path, tmp_path: Path) -> None:
    venv.create(folder / ".venv", symlinks=True, with_pip=False)
    (tmp_path / "other").mkdir()
    install_in_place(folder / ".venv", "other", tmp_path / "other", tmp_path / "other")
    [packages] = folder.glob(".venv/lib/python3*/site-packages")
    (packages / "easy-install.pth").write_text(f"{tmp_path / 'other'}\n{folder}\n{tmp_path}\n/not/there\nimport os\n")
    found = find_environment(folder, folder, "")
    assert found.own == (".",), "as setup.py develop does"
    assert found.elsewhere == (f"easy-install ({tmp_path})", f"other ({tmp_path / 'other'})")


def test_an_interpreter_that_was_called_by_a_roundabout_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/opt/labs/../env/bin/python")
    assert search_path("/usr/bin") == "/opt/env/bin:/usr/bin", "the sandbox shows no /opt/labs"
