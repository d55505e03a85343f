"""The user's copy of the commons and signing key: one of each, shared by all labs."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from nightlab.commons.canonical import import_library
from nightlab.commons.exchange import Commons
from nightlab.commons.record import author_of
from nightlab.core.files import read_plain
from nightlab.core.types import NightlabError

LARGEST_KEY = 4096  # bytes of a key file
KEYS = "cryptography.hazmat.primitives.asymmetric.ed25519"


def store_folder() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "nightlab" / "commons"


def open_commons() -> Commons:
    """The user's copy of the commons, created if missing. Raises NightlabError without the extra ``commons``."""
    import_library("rfc8785")
    import_library(KEYS)
    try:
        return Commons(store_folder())
    except OSError as error:
        raise NightlabError(
            f"{store_folder()} can't be written: {error.strerror or error}",
            "fix its permissions, or set XDG_DATA_HOME",
        ) from error


def known_commons() -> Commons | None:
    """The user's copy of the commons, or None if there is none: for callers that work without it."""
    return open_commons() if store_folder().exists() else None


def key_file() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "nightlab" / "author.key"


def author_key(*, make: bool = False) -> Any:
    """The user's private key; None if there is none and ``make`` is false.

    Raises NightlabError when the file is not a valid key, or is readable by other users.
    """
    path, keys = key_file(), import_library(KEYS)
    if make and not path.exists():
        _write(path, keys.Ed25519PrivateKey.generate().private_bytes_raw().hex())
    try:
        others = path.stat().st_mode & 0o077
        text = read_plain(path, LARGEST_KEY).decode(errors="replace").strip()
    except FileNotFoundError:
        return None
    if others:
        raise NightlabError(f"other users can read your key {path}", f"chmod 600 {path}")
    try:
        return keys.Ed25519PrivateKey.from_private_bytes(bytes.fromhex(text))
    except ValueError:
        hint = "restore it from a backup; or move it away to get a new key, which makes you a new author"
        raise NightlabError(f"{path} is not a valid key", hint) from None


def retire_key() -> Path:
    """Move the user's key away, beside its place; the next use of a key makes a new one. Returns the new place."""
    path, key = key_file(), author_key()
    away = path.with_name(f"{author_of(key)[:12]}.revoked.key")
    path.rename(away)
    return away


def own_author() -> str:
    """The user's author id; empty without a key."""
    key = author_key()
    return author_of(key) if key else ""


def _write(path: Path, text: str) -> None:
    """Write a file readable only by its owner, atomically, and without replacing an existing one."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    handle = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600)
    try:
        os.write(handle, f"{text}\n".encode())
        os.fsync(handle)
        os.close(handle)
        with contextlib.suppress(FileExistsError):  # another process was first
            os.link(draft, path)
    finally:
        draft.unlink()
