"""Checks whether an exported copy of a commit is unchanged, by git's ids of its files.

Safe for copies written to by hostile code: no link is followed, no pipe is opened, no read is unbounded.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import stat
import subprocess
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath


def blob_id(content: bytes, like: str) -> str:
    """The id that git gives to a file with this content, with the hash function of the id ``like``."""
    return _hash(like, len(content), content).hexdigest()


def file_id(path: Path, like: str) -> str | None:
    """The id of a regular file, or of a link's target text; None for anything else, and for unreadable files."""
    try:
        if path.is_symlink():
            return f"link {blob_id(os.fsencode(path.readlink()), like)}"
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            made = _hash(like, os.fstat(file.fileno()).st_size)
            while chunk := file.read(1 << 20):
                made.update(chunk)
            return made.hexdigest()
    except OSError:
        return None


def find_change(
    copy: Path,
    ids: Mapping[str, str],
    *,
    whole: bool,
    since: float = math.inf,
    places: Collection[str] = (),
) -> str:
    """What is wrong with a copy whose files should have these ids, as text; empty when it is unchanged.

    ``whole``: other files are not allowed, beyond ``places``. ``since``: files written to after this time (of
    ``now_there``) count as changed, because a change may have been reverted.
    """
    folders = _above(ids)
    if fault := _replaced(copy, folders):
        return fault
    for path, wanted in ids.items():
        if (found := file_id(copy / path, wanted.split()[-1])) != wanted:
            return f"{path} {_became(copy / path, found, wanted)}"
        if (copy / path).lstat().st_ctime > since:
            return f"{path} was written to"
    return _extra(copy, {*ids, *places}, folders | _above(places)) if whole else ""


def now_there(folder: Path) -> float:
    """The time by the clock of a folder's filesystem, which may be another machine's: what it says is set now."""
    os.utime(folder)
    return folder.stat().st_ctime


def find_moved(copy: Path, inodes: Mapping[str, int]) -> str:
    """What is wrong with a copy in which these paths should have these inodes, as text; empty when nothing is."""
    if fault := _replaced(copy, _above(inodes)):
        return fault
    for path, inode in inodes.items():
        try:
            if (copy / path).lstat().st_ino == inode:
                continue
        except OSError:
            pass
        return f"{path} was moved or replaced"
    return ""


def remove_tree(folder: Path) -> None:
    """Remove a folder with untrusted content, where ``shutil.rmtree`` gives up (too deep, or without permissions)."""
    with contextlib.suppress(RecursionError):
        import shutil  # with all of its compressors, which a supervisor has no use for

        shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        for command in (["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
            subprocess.run([*command, "--", str(folder)], stderr=subprocess.DEVNULL, check=False)


def _above(paths: Iterable[str]) -> set[str]:
    return {parent.as_posix() for path in paths for parent in PurePosixPath(path).parents}


def _replaced(copy: Path, folders: Iterable[str]) -> str:
    link = next((folder for folder in sorted(folders) if (copy / folder).is_symlink()), None)
    return f"{link} was replaced by a link" if link else ""


def _became(path: Path, found: str | None, wanted: str) -> str:
    if not os.path.lexists(path):
        return "is missing"
    if found and found.startswith("link ") and not wanted.startswith("link "):
        return "was replaced by a link"
    return "was changed"


def _extra(copy: Path, known: Collection[str], folders: set[str]) -> str:
    try:
        for folder in sorted(folders):
            with os.scandir(copy / folder) as entries:
                for entry in entries:
                    name = PurePosixPath(folder, entry.name).as_posix()
                    # Submodules leave empty folders.
                    if name not in known and name not in folders and not _is_empty_folder(entry):
                        return f"{name} appeared"
    except OSError as error:
        return f"it is unreadable: {error.strerror}"
    return ""


def _is_empty_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False) and next(Path(entry.path).iterdir(), None) is None


def _hash(like: str, size: int, content: bytes = b"") -> hashlib._Hash:
    made = hashlib.sha256 if len(like) == 64 else hashlib.sha1
    return made(b"blob %d\0" % size + content, usedforsecurity=False)
