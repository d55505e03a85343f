"""Files that others put there are read only if they are plain, inside a folder and within a limit; ours are replaced
whole."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from nightlab.core.types import NightlabError

KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
KINDS |= {stat.S_IFDIR: "a folder"}


class NotReadable(NightlabError):
    """A file that is not read: not a plain one, outside its folder, or too large."""


def read_plain(path: Path, most: int, inside: Path | None = None) -> bytes:
    """The content of a plain file of at most ``most`` bytes.

    ``inside``: the folder that it may not leave, not even by a link. Raises NotReadable, and OSError where the file is
    missing or unreadable. Never waits: a pipe is not opened for what might come.
    """
    if inside is not None and not path.resolve().is_relative_to(inside.resolve()):
        raise NotReadable(f"{path} is a link that leaves {inside}", "put a copy of the file there")
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            kind = KINDS.get(stat.S_IFMT(about.st_mode), "something else")
            raise NotReadable(f"{path} is {kind}, not a plain file", "put a plain file in its place, or remove it")
        raw = file.read(most + 1)
    if len(raw) > most:
        raise NotReadable(f"{path} has more than {most:,} bytes", "make it smaller")
    return raw


def replace_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all: a reader, or a kill, sees what was there before or all of this."""
    draft = path.with_name(path.name + ".tmp")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)
