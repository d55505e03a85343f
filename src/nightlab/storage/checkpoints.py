"""Files that a trial leaves for later ones, each named by its SHA-256: checkpoints of a population, and answers.

A checkpoint holds what the guest writes: the length of a JSON list of (name, type, shape), that list, and the arrays'
bytes, each aligned. Here it comes from a candidate, so every size and type is checked before anything is kept.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from nightlab.core.files import replace_text

Listing = list[tuple[str, str, tuple[int, ...]]]  # name, struct code and shape of each array

LENGTH = struct.Struct("<Q")
TYPES = {*"bBhHiIqQefdlL?"}
FLOATS = {"e": "f2", "f": "f4", "d": "f8"}
ALIGNED, MAX_DIMS, LONGEST_LIST = 256, 4, 2**20
CHUNK = 2**22  # bytes looked at in one go: a multiple of every float's size
SHAPES = "arrays.json"  # the listing of the population's first checkpoint


class UnfitCheckpoint(Exception):
    """What was handed over can't be gone on from; says why."""


class FileStore:
    """Files in ``folder``, each by its SHA-256."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: str) -> Path:
        return self.folder / digest

    def put(self, content: bytes) -> None:
        """Put a file in that another store has taken in."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path(hashlib.sha256(content).hexdigest()).write_bytes(content)

    def adopt(self, file: Path) -> str:
        """Take a file in, and return its name: the same for the same file, also after a kill on the way.

        Raises UnfitCheckpoint where it does not belong here.
        """
        note = file.with_name(f"{file.name}.sha256")
        if not file.exists() and note.exists() and self.path(digest := note.read_text(encoding="utf-8")).exists():
            return digest
        self._require_fit(file)
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        replace_text(note, digest)
        self.folder.mkdir(parents=True, exist_ok=True)
        os.replace(file, self.path(digest))
        return digest

    def sound(self, digest: str) -> bool:
        """Whether a file is there as it was taken in."""
        try:
            with self.path(digest).open("rb") as content:
                return hashlib.file_digest(content, "sha256").hexdigest() == digest
        except OSError:
            return False

    def keep_only(self, known: Iterable[str], needed: Iterable[str]) -> None:
        """Remove those of the ``known`` ones that are not ``needed`` any more."""
        for digest in set(known) - set(needed):
            self.path(digest).unlink(missing_ok=True)

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _require_fit(self, file: Path) -> None:
        """Raise UnfitCheckpoint where a file does not belong here."""


class CheckpointStore(FileStore):
    """The checkpoints of one population in ``folder``, each of at most ``most`` bytes."""

    def __init__(self, folder: Path, most: int) -> None:
        super().__init__(folder)
        self.most = most

    def _require_fit(self, file: Path) -> None:
        """A checkpoint is there, well-formed, not too large, finite, and holds the arrays of the population's first.

        A member goes on from any other's.
        """
        found = read_listing(file, self.most)
        first = self.folder / SHAPES
        if not first.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            replace_text(first, json.dumps(found))
            return
        had = {name: (kind, tuple(shape)) for name, kind, shape in json.loads(first.read_text(encoding="utf-8"))}
        have = {name: (kind, shape) for name, kind, shape in found}
        for name in had | have:
            if had.get(name) != have.get(name):
                words = f"the array {name!r} is {_words(have.get(name))}, that of other members"
                raise UnfitCheckpoint(f"{words} {_words(had.get(name))}")


def read_listing(file: Path, most: int) -> Listing:
    """The arrays in a file by name, type and shape, if it holds these and nothing else, and all floats are finite.

    Raises UnfitCheckpoint.
    """
    if not file.exists() or not (size := file.stat().st_size):
        raise UnfitCheckpoint("nothing was handed over: call trial.save(arrays) before training is over")
    if size > most:
        raise UnfitCheckpoint(
            f"it has {size / 2**20:.1f} MB, and population.checkpoint of lab.toml allows {most / 2**20:g}"
        )
    with file.open("rb") as content:
        (length,) = LENGTH.unpack(content.read(LENGTH.size).ljust(LENGTH.size, b"\0"))
        if length > min(size, LONGEST_LIST):
            raise UnfitCheckpoint(f"its list of arrays would have {length:,} bytes")
        found = _listing(content.read(length))
        at = LENGTH.size + length
        for name, kind, shape in found:
            at += -at % ALIGNED
            bytes_of = struct.calcsize(kind) * math.prod(shape)
            if at + bytes_of > size:
                raise UnfitCheckpoint(f"the array {name!r} is cut off")
            if kind in FLOATS:
                content.seek(at)
                _require_finite(content, bytes_of, name, kind)
            at += bytes_of
        if at != size:
            raise UnfitCheckpoint(f"it has {size:,} bytes, its arrays {at:,}")
    return found


def _listing(text: bytes) -> Listing:
    try:
        found = [(name, kind, tuple(shape)) for name, kind, shape in json.loads(text)]
    except (ValueError, TypeError, RecursionError):
        raise UnfitCheckpoint("its list of arrays can't be read") from None
    for name, kind, shape in found:
        sound = isinstance(name, str) and isinstance(kind, str) and kind in TYPES and len(shape) <= MAX_DIMS
        if not sound or not all(type(side) is int and 0 <= side < 2**48 for side in shape):
            raise UnfitCheckpoint(f"its list of arrays has an entry that is none: {[name, kind, shape]!r:.80}")
    if len({name for name, _, _ in found}) != len(found):
        raise UnfitCheckpoint("two of its arrays have one name")
    return found


def _require_finite(content: IO[bytes], size: int, name: str, kind: str) -> None:
    import numpy as np

    while size:
        part = content.read(min(CHUNK, size))
        if not np.isfinite(np.frombuffer(part, dtype=f"<{FLOATS[kind]}")).all():
            raise UnfitCheckpoint(f"the array {name!r} is not finite")
        size -= len(part)


def _words(array: tuple[str, tuple[int, ...]] | None) -> str:
    return f"{array[0]}{list(array[1])}" if array else "missing"
