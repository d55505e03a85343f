"""Commits that travel: git bundles of a lab's files, without the history of the repository that they come from."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from nightlab.core.types import NightlabError
from nightlab.storage.git.repo import AUTHOR, HARDENED, Repo

# An id that depends on the files alone: the same base is the same base in every session.
TIMELESS = {**AUTHOR, "GIT_AUTHOR_DATE": "2000-01-01T00:00:00Z", "GIT_COMMITTER_DATE": "2000-01-01T00:00:00Z"}


def snapshot(repo: Repo, commit: str, on: str | None = None) -> str:
    """A commit with the files of ``commit`` and no history but ``on``. Returns its id."""
    parent = ["-p", on] if on else []
    made = repo._run("commit-tree", f"{commit}^{{tree}}", *parent, stdin=b"nightlab\n", env=TIMELESS)
    return made.stdout.decode().strip()


def pack(repo: Repo, snap: str, without: str | None = None) -> bytes:
    """A bundle of a snapshot, less what who has ``without`` has already."""
    ref = f"refs/nightlab-travel/{snap}"
    repo._run("update-ref", ref, snap)
    try:
        less = [f"^{without}"] if without else []
        # From the top: elsewhere some gits take "-" for a file there.
        return repo._run("-C", str(repo.top), "bundle", "create", "--quiet", "-", ref, *less).stdout
    finally:
        repo._run("update-ref", "-d", ref)


def unpack(folder: Path, bundle: bytes, snap: str, prefix: str = "") -> Repo:
    """The repository in ``folder`` with a snapshot in it, made if it is not there; the lab is in ``prefix``.

    Raises NightlabError when git refuses the bundle.
    """
    (folder / prefix).mkdir(parents=True, exist_ok=True)
    if not (folder / ".git" / "HEAD").exists():
        _git(folder, "init", "-q", "--template=", "-b", "main")
    if subprocess.run(["git", "cat-file", "-e", snap], cwd=folder, capture_output=True, check=False).returncode:
        with tempfile.NamedTemporaryFile(suffix=".bundle") as file:
            file.write(bundle)
            file.flush()
            _git(folder, "bundle", "unbundle", file.name)
    if subprocess.run(["git", "rev-parse", "-q", "--verify", "HEAD"], cwd=folder, capture_output=True).returncode:
        _git(folder, "update-ref", "HEAD", snap)
    return Repo(folder / prefix)


def _git(folder: Path, *args: str) -> None:
    done = subprocess.run(["git", *HARDENED, *args], cwd=folder, capture_output=True, check=False)
    if done.returncode:
        said = (done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
        raise NightlabError(f"git {args[0]} failed in {folder}: {said}", "free disk space there, or remove the folder")
