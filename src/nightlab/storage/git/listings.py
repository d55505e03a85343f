"""The files of a repository's latest commits: as git lists them, or as what a commit was made of says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nightlab.storage.checkouts import blob_id

PLAIN, SUBMODULE, LINK, GONE = "100644", "160000", "120000", "000000"  # git's modes
LISTED = 8  # commits whose files are remembered
SIZED = 1024  # contents whose sizes are


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a commit: git's mode and id."""

    mode: str
    name: str

    @property
    def wanted(self) -> str:
        """The id of its copy, as ``checkouts.file_id`` gives it."""
        return f"link {self.name}" if self.mode == LINK else self.name


class Listings:
    """Remembers the latest listings. ``ask`` gives that of a commit by its full id."""

    def __init__(self, ask: Callable[[str], dict[str, Entry]]) -> None:
        self._ask = ask
        self._known: dict[str, dict[str, Entry]] = {}
        self.sizes: dict[str, int] = {}  # of contents, by id

    def of(self, commit: str) -> dict[str, Entry]:
        """The lab's files at a commit."""
        found = self._known.pop(commit, None)
        return self._keep(commit, self._ask(commit) if found is None else found)

    def made(self, commit: str, parent: Mapping[str, Entry], files: Mapping[str, bytes | str | None]) -> None:
        """A commit was made of ``parent``'s files with these in place of theirs; one with new files is asked for."""
        if all(path in parent and isinstance(content, bytes) for path, content in files.items()):
            ids = {path: blob_id(content, commit) for path, content in files.items() if isinstance(content, bytes)}
            self._keep(commit, {**parent, **{path: Entry(parent[path].mode, name) for path, name in ids.items()}})
            self.sizes |= {ids[path]: len(content) for path, content in files.items() if content is not None}
            while len(self.sizes) > SIZED:
                self.sizes.pop(next(iter(self.sizes)), None)

    def _keep(self, commit: str, found: dict[str, Entry]) -> dict[str, Entry]:
        self._known[commit] = found
        while len(self._known) > LISTED:
            self._known.pop(next(iter(self._known)), None)
        return found
