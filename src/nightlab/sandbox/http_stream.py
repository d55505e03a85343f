"""HTTP/1.1 messages as streams: a head, and the pieces of a body as they come, framed as RFC 9112 says."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

PIECE = 65536
MOST_BODY = 64 * 2**20  # bytes of one message, decoded, that are read

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Head:
    """A first line, and header fields in their order."""

    first: str
    fields: list[tuple[str, str]]

    def get(self, name: str) -> str:
        return next((value for key, value in self.fields if key.lower() == name), "")

    def set(self, name: str, value: str) -> None:
        """Replace a field, or add it; without a value remove it."""
        self.fields = [(key, old) for key, old in self.fields if key.lower() != name]
        if value:
            self.fields.append((name, value))

    @property
    def status(self) -> int:
        """The status code of an answer; 0 if it has none."""
        parts = self.first.split(" ")
        return int(parts[1]) if len(parts) > 1 and parts[1].isdecimal() else 0

    def encode(self) -> bytes:
        lines = [self.first, *(f"{name}: {value}" for name, value in self.fields), "", ""]
        return "\r\n".join(lines).encode("latin-1")


def parse_head(raw: bytes) -> Head:
    """A message's head from its bytes. Raises ValueError for what is none."""
    first, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    fields = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise ValueError(f"no header field: {line[:100]!r}")
        fields.append((name.strip(), value.strip()))
    return Head(first, fields)


async def read_head(reader: asyncio.StreamReader) -> Head:
    return parse_head(await reader.readuntil(b"\r\n\r\n"))


async def body_pieces(reader: asyncio.StreamReader, head: Head, *, request: bool) -> AsyncIterator[tuple[bytes, bytes]]:
    """The body after a head: each piece as it stands on the wire, and the bytes of the content in it.

    Raises ValueError for a wrong framing, IncompleteReadError where the body ends early.
    """
    if "chunked" in head.get("transfer-encoding").lower():
        async for piece in _chunks(reader):
            yield piece
    elif (length := head.get("content-length")) or request:
        async for part in _exactly(reader, int(length or 0)):
            yield part, part
    else:
        while rest := await reader.read(PIECE):
            yield rest, rest


async def _exactly(reader: asyncio.StreamReader, left: int) -> AsyncIterator[bytes]:
    while left > 0:
        part = await reader.read(min(PIECE, left))
        if not part:
            raise asyncio.IncompleteReadError(b"", left)
        left -= len(part)
        yield part


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[tuple[bytes, bytes]]:
    while True:
        line = await reader.readuntil(b"\n")
        size = int(line.split(b";")[0].strip(), 16)
        yield line, b""
        async for part in _exactly(reader, size):
            yield part, part
        if not size:
            break
        yield await reader.readuntil(b"\n"), b""
    while (line := await reader.readuntil(b"\n")).strip():  # trailers
        yield line, b""
    yield line, b""


class Decoder:
    """Content decoded as it comes: gzip and deflate; other encodings can't be looked into."""

    def __init__(self, encoding: str) -> None:
        self.readable = encoding.strip().lower() in ("", "identity", "gzip", "x-gzip", "deflate")
        self._zip = zlib.decompressobj(47) if encoding.strip().lower() not in ("", "identity") else None
        self._had = 0

    def feed(self, piece: bytes) -> bytes:
        """The next bytes of the content; nothing once it can't be decoded, or is larger than ``MOST_BODY``."""
        if not self.readable:
            return b""
        try:
            content = self._zip.decompress(piece, MOST_BODY - self._had + 1) if self._zip else piece
        except zlib.error:
            self.readable = False
            return b""
        self._had += len(content)
        self.readable = self._had <= MOST_BODY
        return content
