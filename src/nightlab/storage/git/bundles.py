"""Git bundles of a lab's files, for transport to other machines, without the history of the source repository."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from nightlab.core.types import NightlabError
from nightlab.storage.git.command import AUTHOR, HARDENED
from nightlab.storage.git.repo import Repo

# Fixed author and dates, so that the id depends on the files alone: the same base has the same id in every session.
TIMELESS = {**AUTHOR, "GIT_AUTHOR_DATE": "2000-01-01T00:00:00Z", "GIT_COMMITTER_DATE": "2000-01-01T00:00:00Z"}


def commit_snapshot(repo: Repo, commit: str, on: str | None = None) -> str:
    """A commit with the files of ``commit`` and no history except the parent ``on``. Returns its id."""
    parent = ["-p", on] if on else []
    made = repo.run("commit-tree", f"{commit}^{{tree}}", *parent, stdin=b"nightlab\n", env=TIMELESS)
    return made.stdout.decode().strip()


def pack_bundle(repo: Repo, snap: str, without: str | None = None) -> bytes:
    """A bundle of a snapshot, without the objects that a receiver with the commit ``without`` already has."""
    ref = f"refs/nightlab-travel/{snap}"
    repo.run("update-ref", ref, snap)
    try:
        less = [f"^{without}"] if without else []
        # Run from the top of the repository: in a subfolder, some versions of git take "-" for a file there.
        return repo.run("-C", str(repo.top), "bundle", "create", "--quiet", "-", ref, *less).stdout
    finally:
        repo.run("update-ref", "-d", ref)


def unpack_bundle(folder: Path, bundle: bytes, snap: str, prefix: str = "") -> Repo:
    """Put a snapshot into the repository in ``folder``, created if missing, and return it; the lab is in ``prefix``.

    Raises NightlabError when git rejects the bundle.
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
        message = (done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
        raise NightlabError(
            f"git {args[0]} failed in {folder}: {message}", "free disk space there, or remove the folder"
        )
