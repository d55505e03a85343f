"""Exports files of a commit, with git's filters: all of a lab, or chosen ones."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nightlab.core.types import NightlabError
from nightlab.storage import checkouts
from nightlab.storage.git.listings import SUBMODULE, Entry
from nightlab.storage.git.repo import Repo

ATTRIBUTES = ".gitattributes"  # says which filters apply


Entries = Mapping[str, Entry]  # by path in the lab


def attributes(found: Entries) -> dict[str, Entry]:
    """Those of a commit's files that say which filters apply."""
    return {path: entry for path, entry in found.items() if path.rpartition("/")[2] == ATTRIBUTES}


def export(repo: Repo, commit: str, folder: Path) -> dict[str, str]:
    """Write the lab's files at ``commit`` into a new folder, without ``.git``; returns their ids, as ``write``."""
    found = repo.entries(commit)
    return Exporter(repo, commit, attributes(found)).write(found, folder)


def lfs_pointers(repo: Repo, commit: str) -> list[str]:
    """The lab's files that an export leaves as pointers of git-lfs, because its filter is not set up here."""
    if repo.run("config", "filter.lfs.smudge", check=False).returncode == 0:
        return []
    pointer = "^version https://git-lfs.github.com/spec/v1$"
    out = repo.run("grep", "-lzI", "-e", pointer, commit, "--", ".", check=False).stdout
    return [name.partition(":")[2] for name in os.fsdecode(out).split("\0") if name]


@dataclass(frozen=True, slots=True)
class Exporter:
    """Writes files of ``commit`` into folders; ``attributes``: the lab's files that say which filters apply.

    What it costs does not depend on the lab's other files.
    """

    repo: Repo
    commit: str
    attributes: Entries

    def write(self, chosen: Entries, folder: Path) -> dict[str, str]:
        """Write the chosen files by their paths in the lab, and return the id that each of them should have.

        A plain file that is there keeps its inode, because it may be mounted somewhere. Raises NightlabError when what
        was written does not match the commit.
        """
        make_folder(folder)
        for path in (path for path, entry in chosen.items() if entry.mode == SUBMODULE):
            make_folder(folder / path)
        files = {path: entry for path, entry in chosen.items() if entry.mode != SUBMODULE}
        if not files:
            return {}
        with (
            self._index(files) as index,
            tempfile.TemporaryDirectory(prefix="export-", dir=folder.parent, ignore_cleanup_errors=True) as place,
        ):
            listed = os.fsencode("".join(f"{self.repo.outside(path)}\0" for path in files))
            into = f"--prefix={Path(place).resolve()}/"
            self.repo.run("checkout-index", "--force", into, "-z", "--stdin", stdin=listed, env=index, umask=0o022)
            written = Path(place, self.repo.prefix)
            if any(folder.iterdir()):
                for path in files:
                    put_file(written / path, folder / path)
            else:
                written.chmod(0o755)
                written.replace(folder)
            return self._ids(files, folder, index)

    def _ids(self, files: Entries, folder: Path, index: dict[str, str]) -> dict[str, str]:
        """The ids that git gives to what was written: for a file that it converts, that of the converted content."""
        found = {path: entry.wanted for path, entry in files.items()}
        for path, wanted in found.items():
            like = wanted.split()[-1]
            if (there := checkouts.file_id(folder / path, like)) == wanted:
                continue
            what = f"{self.commit}:{self.repo.outside(path)}"
            found[path] = checkouts.blob_id(self.repo.run("cat-file", "--filters", what, env=index).stdout, like)
            if there != found[path]:
                raise NightlabError(
                    f"{path} in {folder} differs from {self.commit[:7]}, of which it is a copy", "check the disk"
                )
        return found

    @contextmanager
    def _index(self, files: Entries) -> Iterator[dict[str, str]]:
        """A private index with these files, and the attributes that hold for them."""
        repo = self.repo
        held = {**self.attributes, **files}
        lines = "".join(f"{e.mode} {e.name}\t{repo.outside(path)}\0" for path, e in held.items())
        with repo.index() as index:
            listed = os.fsencode(lines) + repo.above(self.commit)
            repo.run("update-index", "-z", "--index-info", stdin=listed, env=index)
            yield index


def remove_files(copy: Path, paths: list[str]) -> None:
    """Remove files of a copy, and folders that are empty without them, as git does."""
    for path in paths:
        (copy / path).unlink(missing_ok=True)
        for folder in PurePosixPath(path).parents[:-1]:
            if not (copy / folder).is_dir() or any((copy / folder).iterdir()):
                break
            (copy / folder).rmdir()


def put_file(source: Path, target: Path) -> None:
    """Copy a file or a link to where it belongs in a copy."""
    make_folder(target.parent)
    if source.is_symlink():
        target.unlink(missing_ok=True)
        target.symlink_to(source.readlink())
    else:
        if target.is_symlink():
            target.unlink()
        shutil.copyfile(source, target)
        shutil.copymode(source, target)


def put_content(content: bytes, mode: int, target: Path) -> None:
    """Write a plain file where it belongs in a copy; one that is there keeps its inode."""
    make_folder(target.parent)
    if target.is_symlink():
        target.unlink()
    target.write_bytes(content)
    target.chmod(mode)


def make_folder(folder: Path) -> None:
    """Make a folder that all may read, whatever the umask: trials of root run as ``nobody``."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
