"""The copies of the lab that a trial's processes run in, separate for the candidate, the evaluator and the checks.

Whole copies, or where the sandbox can mount, copies of the genome under which the session's shared copy is mounted.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from nightlab.engines.local.lab_data import LabData
from nightlab.engines.local.shared_copy import SharedCopy, View, whole
from nightlab.sandbox.bubblewrap import MOST_MOUNTS, Layers
from nightlab.storage import checkouts
from nightlab.storage.git import Repo, frozen_entries, in_genome
from nightlab.storage.git.exports import Entries, Exporter, make_folder, put_content, put_file, remove_files
from nightlab.storage.git.listings import SUBMODULE, Entry

SMALL, MOST = 256 * 1024, 64  # bytes of a file whose content is remembered, and of how many
Rules = tuple[tuple[str, Entry], ...]  # the files that say how git converts others


@dataclass(frozen=True, slots=True)
class TrialCopies:
    """A trial's copies, by name, and the git ids that their files have."""

    folders: dict[str, Path]
    ids: dict[str, str]
    """Of all files that a copy holds."""
    frozen: dict[str, str]
    """Of those that a candidate must not change."""
    view: View
    places: dict[str, dict[str, int]]
    """By copy: the inode of each empty file or folder that something is mounted on, or link to data, by path."""
    data: LabData

    def mounts(self, name: str, data: tuple[str, ...] = ()) -> Layers:
        """What is mounted on top of a copy, with the data of the lab's folder among ``data``."""
        copy = self.folders[name]
        return self.view.mounts(copy) + self.data.layers(data, copy, self.view.frozen)

    def held(self, name: str) -> dict[str, int]:
        """The places that must stay as they are. Links are removed from what a candidate leaves to an evaluator."""
        return {} if name == "work" and not self.data.mounts else self.places[name]

    def frozen_entries(self, name: str, genome: tuple[str, ...]) -> tuple[str, ...]:
        """What of a whole copy is made read-only; beyond these it is only checked afterwards."""
        return () if self.view.layers else tuple(islice(frozen_entries(self.folders[name], genome), MOST_MOUNTS))


class Copies:
    """Makes copies. ``shared``: where to keep the shared one; None where the sandbox can't mount it.

    ``data``: shows data that lies in the lab's folder.
    """

    def __init__(self, repo: Repo, genome: tuple[str, ...], shared: Path | None, data: LabData) -> None:
        self.repo, self.genome, self._place, self._data = repo, genome, shared, data
        self._shared: SharedCopy | None = None
        self._written: dict[tuple[str, Entry], str] = {}  # the ids of the trials' own files that were written
        self._kept: dict[tuple[str, Entry, Rules], tuple[bytes, int]] = {}  # content and mode of the latest small ones

    def make(
        self, commit: str, folder: Path, names: Mapping[str, tuple[str, ...]], onto: str | None = None
    ) -> TrialCopies:
        """Make a trial's copies of a commit below ``folder``, each with its data.

        ``onto``: they are there, as of that commit.
        """
        view, folders = self._view(commit), {name: folder / name for name in names}
        had = self._view(onto).own if onto else {}
        self._write(commit, view, had, list(folders.values()))
        places = {name: view.make_places(copy) for name, copy in folders.items()}
        for name, copy in folders.items():
            places[name] |= self._data.make_places(names[name], copy)
        ids = {path: self._written[path, entry] for path, entry in view.own.items() if entry.mode != SUBMODULE}
        if view.layers:
            empty = checkouts.blob_id(b"", next(iter(ids.values()), "").split(" ")[-1])
            ids |= {layer.path: empty for layer in view.layers if not (layer.own or layer.folder)}
            return TrialCopies(folders, ids, {}, view, places, self._data)
        # Frozen files are compared too, because not every sandbox makes them read-only. Mounts exclude links.
        frozen = {path: name for path, name in ids.items() if not in_genome(path, self.genome) and " " not in name}
        return TrialCopies(folders, ids, frozen, view, places, self._data)

    def fits(self, onto: str, commit: str) -> bool:
        """Whether copies of a commit that processes already run in can become those of another."""
        return self._view(onto).layers == self._view(commit).layers

    def remove(self, trials: Path) -> None:
        """Remove the shared copy, unless a trial below ``trials`` still runs on it."""
        if self._shared:
            self._shared.remove(trials)

    def _write(self, commit: str, view: View, had: Entries, copies: list[Path]) -> None:
        """Write the trial's own files into copies that hold ``had``."""
        differing = {path: entry for path, entry in view.own.items() if had.get(path) != entry}
        first, *others = copies
        for copy in copies:
            make_folder(copy)
            remove_files(copy, [path for path in had if path not in view.own])
        rules = tuple(view.attributes.items())
        new = {path: entry for path, entry in differing.items() if (path, entry, rules) not in self._kept}
        for path in differing.keys() - new.keys():
            put_content(*self._kept[path, differing[path], rules], first / path)
        for path, name in Exporter(self.repo, commit, view.attributes).write(new, first).items():
            self._written[path, new[path]] = name
            self._keep((path, new[path], rules), first / path)
        for copy in others:
            for path, entry in differing.items():
                if entry.mode == SUBMODULE:
                    make_folder(copy / path)
                else:
                    put_file(first / path, copy / path)

    def _keep(self, key: tuple[str, Entry, Rules], file: Path) -> None:
        """Remember what git made of a small file: the next trial's copies are often made of the same commit."""
        about = file.lstat()
        if stat.S_ISREG(about.st_mode) and about.st_size <= SMALL:
            if len(self._kept) >= MOST:
                self._kept.clear()
            self._kept[key] = file.read_bytes(), stat.S_IMODE(about.st_mode)

    def _view(self, commit: str) -> View:
        """What a trial has for its own; all files where the sandbox can't mount others, or where too much differs."""
        if self._place is None:
            return whole(self.repo, commit)
        if self._shared is None:
            self._shared = SharedCopy(self.repo, commit, self.genome, self._place, self._data)
        return self._shared.view(commit) or whole(self.repo, commit)
