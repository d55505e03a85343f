"""Cached compiled kernels for trials: from the baseline only, never from a candidate.

A candidate could store wrongly compiled kernels for others, or information for its own next trial. So only the
baseline's trial adds to the cache; every other trial gets a private copy that is discarded. Every file is checked
against its hash, and the folder is named by the hash of the list of hashes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from pathlib import Path

LIST, DRIVER = "files.json", "driver"


class Caches:
    """A session's cache below ``folder``, of at most ``limit`` bytes, of kernels for this version of a ``driver``."""

    def __init__(self, folder: Path, limit: int, driver: str = "") -> None:
        self.folder, self.limit, self.driver = folder, limit, driver

    def kept(self) -> Path | None:
        """The cache's folder; None before there is one, or where it is another driver's."""
        return next((path for path in self._all() if self._made_for(path) == self.driver), None)

    @property
    def outdated(self) -> str:
        """The driver that the kept kernels were compiled for, where it is another than now; else empty."""
        return "" if self.kept() else next(filter(None, map(self._made_for, self._all())), "")

    def _all(self) -> list[Path]:
        return [path for path in self.folder.glob("*") if path.is_dir() and path.suffix != ".new"]

    def _made_for(self, cache: Path) -> str:
        """The driver of a cache; one that was kept before drivers were noted counts as the present one's."""
        try:
            return (cache / DRIVER).read_text(encoding="utf-8")
        except OSError:
            return self.driver

    def keep(self, *made: Path) -> bool:
        """Store what the baseline compiled (regular files only), unless a cache exists or it is too large."""
        if self.kept():
            return False
        files = {path.relative_to(at).as_posix(): path for at in made if at.is_dir() for path in _files(at)}
        if not files or sum(path.stat().st_size for path in files.values()) > self.limit:
            return False
        draft = self.folder / "draft.new"
        shutil.rmtree(draft, ignore_errors=True)
        for name, path in files.items():
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, draft / name, follow_symlinks=False)
        listed = json.dumps({name: _sha256(draft / name) for name in sorted(files)}, indent=0)
        (draft / LIST).write_text(listed, encoding="utf-8")
        if self.driver:
            (draft / DRIVER).write_text(self.driver, encoding="utf-8")
        kept = self.folder / hashlib.sha256(listed.encode()).hexdigest()
        shutil.rmtree(kept, ignore_errors=True)  # the same files, for another driver
        draft.rename(kept)
        return True

    def give(self, to: Path) -> bool:
        """Fill a trial's folder with the cache. A cache that fails its hash check is deleted instead."""
        to.mkdir(exist_ok=True)
        if (cache := self.kept()) is None:
            return False
        try:
            listed = (cache / LIST).read_text(encoding="utf-8")
            whole = hashlib.sha256(listed.encode()).hexdigest() == cache.name
            for name, wanted in json.loads(listed).items():
                (to / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(cache / name, to / name, follow_symlinks=False)
                whole = whole and _sha256(to / name) == wanted
        except (OSError, ValueError):
            whole = False
        if not whole:
            shutil.rmtree(cache, ignore_errors=True)
            shutil.rmtree(to, ignore_errors=True)
            to.mkdir(exist_ok=True)
        return whole


def _files(folder: Path) -> list[Path]:
    found = []
    for at, _, names in os.walk(folder):
        paths = [Path(at) / name for name in names]
        found += [path for path in paths if stat.S_ISREG(path.lstat().st_mode) and path.name not in (LIST, DRIVER)]
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
