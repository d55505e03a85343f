"""Data in the lab's own folder that git does not hold: what ``data`` names by relative paths, shown in each copy."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nightlab.sandbox.bubblewrap import Layers
from nightlab.storage.git.exports import make_folder


def is_relative(entry: str) -> bool:
    """Whether an entry of ``data`` is a path in the lab."""
    return not Path(entry).expanduser().is_absolute()


@dataclass(frozen=True)
class LabData:
    """Shows data of the lab's folder ``lab`` at the same place in copies.

    ``entries``: all that the contract names. What is not there when the first copy is made is left out. ``mounts``:
    the sandbox mounts it read-only on places that are made; else they are links.
    """

    lab: Path
    entries: tuple[str, ...]
    mounts: bool

    def layers(self, entries: Iterable[str], *copies: Path) -> Layers:
        """For the sandbox: each source with its path in the lab, and that it is read-only.

        ``copies``: folders that the lab is put together of; a link that is committed stays one.
        """
        chosen = [path for path in self._there if path in set(entries)] if self.mounts else []
        shown = (path for path in chosen if not any((copy / path).is_symlink() for copy in copies))
        return tuple((self.lab / path, path, False) for path in shown)

    def linked(self, entries: Iterable[str]) -> tuple[Path, ...]:
        """What the links lead to, which a sandbox has to let a process read."""
        return () if self.mounts else tuple((self.lab / path).resolve() for path in self._there if path in set(entries))

    def make_places(self, entries: Iterable[str], copy: Path) -> dict[str, int]:
        """Make, in a copy, what the entries are mounted on, or links to them; returns the inode of each."""
        chosen = [path for path in self._there if path in set(entries)]
        made: list[str] = []
        for entry in chosen:
            # Where a candidate's own file is in the way, nothing is shown: a trial that needs the data then crashes.
            with contextlib.suppress(FileExistsError, NotADirectoryError):
                made += self._make(entry, copy)
        return {path: (copy / path).lstat().st_ino for path in made}

    @cached_property
    def _there(self) -> list[str]:
        return [entry for entry in filter(is_relative, self.entries) if (self.lab / entry).exists()]

    def _make(self, path: str, copy: Path) -> Iterator[str]:
        source, place = self.lab / path, copy / path
        if place.is_symlink():  # committed, or made before
            return
        if self.mounts:
            make_folder(place if source.is_dir() else place.parent)
            if not source.is_dir():
                place.touch()
        elif place.is_dir():  # it holds files of the commit: links to the others
            for name in sorted(child.name for child in source.iterdir() if not (place / child.name).exists()):
                yield from self._make(f"{path}/{name}", copy)
            return
        else:
            make_folder(place.parent)
            place.symlink_to(source.resolve())
        yield path


def bring(lab: Path, entries: Iterable[str], copy: Path) -> None:
    """Before ``prepare`` runs in a copy: show the lab's own data there, which it may add to."""
    for entry in filter(is_relative, entries):
        source, place = lab / entry, copy / entry
        if source.exists():
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            place.unlink(missing_ok=True)
            make_folder(place.parent)
            place.symlink_to(source.resolve())


def take(lab: Path, entries: Iterable[str], copy: Path) -> None:
    """After ``prepare`` ran: move the data that it made into the lab's folder."""
    for entry in filter(is_relative, entries):
        if (copy / entry).exists() and not (lab / entry).exists():
            (lab / entry).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(copy / entry, lab / entry)
