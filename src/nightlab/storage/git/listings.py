"""The files of a repository's latest commits: as git gives them, or as what a commit was made of says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import TypeVar

from nightlab.storage.checkouts import blob_id

PLAIN, SUBMODULE, LINK, GONE = "100644", "160000", "120000", "000000"  # git's modes
LISTED = 8  # commits whose files are remembered
SIZED = 1024  # contents whose sizes are
KEPT, SMALL = 64, 256 * 1024  # contents that are remembered, of at most that many bytes

Kept = TypeVar("Kept")
_lock = Lock()


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
    """Remembers the latest listings, and small contents. ``ask`` gives the listing of a commit by its full id."""

    def __init__(self, ask: Callable[[str], dict[str, Entry]]) -> None:
        self._ask = ask
        self._known: dict[str, dict[str, Entry]] = {}
        self._contents: dict[str, bytes] = {}  # by id
        self.sizes: dict[str, int] = {}  # of contents, by id
        self.trees: dict[str, str] = {}  # ids of the lab's trees, by commit

    def of(self, commit: str) -> dict[str, Entry]:
        """The lab's files at a commit."""
        found = self._known.get(commit)
        return self._keep(commit, self._ask(commit) if found is None else found)

    def content(self, commit: str, path: str) -> bytes | None:
        """The content of a file at a commit, if it is remembered."""
        entry = self._known.get(commit, {}).get(path)
        return self._contents.get(entry.name) if entry else None

    def note_content(self, commit: str, path: str, content: bytes) -> None:
        """A file at a commit has this content: so have others of the same id."""
        if entry := self._known.get(commit, {}).get(path):
            self._keep_content(entry.name, content)

    def keep_tree(self, commit: str, tree: str) -> None:
        _bounded(self.trees, commit, tree, LISTED)

    def made(self, commit: str, parent: Mapping[str, Entry], files: Mapping[str, bytes | str | None]) -> None:
        """A commit was made of ``parent``'s files with these in place of theirs; one with new files is asked for."""
        if all(path in parent and isinstance(content, bytes) for path, content in files.items()):
            ids = {path: blob_id(content, commit) for path, content in files.items() if isinstance(content, bytes)}
            self._keep(commit, {**parent, **{path: Entry(parent[path].mode, name) for path, name in ids.items()}})
            for path, content in files.items():
                if isinstance(content, bytes):
                    _bounded(self.sizes, ids[path], len(content), SIZED)
                    self._keep_content(ids[path], content)

    def _keep_content(self, name: str, content: bytes) -> None:
        if len(content) <= SMALL:
            _bounded(self._contents, name, content, KEPT)

    def _keep(self, commit: str, found: dict[str, Entry]) -> dict[str, Entry]:
        return _bounded(self._known, commit, found, LISTED)


def _bounded(kept: dict[str, Kept], key: str, value: Kept, most: int) -> Kept:
    """Remember a value as the latest, and no more than ``most``. Proposers read in other threads."""
    with _lock:
        kept.pop(key, None)
        kept[key] = value
        while len(kept) > most:
            kept.pop(next(iter(kept)), None)
    return value
