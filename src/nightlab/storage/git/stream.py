"""Commits in the language of ``git fast-import``."""

from __future__ import annotations

import os
import re
import time

from nightlab.storage.git.command import AUTHOR

TREE = "040000 tree "  # before the id, in the list of a tree


def change(mode: str, path: str, content: bytes | str | None) -> bytes:
    """One file, by its path from the top: a content, the id of one, or None for a file that goes."""
    name = _quoted(path)
    if content is None:
        return b'D "%b"\n' % name
    if isinstance(content, str):
        return b'M %b %b "%b"\n' % (mode.encode(), content.encode(), name)
    return b'M %b inline "%b"\ndata %d\n%b\n' % (mode.encode(), name, len(content), content)


def commit(parent: str, changes: bytes, message: str, folder: str) -> bytes:
    """A commit of changes on ``parent``, to follow the line that names its ref.

    Its id is printed, and how ``ls-tree`` lists the tree of its ``folder`` ("" for the top).
    """
    who = f"{AUTHOR['GIT_COMMITTER_NAME']} <{AUTHOR['GIT_COMMITTER_EMAIL']}> {time.time():.0f} {time.strftime('%z')}"
    words = message.encode()
    head = f"mark :1\ncommitter {who}\ndata {len(words)}\n".encode() + words
    return head + f"\nfrom {parent}\n".encode() + changes + b'get-mark :1\nls :1 "%b"\ndone\n' % _quoted(folder)


def _quoted(path: str) -> bytes:
    return re.sub(rb'[\\"]', rb"\\\g<0>", os.fsencode(path)).replace(b"\n", b"\\n")
