"""Where a user keeps their copy of the commons and the key that they sign with: one of each for all their labs."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from nightlab.commons.exchange import Commons
from nightlab.commons.record import author_of, library
from nightlab.core.types import NightlabError

KEYS = "cryptography.hazmat.primitives.asymmetric.ed25519"


def store_folder() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "nightlab" / "commons"


def open_commons() -> Commons:
    """The user's copy of the commons, made if it is not there. Raises NightlabError without the extra ``commons``."""
    library("rfc8785")
    library(KEYS)
    try:
        return Commons(store_folder())
    except OSError as error:
        raise NightlabError(
            f"{store_folder()} can't be written: {error.strerror or error}",
            "mend its permissions, or set XDG_DATA_HOME",
        ) from error


def known_commons() -> Commons | None:
    """The user's copy of the commons, for those who can do without; None while there is none."""
    return open_commons() if store_folder().exists() else None


def key_file() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "nightlab" / "author.key"


def author_key(*, make: bool = False) -> Any:
    """The user's private key; None while there is none, unless one is to be made.

    Raises NightlabError when it is no key, or others may read it.
    """
    path, keys = key_file(), library(KEYS)
    if make and not path.exists():
        _write(path, keys.Ed25519PrivateKey.generate().private_bytes_raw().hex())
    try:
        others = path.stat().st_mode & 0o077
        text = path.read_text(errors="replace").strip()
    except FileNotFoundError:
        return None
    if others:
        raise NightlabError(f"others may read your key {path}", f"chmod 600 {path}")
    try:
        return keys.Ed25519PrivateKey.from_private_bytes(bytes.fromhex(text))
    except ValueError:
        hint = "restore it from a backup; or move it away, and a new one is made: then you are a new author"
        raise NightlabError(f"{path} is no key", hint) from None


def author() -> str:
    """The user's name in the commons; empty while they have none."""
    key = author_key()
    return author_of(key) if key else ""


def _write(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all, and never over another."""
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
