"""Candidates that are not what one may be: patches that reach outside the genome, genomes that are bombs."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from support.arena import HONEST, Arena, genome, patch_of

from nightlab.proposers import changes, find_constants
from nightlab.storage.git import OutOfScope, PatchConflict

pytestmark = pytest.mark.integration

NEW = "diff --git a/{0} b/{0}\nnew file mode {1}\n--- /dev/null\n+++ b/{0}\n@@ -0,0 +1 @@\n+{2}\n"
PATCHES = {
    "a new file": (NEW.format("numpy.py", "100644", "raise SystemExit"), "numpy.py is not part of the genome"),
    "conftest": (NEW.format("conftest.py", "100644", "raise SystemExit"), "conftest.py is not part of the genome"),
    "sitecustomize": (NEW.format("sitecustomize.py", "100644", "1"), "sitecustomize.py is not part of the genome"),
    "a path file": (NEW.format("evil.pth", "100644", "import os"), "evil.pth is not part of the genome"),
    "attributes": (NEW.format(".gitattributes", "100644", "* filter=x"), ".gitattributes is not part of the genome"),
    "modules": (NEW.format(".gitmodules", "100644", "[submodule]"), ".gitmodules is not part of the genome"),
    "git's folder": (NEW.format(".git/hooks/post-checkout", "100755", "touch /tmp/hostile"), "does not apply"),
    "git's folder, disguised": (NEW.format(".GIT/config", "100644", "[core]"), "does not apply"),
    "the folder above": (NEW.format("../hostile.py", "100644", "1"), "does not apply"),
    "an absolute path": (NEW.format("/tmp/hostile.py", "100644", "1"), "does not apply"),
    "the state folder": (NEW.format(".nightlab/t/hostile", "100644", "1"), "is not part of the genome"),
    "the evaluator": (
        "diff --git a/prepare.py b/prepare.py\n--- a/prepare.py\n+++ b/prepare.py\n@@ -1,2 +1,2 @@\n"
        '-"""Data, hand-over and metric of a tiny lab: guess the label of a number. Frozen."""\n+"""Mine."""\n \n',
        "prepare.py is not part of the genome",
    ),
    "the contract": (
        'diff --git a/lab.toml b/lab.toml\n--- a/lab.toml\n+++ b/lab.toml\n@@ -1,2 +1,2 @@\n-name = "served"\n'
        '+name = "mine"\n genome = ["train.py"]\n',
        "lab.toml is not part of the genome",
    ),
    "a frozen file that goes": (
        "diff --git a/lib/util.py b/lib/util.py\ndeleted file mode 100644\n--- a/lib/util.py\n+++ /dev/null\n"
        "@@ -1 +0,0 @@\n-VALUE = 1\n",
        "lib/util.py is not part of the genome",
    ),
    "a rename": (
        "diff --git a/prepare.py b/train.py\nsimilarity index 100%\nrename from prepare.py\nrename to train.py\n",
        "",
    ),
    "mode bits": ("diff --git a/prepare.py b/prepare.py\nold mode 100644\nnew mode 100755\n", "prepare.py is not part"),
    "nothing": ("", ""),
    "garbage": ("\x00\xff\x1b]0;owned\x07", ""),
}


def test_patches_out_of_scope(arena: Arena) -> None:
    """Each is refused before it runs, and says why; the honest ideas among them have their turn."""
    for patch, _ in PATCHES.values():
        arena.queue(patch, "an attack")
    arena.queue(patch_of(HONEST), "no change at all")
    reasons = arena.refused()
    assert len(reasons) == len(PATCHES) + 1
    for (what, (_, reason)), said in zip(PATCHES.items(), reasons, strict=False):
        assert reason in said, (what, said)
    assert not Path("/tmp/hostile.py").exists() and not (arena.folder.parent / "hostile.py").exists()


def commit_with(arena: Arena, *entry: str) -> str:
    """A commit on the baseline with one index entry (mode, object, path) set by plumbing."""
    env = {**os.environ, "GIT_INDEX_FILE": str(arena.folder / ".git" / "hostile-index")}

    def git(*args: str) -> str:
        who = ("-c", "user.name=me", "-c", "user.email=me@here")
        done = subprocess.run(
            ["git", *who, *args], cwd=arena.folder, env=env, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    git("read-tree", arena.session.base)
    git("update-index", "--add", "--cacheinfo", ",".join(entry))
    commit = git("commit-tree", git("write-tree"), "-p", arena.session.base, "-m", "an attack")
    Path(env["GIT_INDEX_FILE"]).unlink()
    return commit


def blob(arena: Arena, text: str) -> str:
    done = subprocess.run(
        ["git", "hash-object", "-w", "--stdin"],
        cwd=arena.folder,
        input=text,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("mode", "content", "path", "says"),
    [
        ("120000", "/etc/passwd", "train.py", "a link or a submodule"),
        ("120000", "prepare.py", "train.py", "a link or a submodule"),
        ("160000", None, "train.py", "a link or a submodule"),
        ("160000", None, "module", "not part of the genome"),
        ("120000", "/", "door", "not part of the genome"),
        ("100644", "x" * 1_100_000, "train.py", "the limit is 1,000,000"),
    ],
)
def test_commits_made_by_hand(arena: Arena, mode: str, content: str | None, path: str, says: str) -> None:
    object_id = arena.session.base if content is None else blob(arena, content)
    commit = commit_with(arena, mode, object_id, path)
    with pytest.raises(OutOfScope, match=says):
        arena.repo.check_scope(arena.session.base, commit, arena.session.lab.genome)


@pytest.mark.parametrize(
    "path", ["../hostile.py", ".git/hooks/post-checkout", "/tmp/hostile.py", "a/../../b", ".GIT/x"]
)
def test_files_outside_of_the_lab_can_not_be_committed(arena: Arena, path: str) -> None:
    """A proposer that names such a file is refused; it does not end the night."""
    with pytest.raises((OutOfScope, PatchConflict)):
        arena.repo.commit_files(arena.session.base, {path: "x"}, "an attack")


# -- genomes that are bombs for whoever reads them ------------------------------------------------------

BOMBS = {
    "deep parentheses": "(" * 5000 + ")" * 5000 + "\n",
    "deep minus": "-" * 50_000 + "1\n",
    "a long sum": "x = " + "+".join(["1"] * 30_000) + "\n",
    "deep attributes": "x = a" + ".a" * 30_000 + "\n",
    "null bytes": "\0\n",
    "a string that never ends": '"""' + "x" * 100_000 + "\n",
}


def test_genomes_that_do_not_parse(arena: Arena) -> None:
    for name, bomb in BOMBS.items():
        arena.idea(f"{HONEST}{bomb}", name)
    reasons = arena.refused()
    assert len(reasons) == len(BOMBS) and all("does not parse" in reason for reason in reasons), reasons


CONSTANTS = {
    "a set": "A = {1, 2}",
    "bytes": 'A = b"x"',
    "a complex number": "A = 1j",
    "an ellipsis": "A = ...",
    "a key that is a list": "A = {[1]: 2}",
    "a tuple as key": "A = {(1, 2): 3}",
    "not a number": "A = 1e999",
    "a very long number": f"A = 0x{'f' * 20_000}",
    "half a character": r'A = "\ud800"',
    "a power": "A = 10**40**40**40",
    "escapes": r'A = "\x1b]0;owned\x07\x1b[2J"',
}


@pytest.mark.parametrize("what", sorted(CONSTANTS))
def test_constants_that_are_hard_to_write_down(what: str) -> None:
    """The orchestrator reads the genome's constants and writes them into the ledger: it must be able to."""
    found = find_constants(CONSTANTS[what] + "\n", "cpu")
    values = {name: constant.value for name, constant in found.items()}
    assert json.loads(json.dumps(values)).keys() == values.keys() <= {"A"}
    said = "; ".join(changes({}, values))
    assert len(said.encode()) < 1000 and "\x1b" not in said


def test_a_constant_that_can_not_be_recorded(arena: Arena) -> None:
    """The same through the loop: whatever becomes of the candidate, the night goes on."""
    try:
        got = arena.attack(genome(top='A = {1, 2}\nB = b"x"\nC = {[1]: 2} if False else 1\n'))
    except TypeError:
        for path in (arena.folder / "ideas").iterdir():
            path.unlink()  # it would end every night from now on
        raise
    assert got.said == ("discard", "inconclusive")
