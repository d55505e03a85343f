"""Patches of a folder as choices: those that apply to the baseline alone, and what several of them make of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from nightlab.core.files import NotReadable
from nightlab.core.text import one_line
from nightlab.proposers.patches import patch_names, read_patch
from nightlab.storage.git import OutOfScope, PatchConflict, Repo


class PatchSet:
    """The patches of ``folder`` that apply to the commit ``base``, and change only its ``genome`` (globs)."""

    def __init__(self, folder: Path, repo: Repo, base: str, genome: tuple[str, ...]) -> None:
        self.folder, self.repo, self.base, self.genome = folder, repo, base, genome
        self.texts: dict[str, str] = {}
        self._unusable: dict[str, str] = {}
        self._said: set[str] = set()
        self._made: dict[tuple[str, ...], tuple[str, tuple[str, ...]]] = {(): (base, ())}

    def read(self) -> list[str]:
        """The names of those that can be used. The folder is read again, so that patches can be added at any time."""
        for name in sorted(patch_names(self.folder) - self.texts.keys() - self._unusable.keys()):
            try:
                text = read_patch(self.folder, name)
                self.repo.check_scope(self.base, self.repo.commit_patch(self.base, text, name), self.genome)
                self.texts[name] = text
            except (NotReadable, PatchConflict, OutOfScope) as refusal:
                self._unusable[name] = one_line(str(refusal))
            except OSError:
                continue  # e.g. an editor's lock file
        return sorted(self.texts)

    def take_unusable(self) -> dict[str, str]:
        """Why patches can't be used, by name, since this was last asked."""
        new = {name: why for name, why in self._unusable.items() if name not in self._said}
        self._said |= new.keys()
        return new

    def together(self, names: Iterable[str]) -> tuple[str, tuple[str, ...]]:
        """The base with these patches, in order, as a commit; and their names. One that conflicts is left out."""
        wanted = tuple(names)
        if wanted not in self._made:
            commit, taken = self.together(wanted[:-1])
            try:
                commit = self.repo.commit_patch(commit, self.texts[wanted[-1]], wanted[-1])
                taken = *taken, wanted[-1]
            except PatchConflict:
                pass
            self._made[wanted] = commit, taken
        return self._made[wanted]

    def contents(self, commit: str, paths: Iterable[str]) -> dict[str, str]:
        """The text of files of a commit, by path; without those that it does not have."""
        found = {path: self.repo.read(commit, path) for path in paths}
        return {path: text for path, text in found.items() if text is not None}

    def patch(self, commit: str, files: Mapping[str, str], message: str) -> str:
        """The patch from the base to a commit with these files changed."""
        changed = {path: text for path, text in files.items() if text != self.repo.read(commit, path)}
        return self.repo.patch(self.base, self.repo.commit_files(commit, changed, message) if changed else commit)
