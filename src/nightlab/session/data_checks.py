"""What of a lab's data a trial would not find: by relative or missing names, by links that leave the lab, pointers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from nightlab.core.config import LabConfig
from nightlab.session.preflight import Check
from nightlab.storage.git import Repo
from nightlab.storage.git.exports import lfs_pointers
from nightlab.storage.git.repo import LINK


def data_checks(repo: Repo, lab: LabConfig) -> Iterator[Check]:
    """A check for each such thing, on this machine."""
    commit, named = repo.resolve() or "", []
    for entry in (*lab.data.open, *lab.data.sealed):
        path = Path(entry).expanduser()
        named.append(path)
        if not path.is_absolute():
            where = repo.lab / entry
            hint = (
                f'name {where}; a program that reads {entry}/ needs a link that is committed: ln -s "{where}" {entry}'
            )
            yield Check(f"data: {entry} is relative, and trials would not find it", False, hint)
        elif not path.exists():
            hint = "fetch it, or fix its name in lab.toml" + (f"; {lab.prepare} may make it" if lab.prepare else "")
            yield Check(f"data: {path} does not exist", False, hint, fatal=False)
    for link, target in _leaving(repo, commit):
        if not any(target.is_relative_to(path) for path in named):
            hint = f"name {target} in data.open, or commit the files themselves"
            yield Check(
                f"{link} is a link to {target}, outside the lab, where a trial finds nothing", False, hint, fatal=False
            )
    if pointers := lfs_pointers(repo, commit):
        more = f" and {len(pointers) - 1} more" if len(pointers) > 1 else ""
        hint = "git lfs install && git lfs pull"
        yield Check(
            f"{pointers[0]}{more}: git-lfs is not set up, so a trial finds its pointer", False, hint, fatal=False
        )


def _leaving(repo: Repo, commit: str) -> Iterator[tuple[str, Path]]:
    """The committed links that lead out of the lab, each with its target."""
    for path, entry in repo.entries(commit).items():
        if entry.mode == LINK:
            target = Path(os.path.normpath((repo.lab / path).parent / (repo.read(commit, path) or "")))
            if not target.is_relative_to(repo.lab):
                yield path, target
