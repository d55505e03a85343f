"""The frozen files of a lab, exported and checked once, for all trials of a session to mount read-only.

A trial's own copies then hold the genome alone, and what a trial costs does not grow with the lab.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from nightlab.engines.local.lab_data import LabData
from nightlab.engines.local.trial_folder import locked
from nightlab.engines.local.view import Layer, base_is_own, compose
from nightlab.sandbox.bubblewrap import Layers
from nightlab.storage import checkouts
from nightlab.storage.git import Repo, in_genome
from nightlab.storage.git.exports import Entries, Exporter, attributes, make_folder
from nightlab.storage.git.listings import LINK, SUBMODULE, Entry


@dataclass(frozen=True, slots=True)
class View:
    """What the processes of a trial see of one commit: the trial's own files, and the shared ones on top."""

    own: Entries
    attributes: Entries
    """The files that say which filters apply to the trial's own."""
    layers: tuple[Layer, ...] = ()
    """Without any, all files are the trial's own."""
    frozen: Path = Path()

    def mounts(self, copy: Path) -> Layers:
        """For the sandbox: each layer's source, its path in the lab, and whether the trial may write to it."""
        return tuple(
            ((copy if layer.own else self.frozen) / layer.path, layer.path, layer.own) for layer in self.layers
        )

    def make_places(self, copy: Path) -> dict[str, int]:
        """Make what the shared layers are mounted on in a trial's copy; returns the inode of each."""
        places = [layer for layer in self.layers if not layer.own and layer.path]
        return {layer.path: _make_place(copy / layer.path, layer) for layer in places}


def whole(repo: Repo, commit: str) -> View:
    """All files of a commit as a trial's own."""
    found = repo.entries(commit)
    return View(found, attributes(found))


class SharedCopy:
    """The frozen files as of ``commit``, below ``folder``."""

    def __init__(self, repo: Repo, commit: str, genome: tuple[str, ...], folder: Path, data: LabData) -> None:
        self.repo, self.commit, self.genome, self.folder, self._data = repo, commit, genome, folder, data
        found = repo.entries(commit)
        self._genome = {path: entry for path, entry in found.items() if in_genome(path, genome)}
        self._frozen = {path: entry for path, entry in found.items() if path not in self._genome}
        self._attributes = attributes(found)
        self._layers: dict[frozenset[str], tuple[Layer, ...] | None] = {}
        self._files: Path | None = None

    def view(self, commit: str) -> View | None:
        """How to show a commit's files; None where that takes whole copies, because too much differs from ours."""
        own = dict(self._genome)
        for path, entry in self.repo.changes(self.commit, commit).items():
            if not in_genome(path, self.genome):
                return None
            if entry:
                own[path] = entry
            else:
                own.pop(path, None)
        layers, pinned = self._compose(own), self._compose(self._genome)
        # The shared copy has a place for each own file that is mounted one by one, and all trials see these places.
        if layers is None or pinned is None or set(_own(layers)) != set(_own(pinned)):
            return None
        unmounted = {path: e for path, e in self._frozen.items() if _unmountable(e) and base_is_own(path, layers)}
        return View({**own, **unmounted}, self._attributes, layers, self._export(_own(pinned)))

    def remove(self, trials: Path) -> None:
        """Remove the copies, unless a trial below ``trials`` still runs on one."""
        if self.folder.exists() and not any(locked(folder) for folder in trials.glob("*")):
            checkouts.remove_tree(self.folder)

    def _compose(self, own: Entries) -> tuple[Layer, ...] | None:
        paths = frozenset(own)
        if paths not in self._layers:
            self._layers[paths] = compose(paths, [path for path, e in self._frozen.items() if not _unmountable(e)])
        return self._layers[paths]

    def _export(self, places: list[Layer]) -> Path:
        """The exported files. Trials of an earlier process may run on its copy, so each process makes another."""
        if self._files is None:
            make_folder(self.folder)
            files = Path(tempfile.mkdtemp(dir=self.folder))
            files.chmod(0o755)
            Exporter(self.repo, self.commit, self._attributes).write(self._frozen, files)
            for layer in places:
                if layer.path:
                    _make_place(files / layer.path, layer)
            self._data.make_places(self._data.entries, files)
            self._files = files
        return self._files


def _own(layers: tuple[Layer, ...]) -> list[Layer]:
    return [layer for layer in layers if layer.own]


def _unmountable(entry: Entry) -> bool:
    """Whether it can't be mounted by itself: a mount follows a link, and there is nothing of a submodule."""
    return entry.mode in (LINK, SUBMODULE)


def _make_place(path: Path, layer: Layer) -> int:
    make_folder(path if layer.folder else path.parent)
    if not layer.folder and not path.exists():
        path.touch()
    return path.lstat().st_ino
