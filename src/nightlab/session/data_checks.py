"""What of a lab's data a trial would not find: missing or misplaced names, links that leave the lab, pointers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from nightlab.core.config import LabConfig
from nightlab.session.check import Check
from nightlab.storage.git import Repo, in_genome
from nightlab.storage.git.exports import lfs_pointers
from nightlab.storage.git.listings import LINK, Entry


def data_checks(repo: Repo, lab: LabConfig) -> Iterator[Check]:
    """A check for each such thing, on this machine."""
    commit, named = repo.resolve() or "", []
    held = repo.entries(commit)
    for entry in (*lab.data.open, *lab.data.sealed):
        path = Path(entry).expanduser()
        named.append(path)
        if not path.is_absolute() and (fault := _misplaced(entry, lab.genome, held)):
            yield Check(f"data: {entry} {fault}", False, f"name the whole path: {(repo.lab / entry).resolve()}")
        elif not (repo.lab / path).exists():
            hint = "fetch it, or fix its name in lab.toml" + (f"; {lab.prepare} may make it" if lab.prepare else "")
            yield Check(f"data: {path} does not exist", False, hint, fatal=False)
    for link, target in _leaving(repo, commit):
        absolute = (repo.read(commit, link) or "").startswith("/")  # a relative one leads from the copy, elsewhere
        if not (absolute and any(target.is_relative_to(path) for path in named)):
            link_it = "" if absolute else f'ln -sfn "{target}" {link}, commit it, and '
            hint = f"{link_it}name {target} in data.open, or commit the files themselves"
            yield Check(
                f"{link} is a link to {target}, outside the lab, where a trial finds nothing", False, hint, fatal=False
            )
    if pointers := lfs_pointers(repo, commit):
        more = f" and {len(pointers) - 1} more" if len(pointers) > 1 else ""
        hint = "git lfs install && git lfs pull"
        yield Check(
            f"{pointers[0]}{more}: git-lfs is not set up, so a trial finds its pointer", False, hint, fatal=False
        )


def _misplaced(entry: str, genome: tuple[str, ...], held: Mapping[str, Entry]) -> str:
    """Why an entry that is a path in the lab can't be shown at that place in a trial's copy; empty if it can."""
    if ".." in Path(entry).parts:
        return "leads out of the lab"
    if entry in held and held[entry].mode == LINK:
        return "is a link that is committed"
    inside = [path for path in held if PurePosixPath(path).is_relative_to(PurePosixPath(entry))]
    return "holds files of the genome" if any(in_genome(path, genome) for path in inside) else ""


def _leaving(repo: Repo, commit: str) -> Iterator[tuple[str, Path]]:
    """The committed links that lead out of the lab, each with its target."""
    for path, entry in repo.entries(commit).items():
        if entry.mode == LINK:
            target = Path(os.path.normpath((repo.lab / path).parent / (repo.read(commit, path) or "")))
            if not target.is_relative_to(repo.lab):
                yield path, target
