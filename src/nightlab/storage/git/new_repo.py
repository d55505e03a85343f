"""Makes the repository of a new lab."""

from __future__ import annotations

from pathlib import Path

from nightlab.storage.git.command import AUTHOR, run_git
from nightlab.storage.git.repo import Repo


def make_repo(folder: Path, message: str) -> None:
    """Make ``folder`` a repository with one commit of all files, by the user's git identity if configured.

    Hooks, signing and ignore files of the user's don't apply. Raises NightlabError when git fails.
    """
    run_git(folder, "init", "-q", "-b", "main")
    run_git(folder, "add", "--all")
    known = run_git(folder, "var", "GIT_COMMITTER_IDENT", check=False).returncode == 0
    run_git(folder, "commit", "-q", "--no-verify", "-m", message, env={} if known else AUTHOR)


def clone(repo: Repo, folder: Path) -> Path:
    """A repository in ``folder`` with what is committed at HEAD; returns the lab's folder in it."""
    run_git(repo.top, "clone", "-q", "--no-hardlinks", "--template=", str(repo.top), str(folder))
    return folder / repo.prefix
