"""What a candidate may be at most, and the errors of one that is no candidate."""

from __future__ import annotations

from nightlab.core.source_bytes import encode_patch, encode_source
from nightlab.core.text import NO_BYTE
from nightlab.core.types import NightlabError

MAX_GENOME_BYTES = 1_000_000  # of the files that it changes
MAX_PATCH_BYTES = 2 * MAX_GENOME_BYTES
MAX_FILES = 500  # that it may change
PATIENCE = 60.0  # seconds that applying or showing one patch may take
BINARY = "\nGIT binary patch"


class OutOfScope(NightlabError):
    """A candidate changes something outside the genome, or more than it may."""


class PatchConflict(NightlabError):
    """A patch that does not apply to its commit, not even three-way."""


def encoded(text: str, what: str) -> bytes:
    """A text as bytes. Raises OutOfScope for lone surrogates that stand for no byte, and what its encoding lacks."""
    if found := NO_BYTE.search(text):
        raise OutOfScope(f"{what} is no text: it holds a lone surrogate, character {found.start():,}")
    try:
        return encode_source(text)
    except ValueError as error:
        raise OutOfScope(f"{what}, {error}") from None


def patch_bytes(patch: str) -> bytes:
    """A patch as bytes. Raises OutOfScope for one that is too large, no text, or changes a binary file."""
    if found := NO_BYTE.search(patch):
        raise OutOfScope(f"the patch is no text: it holds a lone surrogate, character {found.start():,}")
    content = encode_patch(patch)
    if len(content) > MAX_PATCH_BYTES:
        raise OutOfScope(f"the patch holds {len(content):,} bytes; the limit is {MAX_PATCH_BYTES:,}")
    if BINARY in f"\n{patch}":
        raise OutOfScope("the patch changes a binary file; a genome is text")
    return content


def require_few(files: int, size: int) -> None:
    """Raise OutOfScope for a candidate that changes too many files, or too many bytes in them."""
    if files > MAX_FILES:
        raise OutOfScope(f"it changes {files:,} files; the limit is {MAX_FILES:,}")
    if size > MAX_GENOME_BYTES:
        raise OutOfScope(f"the changed files hold {size:,} bytes; the limit is {MAX_GENOME_BYTES:,}")
