"""Cleans a candidate's output folder before an evaluator with access to sealed data reads it."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def leave_only_files(folder: Path) -> None:
    """Remove everything that is neither a regular file nor a folder, without following links.

    A link ``model.json`` to the sealed data would make an evaluator read that instead of the model; a pipe would block
    it. Call it only when no process that could recreate one is running.
    """
    for at, folders, files in os.walk(folder):
        Path(at).chmod(stat.S_IMODE(Path(at).lstat().st_mode) | stat.S_IRWXU)
        for path in (Path(at) / name for name in (*folders, *files)):
            mode = path.lstat().st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                path.unlink()


def take_answer(left: Path, most: int, to: Path) -> str:
    """Copy the file ``left`` by a candidate, of at most ``most`` bytes; returns what is wrong with it, else nothing.

    Call it after ``leave_only_files``: then no link is there that could lead elsewhere.
    """
    try:
        about = left.lstat()
    except OSError:
        return "is missing, or was no plain file"
    if not stat.S_ISREG(about.st_mode):
        return "is no plain file"
    if about.st_size > most:
        return f"has {about.st_size:,} bytes, warm_start.size of lab.toml allows {most:,}"
    with to.open("wb") as copy:
        copy.write(left.read_bytes())
        copy.flush()
        os.fsync(copy.fileno())
    return ""
