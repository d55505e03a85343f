"""The copies of the lab that a trial's processes run in, separate for the candidate, the evaluator and the checks.

Whole copies, or where the sandbox can mount, copies of the genome under which the session's shared copy is mounted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from nightlab.engines.local.shared_copy import SharedCopy, View
from nightlab.sandbox.bubblewrap import MOST_MOUNTS, Layers
from nightlab.storage import checkouts
from nightlab.storage.git import Repo, frozen_entries, in_genome
from nightlab.storage.git.exports import make_folder, put_file, remove_files
from nightlab.storage.git.repo import SUBMODULE


@dataclass(frozen=True, slots=True)
class TrialCopies:
    """A trial's copies, by name, and the git ids that their files have."""

    folders: dict[str, Path]
    ids: dict[str, str]
    """Of all files that a copy holds."""
    frozen: dict[str, str]
    """Of those that a candidate must not change."""
    view: View | None = None
    places: dict[str, dict[str, int]] = field(default_factory=dict)
    """By copy: the inode of each empty file or folder that something shared is mounted on, by path."""

    def mounts(self, name: str) -> Layers:
        """What is mounted on top of a copy."""
        return self.view.mounts(self.folders[name]) if self.view else ()

    def frozen_entries(self, name: str, genome: tuple[str, ...]) -> tuple[str, ...]:
        """What of a whole copy is made read-only; beyond these it is only checked afterwards."""
        return () if self.view else tuple(islice(frozen_entries(self.folders[name], genome), MOST_MOUNTS))


class Copies:
    """Makes copies. ``shared``: where to keep the shared one; None where the sandbox can't mount it."""

    def __init__(self, repo: Repo, genome: tuple[str, ...], shared: Path | None) -> None:
        self.repo, self.genome, self._place = repo, genome, shared
        self._shared: SharedCopy | None = None

    def make(self, commit: str, folder: Path, names: Sequence[str], onto: str | None = None) -> TrialCopies:
        """Make a trial's copies of a commit below ``folder``; ``onto``: they are there, as of that commit."""
        if (view := self._view(commit)) is None:
            return self._whole(commit, folder, names, onto)
        assert self._shared
        folders = {name: folder / name for name in names}
        before = self._view(onto) if onto else None
        had = before.own if before else {}
        differing = {path: entry for path, entry in view.own.items() if had.get(path) != entry}
        first = folders[names[0]]
        for copy in folders.values():
            make_folder(copy)
            remove_files(copy, [path for path in had if path not in view.own])
        self._shared.write(commit, differing, first)
        for copy in list(folders.values())[1:]:
            for path, entry in differing.items():
                if entry.mode == SUBMODULE:
                    make_folder(copy / path)
                else:
                    put_file(first / path, copy / path)
        places = {name: view.make_places(copy) for name, copy in folders.items()}
        ids = self._shared.ids(view.own)
        empty = checkouts.blob_id(b"", next(iter(ids.values()), "").split(" ")[-1])
        ids |= {layer.path: empty for layer in view.layers if not (layer.own or layer.folder)}
        return TrialCopies(folders, ids, {}, view, places)

    def fits(self, onto: str, commit: str) -> bool:
        """Whether copies of a commit that processes already run in can become those of another."""
        before, after = self._view(onto), self._view(commit)
        return (before and before.layers) == (after and after.layers)

    def remove(self, trials: Path) -> None:
        """Remove the shared copy, unless a trial below ``trials`` still runs on it."""
        if self._shared:
            self._shared.remove(trials)

    def _view(self, commit: str) -> View | None:
        if self._place is None:
            return None
        if self._shared is None:
            self._shared = SharedCopy(self.repo, commit, self.genome, self._place)
        return self._shared.view(commit)

    def _whole(self, commit: str, folder: Path, names: Sequence[str], onto: str | None) -> TrialCopies:
        folders = {name: self.repo.export(commit, folder / name, onto=onto) for name in names}
        ids = self.repo.ids(commit, folders[names[0]])
        # Frozen files are compared too, because not every sandbox makes them read-only. Mounts exclude links.
        frozen = {path: name for path, name in ids.items() if not in_genome(path, self.genome) and " " not in name}
        return TrialCopies(folders, ids, frozen)
