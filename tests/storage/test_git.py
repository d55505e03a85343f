"""Git without touching what is the user's: checkout, index, untracked files, branches, hooks."""

from __future__ import annotations

import os
import subprocess
from hashlib import sha1
from pathlib import Path
from typing import Any

import pytest

from nightlab.core.types import NightlabError
from nightlab.storage.git import OutOfScope, PatchConflict, Repo, command, in_genome, make_repo
from nightlab.storage.git.exports import export

LONG = "".join(f"line {n}\n" for n in range(20))


def state(folder: Path) -> dict[str, bytes]:
    """Everything that is the user's: every file of the working copy, the index, HEAD and the branches."""
    files = [p for p in folder.rglob("*") if p.is_file() and ".git" not in p.relative_to(folder).parts]
    git = [folder / ".git" / name for name in ("index", "HEAD")] + sorted((folder / ".git/refs/heads").rglob("*"))
    return {str(p): p.read_bytes() for p in [*files, *git] if p.is_file()}


@pytest.fixture
def lab(make_lab: Any) -> Any:
    return make_lab(genome=LONG)


@pytest.fixture
def repo(lab: Any) -> Repo:
    return Repo(lab.folder)


def head(repo: Repo) -> str:
    return repo.resolve() or ""


@pytest.mark.parametrize("name", ['a "quoted" one.py', "back\\slash.py", " ü and blanks .py"])
def test_any_name_of_a_file_is_committed_as_it_is(repo: Repo, name: str) -> None:
    made = repo.commit_files(head(repo), {name: "M 100644 inline x\ndata 1\n"}, "a name")
    assert repo.changed(head(repo), made) == [name] and repo.read(made, name) == "M 100644 inline x\ndata 1\n"


def test_candidates_are_made_without_touching_anything_of_the_users(lab: Any, repo: Repo) -> None:
    lab.write("measure.py", "dirty = True\n")
    lab.write("untracked.txt", "mine\n")
    lab.write("staged.txt", "staged\n")
    lab.git("add", "staged.txt")
    before = state(lab.folder)

    base = head(repo)
    one = repo.commit_files(base, {"genome.py": "x = 1\n"}, "one")
    patch = repo.diff(base, repo.commit_files(base, {"genome.py": LONG.replace("line 3\n", "three\n")}, "p"))
    two = repo.commit_patch(base, patch, "two")
    repo.keep_reachable("t", "000001", one)
    export(repo, two, lab.folder.parent / "copy")
    repo.check_scope(base, two, ("genome.py",))

    assert state(lab.folder) == before
    assert repo.read(one, "genome.py") == "x = 1\n" and repo.read(one, "measure.py") == repo.read(base, "measure.py")
    assert "three\n" in (repo.read(two, "genome.py") or "")
    assert lab.git("rev-parse", "refs/nightlab/t/000001") == one
    assert lab.git("log", "-1", "--format=%an|%s|%P", one) == f"nightlab|one|{base}"


def test_what_a_commit_was_made_of_is_what_git_lists(lab: Any, repo: Repo, monkeypatch: Any) -> None:
    """A candidate's files, their contents and its tree are known without asking git, and are what git says."""
    lab.write("tool.py", "1\n").chmod(0o755)
    head = lab.commit()
    texts = {"genome.py": "A = 'ä'\r\n", "tool.py": "2\n"}
    made = [repo.commit_files(head, texts, "known"), repo.commit_files(head, {"new.py": "3\n"}, "a new file: asked")]
    for commit in made:
        assert repo.entries(commit) == Repo(lab.folder).entries(commit)
        assert list(repo.entries(commit)) == list(Repo(lab.folder).entries(commit))
    repo.read(head, "measure.py")
    monkeypatch.setattr(repo, "run", None)
    assert repo.check_scope(head, made[0], ("genome.py", "tool.py")) == ["genome.py", "tool.py"]
    for commit in made:
        assert repo.tree(commit) == Repo(lab.folder).tree(commit)
    for path in ("genome.py", "tool.py", "measure.py"):  # the last as its parent has it
        assert repo.read(made[0], path) == Repo(lab.folder).read(made[0], path)


def test_equal_content_has_an_equal_tree(repo: Repo) -> None:
    base = head(repo)
    one, two = (repo.commit_files(base, {"genome.py": "x = 1\n"}, m) for m in ("one", "two"))
    assert one != two and repo.tree(one) == repo.tree(two) != repo.tree(base)
    assert repo.tree(repo.commit_files(one, {"genome.py": LONG}, "back")) == repo.tree(base)


def test_a_patch_applies_three_way_on_a_changed_parent(repo: Repo) -> None:
    base = head(repo)
    patch = repo.diff(base, repo.commit_files(base, {"genome.py": LONG.replace("line 15\n", "fifteen\n")}, "p"))
    # The context of the patch has changed here, so that it only applies with its common ancestor at hand.
    moved = repo.commit_files(base, {"genome.py": "top\n" * 9 + LONG.replace("line 13\n", "thirteen\n")}, "moved")
    both = repo.read(repo.commit_patch(moved, patch, "both"), "genome.py") or ""
    assert "fifteen\n" in both and "thirteen\n" in both and both.startswith("top\n")


def test_a_patch_that_collides_is_a_conflict_and_leaves_nothing(lab: Any, repo: Repo) -> None:
    base = head(repo)
    patch = repo.diff(base, repo.commit_files(base, {"genome.py": LONG.replace("line 5\n", "five\n")}, "p"))
    other = repo.commit_files(base, {"genome.py": LONG.replace("line 5\n", "cinq\n")}, "o")
    before = state(lab.folder)
    with pytest.raises(PatchConflict, match="does not apply"):
        repo.commit_patch(other, patch, "both")
    for rubbish in ("", "this is no patch", patch.replace("line 4", "nowhere").replace("index", "indexx")):
        with pytest.raises(PatchConflict):
            repo.commit_patch(other, rubbish, "x")
    assert state(lab.folder) == before


def test_the_users_edit_is_carried_onto_another_commit(lab: Any, repo: Repo) -> None:
    champion = repo.commit_files(head(repo), {"genome.py": LONG.replace("line 2\n", "two\n")}, "champion")
    lab.write("genome.py", LONG.replace("line 17\n", "mine\n"))
    base, mine = repo.working_patch(["genome.py"])
    both = repo.read(repo.commit_patch(champion, mine, "mine"), "genome.py") or ""
    assert base == head(repo)
    assert "two\n" in both and "mine\n" in both
    lab.write("genome.py", LONG.replace("line 2\n", "deux\n"))
    with pytest.raises(PatchConflict):
        repo.commit_patch(champion, repo.working_patch(["genome.py"])[1], "mine")
    lab.write("genome.py", LONG.replace("line 2\n", "two\n").replace("line 17\n", "mine\n"))
    base, mine = repo.working_patch(["genome.py"], [champion])
    assert base == champion and "two" not in mine, "its own change is the smaller one"


# -- scope ---------------------------------------------------------------------------------------------


def test_only_plain_files_of_the_genome_may_change(repo: Repo) -> None:
    base = head(repo)
    fine = repo.commit_files(base, {"genome.py": "x"}, "fine")
    assert repo.check_scope(base, fine, ("genome.py",)) == ["genome.py"]
    assert repo.check_scope(base, base, ("genome.py",)) == []
    both = repo.commit_files(base, {"genome.py": "x", "measure.py": "print('METRIC loss=0')"}, "cheat")
    with pytest.raises(OutOfScope, match=r"measure\.py is not part of the genome \(genome\.py\)"):
        repo.check_scope(base, both, ("genome.py",))
    with pytest.raises(OutOfScope, match=r"lab\.toml"):
        repo.check_scope(base, repo.commit_files(base, {"lab.toml": "x"}, "c"), ("genome.py",))
    new = repo.commit_files(base, {"extra.py": "x"}, "a new file")
    assert repo.check_scope(base, new, ("*.py",)) == ["extra.py"]


def test_a_link_is_not_a_genome(repo: Repo) -> None:
    base = head(repo)
    patch = (
        "diff --git a/more.py b/more.py\nnew file mode 120000\n--- /dev/null\n+++ b/more.py\n"
        "@@ -0,0 +1 @@\n+/etc/passwd\n\\ No newline at end of file\n"
    )
    with pytest.raises(OutOfScope, match=r"more\.py is a link"):
        repo.check_scope(base, repo.commit_patch(base, patch, "a link"), ("*.py",))


def test_a_patch_cannot_leave_the_repository(lab: Any, repo: Repo) -> None:
    for path in ("../outside.py", "/tmp/outside.py", ".git/hooks/post-checkout"):
        patch = f"--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+x\n"
        with pytest.raises((PatchConflict, OutOfScope)):
            commit = repo.commit_patch(head(repo), patch, "out")
            repo.check_scope(head(repo), commit, ("genome.py",))
    assert not (lab.folder.parent / "outside.py").exists()


def test_a_genome_that_grows_without_bound_is_refused(repo: Repo) -> None:
    base = head(repo)
    with pytest.raises(OutOfScope, match="1,000,001 bytes"):
        repo.commit_files(base, {"genome.py": "x" * 1_000_001}, "huge")


# -- a lab in a folder of a repository -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("a" * 300 + ".py", "is too long a name"),
        ("a/" * 1500 + "x.py", "too many folders"),
        ("/".join(["a" * 190] * 6) + ".py", "is too long a name"),
        (".gitattributes", "is not part of the genome"),
        ("a/.gitmodules", "is not part of the genome"),
    ],
)
def test_a_file_that_could_not_be_written_or_tells_git_how_is_out_of_scope(repo: Repo, path: str, said: str) -> None:
    base = head(repo)
    with pytest.raises(OutOfScope, match=said):
        repo.check_scope(base, repo.commit_files(base, {path: "x = 1\n"}, "x"), ("*", "**/*"))
    assert not in_genome(path, ("*", "**/*"))


@pytest.fixture
def inner(make_lab: Any) -> tuple[Any, Repo]:
    lab = make_lab(genome="outer = 1\n")
    for name in ("genome.py", "measure.py", "lab.toml"):
        lab.write(f"labs/mine/{name}", LONG if name == "genome.py" else (lab.folder / name).read_text())
    lab.commit()
    return lab, Repo(lab.folder / "labs" / "mine")


def test_a_lab_in_a_subfolder_speaks_of_its_own_paths(inner: tuple[Any, Repo], tmp_path: Path) -> None:
    lab, repo = inner
    base = head(repo)
    assert sorted(repo.files(base)) == ["genome.py", "lab.toml", "measure.py"]
    assert repo.read(base, "genome.py") == LONG
    made = repo.commit_files(base, {"genome.py": LONG.replace("line 1\n", "one\n")}, "x")
    assert repo.check_scope(base, made, ("genome.py",)) == ["genome.py"]
    assert repo.changed(base, made) == ["genome.py"]
    assert "a/genome.py" in repo.diff(base, made)
    again = repo.commit_patch(base, repo.diff(base, made), "again")
    assert repo.tree(again) == repo.tree(made)
    export(repo, made, folder := tmp_path / "copy")
    assert (folder / "genome.py").read_text() == LONG.replace("line 1\n", "one\n")
    assert lab.git("show", f"{made}:genome.py") == "outer = 1"
    lab.write("genome.py", "outer = 2\n")
    assert repo.dirty() == []
    lab.write("labs/mine/genome.py", "mine\n")
    assert repo.dirty() == ["genome.py"]


def test_a_file_outside_the_lab_is_out_of_scope_even_under_the_genomes_name(inner: tuple[Any, Repo]) -> None:
    lab, repo = inner
    outside = Repo(lab.folder).commit_files(head(repo), {"genome.py": "outer = 2\n"}, "outside")
    with pytest.raises(OutOfScope):
        repo.check_scope(head(repo), outside, ("genome.py",))


# -- copies, branches, other people's settings ---------------------------------------------------------


def test_an_exported_copy_holds_no_git(repo: Repo, tmp_path: Path) -> None:
    export(repo, head(repo), folder := tmp_path / "copy")
    assert {p.name for p in folder.rglob("*")} == {"genome.py", "measure.py", "lab.toml"}
    outside = subprocess.run(["git", "status"], cwd=folder, capture_output=True, text=True)
    assert outside.returncode != 0


def test_a_branch_that_is_checked_out_somewhere_is_not_moved(lab: Any, repo: Repo, tmp_path: Path) -> None:
    base = head(repo)
    new = repo.commit_files(base, {"genome.py": "x"}, "x")
    assert repo.move_branch("nightlab/t", base)
    lab.git("worktree", "add", "-q", str(tmp_path / "else"), "nightlab/t")
    assert not repo.move_branch("nightlab/t", new)
    assert repo.branch_head("nightlab/t") == base
    lab.git("worktree", "remove", str(tmp_path / "else"))
    assert repo.move_branch("nightlab/t", new)
    assert repo.branch_head("nightlab/t") == new
    lab.git("checkout", "-q", "nightlab/t")
    assert not repo.move_branch("nightlab/t", base)


def test_hooks_and_monitors_of_the_users_config_are_not_run(lab: Any, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    script = f"#!/bin/sh\necho $0 >> {ran}\n"
    names = ("pre-commit", "post-checkout", "reference-transaction", "post-index-change", "fsmonitor", "difftool")
    for name in names:
        (hooks / name).write_text(script)
        (hooks / name).chmod(0o755)
    Path(os.environ["HOME"], ".gitconfig").write_text(
        f"[core]\nhooksPath = {hooks}\nfsmonitor = {hooks}/fsmonitor\n[diff]\nexternal = {hooks}/difftool\n"
    )
    lab.git("status")
    assert ran.exists(), "the trap itself works"
    ran.unlink()

    repo = Repo(lab.folder)
    base = head(repo)
    made = repo.commit_files(base, {"genome.py": LONG + "more\n"}, "x")
    repo.commit_patch(base, repo.diff(base, made), "y")
    repo.keep_reachable("t", "000001", made)
    repo.move_branch("nightlab/t", made)
    export(repo, made, tmp_path / "copy")
    repo.dirty()
    assert not ran.exists(), ran.read_text()


def test_variables_of_a_git_hook_around_us_do_not_redirect_us(
    lab: Any, make_lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_lab(genome="other\n", name="other")
    monkeypatch.setenv("GIT_DIR", str(other.folder / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other.folder / ".git" / "index"))
    repo = Repo(lab.folder)
    assert repo.read("HEAD", "genome.py") == LONG


def test_a_command_that_is_slow_to_read_gets_all_of_its_input(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the machine is so busy that the first look at it comes before anything was written."""
    monkeypatch.setattr(command, "LOOK", -1.0)
    text = b"0123456789" * 20_000  # more than a pipe holds

    def tick() -> None:
        monkeypatch.setattr(command, "LOOK", 0.1)

    done = command.run_git(repo.lab, "hash-object", "--stdin", stdin=text, timeout=30, tick=tick)
    assert command.LOOK == 0.1
    assert done.stdout.split() == [sha1(b"blob %d\0" % len(text) + text).hexdigest().encode()]


@pytest.mark.integration
def test_a_new_repository_has_one_commit_even_where_git_knows_no_name(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "a.txt").write_text("a")
    make_repo(tmp_path / "new", "the lab")
    repo = Repo(tmp_path / "new")
    assert repo.files(head(repo)) == ["a.txt"] and repo.dirty() == []
    with pytest.raises(NightlabError):
        Repo(tmp_path)


@pytest.mark.parametrize(
    ("path", "glob", "matches"),
    [
        ("train.py", "*.py", True),
        ("tests/train.py", "*.py", False),
        ("src/a/b.py", "src/**", True),
        ("src/a/b.py", "src/*", False),
        ("src/a/b.py", "src/**/*.py", True),
        ("src/b.py", "src/**/*.py", True),
        ("src", "src/**", False),
        ("Train.py", "train.py", False),
    ],
)
def test_a_star_stays_in_its_folder(path: str, glob: str, matches: bool) -> None:
    assert in_genome(path, (glob,)) is matches
