"""Git as people have set it up: their settings change nothing of what is stored, made or read."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from nightlab.core.types import NightlabError
from nightlab.session.create import make_lab as new_lab
from nightlab.session.preflight import inspect
from nightlab.session.session import Session
from nightlab.storage.git import Repo
from nightlab.storage.git.exports import export

pytestmark = pytest.mark.integration
LONG = "".join(f"line {n}\n" for n in range(20))
SETTINGS = """
[diff]
    noprefix = true
    mnemonicPrefix = true
    context = 0
    external = false
    renames = copies
    orderFile = /nowhere
    relative = true
[log]
    showSignature = true
    follow = true
[commit]
    gpgSign = true
[user]
    useConfigOnly = true
    signingKey = nobody
[core]
    hooksPath = {hooks}
    excludesFile = {ignore}
    safecrlf = true
    splitIndex = true
    quotePath = true
[grep]
    lineNumber = true
    column = true
[apply]
    whitespace = error
[push]
    gpgSign = true
[color]
    ui = always
[init]
    defaultBranch = trunk
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: Any) -> None:
    """A home whose git refuses commits, signs, ignores text files and formats diffs in its own way."""
    home = tmp_path / "home"
    (home / "hooks").mkdir(parents=True)
    for name in ("pre-commit", "commit-msg", "reference-transaction", "post-index-change"):
        hook = home / "hooks" / name
        hook.write_text("#!/bin/sh\nexit 1\n")
        hook.chmod(0o755)
    (home / "ignore").write_text("*.txt\n*.py\n")
    (home / ".gitconfig").write_text(SETTINGS.format(hooks=home / "hooks", ignore=home / "ignore"))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("GIT_CONFIG_GLOBAL", raising=False)


def test_a_new_lab_is_whole_under_hooks_signing_and_ignores(settings: None, tmp_path: Path) -> None:
    repo = Repo(new_lab(tmp_path / "mine", "wasm"))
    there = {p.relative_to(repo.lab).as_posix() for p in repo.lab.rglob("*") if p.is_file() and ".git/" not in str(p)}
    assert set(repo.files("HEAD")) == there and any(path.endswith(".txt") for path in there)


def test_a_lab_that_could_not_be_made_leaves_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".gitconfig").write_text("[broken\n")
    with pytest.raises(NightlabError, match="git init failed"):
        new_lab(tmp_path / "mine", "speed")
    (tmp_path / ".gitconfig").unlink()
    assert new_lab(tmp_path / "mine", "speed").is_dir()


@pytest.fixture
def lab(make_lab: Any) -> Any:
    return make_lab(genome=LONG)


def test_patches_history_and_the_working_copy_ignore_how_diffs_are_shown(lab: Any, settings: None) -> None:
    repo = Repo(lab.folder)
    base = repo.resolve() or ""
    moved = repo.commit_files(base, {"genome.py": LONG.replace("line 2\n", "two\n")}, "moved")
    lab.write("genome.py", LONG.replace("line 17\n", "mine\n"))
    assert repo.dirty() == ["genome.py"]
    start, patch = repo.working_patch(["genome.py"])
    assert start == base and "--- a/genome.py" in patch and " line 16\n" in patch
    both = repo.read(repo.commit_patch(moved, patch, "both"), "genome.py") or ""
    assert "two\n" in both and "mine\n" in both
    assert list(repo.history("HEAD")) == [base]
    assert repo.text(base, ["genome.py"]) == LONG
    assert "\x1b" not in repo.diff(base, moved)


def test_a_branch_in_the_way_is_named_before_anything_is_measured(make_lab: Any) -> None:
    lab = make_lab()
    lab.git("branch", "nightlab")
    repo = Repo(lab.folder)
    found = [check for check in inspect(repo)[2] if not check.ok and check.fatal]
    assert [check.hint for check in found] == ["give it another name: git branch -m nightlab my-nightlab"]
    with pytest.raises(NightlabError, match="can't have the branch nightlab/t beside the branch nightlab"):
        Session.create(repo, "t")
    lab.git("branch", "-m", "nightlab", "nightlab/t/mine")
    with pytest.raises(NightlabError, match="beside the branch nightlab/t/mine"):
        Session.create(repo, "t")
    assert not (lab.folder / ".nightlab" / "t").exists()


def test_gc_between_making_and_admitting_a_candidate_loses_nothing(make_lab: Any) -> None:
    lab = make_lab()
    session = lab.session()
    repo, base = session.repo, session.base
    made = repo.commit_files(base, {"genome.py": "A = 2.0\nB = 8\n"}, "one")
    again = repo.commit_patch(base, repo.patch(base, made), "two")
    lab.git("gc", "-q", "--prune=now")
    assert repo.read(made, "genome.py") == repo.read(again, "genome.py") == "A = 2.0\nB = 8\n"
    repo.keep_reachable("t", "000001", made)
    session.close()
    assert lab.git("for-each-ref", "--format=%(refname)", "refs/nightlab-pending") == ""
    lab.git("gc", "-q", "--prune=now")
    assert repo.resolve(made) and lab.git("rev-parse", "refs/nightlab/t/000001") == made


def test_a_submodule_is_named(make_lab: Any) -> None:
    lab = make_lab()
    lab.git("update-index", "--add", "--cacheinfo", f"160000,{lab.git('rev-parse', 'HEAD')},vendored")
    lab.git("commit", "-q", "-m", "a submodule")
    repo = Repo(lab.folder)
    assert repo.submodules("HEAD") == ["vendored"]
    assert any(check.what.startswith("vendored is a git submodule") for check in inspect(repo)[2])
    export(repo, "HEAD", copy := lab.folder.parent / "copy")
    assert (copy / "measure.py").exists() and (copy / "vendored").is_dir()


def test_only_the_labs_files_of_a_large_partial_clone_are_asked_for(make_lab: Any, tmp_path: Path) -> None:
    """Blobs outside the lab are not there, and the remote is gone: nothing asks for them."""
    source = make_lab(files={"labs/one/lab.toml": "x = 1\n", "labs/one/genome.py": LONG, "huge.bin": "0" * 10_000})
    source.write(".gitattributes", "*.py text eol=crlf\n")
    source.commit()
    subprocess.run(["git", "config", "uploadpack.allowFilter", "true"], cwd=source.folder, check=True)
    place = tmp_path / "clone"
    clone = ["git", "clone", "-q", "--filter=blob:none", "--sparse", f"file://{source.folder}", str(place)]
    subprocess.run(clone, check=True)
    subprocess.run(["git", "sparse-checkout", "set", "labs/one"], cwd=place, check=True)
    source.folder.rename(tmp_path / "gone")
    repo = Repo(place / "labs" / "one")
    base = repo.resolve() or ""
    made = repo.commit_files(base, {"genome.py": LONG.replace("line 2\n", "two\n")}, "two")
    ids = export(repo, made, copy := tmp_path / "copy")
    assert {p.name for p in copy.rglob("*") if p.is_file()} == {"genome.py", "lab.toml"} == set(ids)
    assert b"two\r\n" in (copy / "genome.py").read_bytes(), "attributes of the folders above apply"
    assert repo.changed(base, made) == ["genome.py"]


def test_what_a_partial_clone_lacks_of_the_lab_is_fetched_at_once_and_nothing_else(
    make_lab: Any, tmp_path: Path
) -> None:
    lab = {f"labs/one/{n}.txt": f"{n}\n" for n in range(5)}
    source = make_lab(files={**lab, "other/huge.bin": "0" * 10_000})
    subprocess.run(["git", "config", "uploadpack.allowFilter", "true"], cwd=source.folder, check=True)
    place = tmp_path / "clone"
    clone = ["git", "clone", "-q", "--filter=blob:none", "--no-checkout", f"file://{source.folder}", str(place)]
    subprocess.run(clone, check=True)
    (place / "labs" / "one").mkdir(parents=True)
    repo = Repo(place / "labs" / "one")
    repo.fetch_missing("HEAD")
    source.folder.rename(tmp_path / "gone")
    assert set(export(repo, "HEAD", tmp_path / "copy")) == {f"{n}.txt" for n in range(5)}
    assert len(list(place.glob(".git/objects/pack/*.promisor"))) == 2, "of the clone, and of one request"
    missing = repo.run("rev-list", "--objects", "--missing=print", "HEAD").stdout
    assert missing.count(b"?") == 4, "lab.toml, genome.py, measure.py, and huge.bin"
