"""Plain values as JSON, and messages: numbers, strings, lists, dicts, sets, bytes, arrays. Never pickle.

Everything that is read here may come from a hostile process: sizes and types are checked before anything is made.
"""

from __future__ import annotations

import base64
import json
import math
import socket
import struct
from typing import Any

HEADER = struct.Struct("<QQ")  # which connection, bytes of the message
MOST = 64 * 2**20  # bytes of one message
ARRAYS = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"}
WRAPPED = "__value__"  # the key of what JSON has no notation for


class NotPlain(TypeError):
    """A value that can't be handed over, or a message that says nothing valid."""


def pack(value: Any) -> Any:
    """A plain value, as something that JSON can write. Raises NotPlain for anything else."""
    if value is None or isinstance(value, bool):
        return value
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return _pack_array(value)
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, complex):
        return {WRAPPED: "complex", "of": [value.real, value.imag]}
    if isinstance(value, bytes | bytearray):
        return {WRAPPED: "bytes", "of": base64.b64encode(value).decode()}
    if isinstance(value, list):
        return [pack(item) for item in value]
    if isinstance(value, tuple | set | frozenset):
        name = next(kind.__name__ for kind in (tuple, set, frozenset) if isinstance(value, kind))
        return {WRAPPED: name, "of": [pack(item) for item in value]}
    if isinstance(value, dict):
        return {WRAPPED: "dict", "of": [[pack(key), pack(item)] for key, item in value.items()]}
    raise NotPlain(f"a value of type {type(value).__name__} can't be handed over")


def unpack(data: Any) -> Any:
    """The value that ``pack`` made this of. Raises NotPlain for anything else."""
    if isinstance(data, list):
        return [unpack(item) for item in data]
    if not isinstance(data, dict):
        return data
    kind: Any = data.get(WRAPPED)
    of: Any = data.get("of")
    try:
        if kind == "complex":
            return complex(*map(float, of))
        if kind == "bytes":
            return base64.b64decode(of, validate=True)
        if kind == "dict":
            return {unpack(key): unpack(item) for key, item in of}
        if kind in ("array", "tensor"):
            return _unpack_array(kind, **of)
        if kind in ("tuple", "set", "frozenset"):
            made: Any = {"tuple": tuple, "set": set, "frozenset": frozenset}[kind]
            return made(unpack(item) for item in of)
    except (TypeError, ValueError) as error:
        raise NotPlain(f"an answer holds an invalid {kind}: {error}") from None
    raise NotPlain(f"an answer holds something of kind {str(kind)[:40]!r}")


def _pack_array(value: Any) -> Any:
    import numpy

    tensor = type(value).__module__.split(".")[0] == "torch"
    flat = numpy.ascontiguousarray(value.detach().cpu().numpy() if tensor else value)
    kind = flat.dtype.newbyteorder("=").str[1:]
    if kind not in ARRAYS:
        raise NotPlain(f"an array of type {flat.dtype} can't be handed over")
    flat = flat.astype(flat.dtype.newbyteorder("<"), copy=False)
    shape = list(value.shape)
    of = {"dtype": kind, "shape": shape, "data": base64.b64encode(flat.tobytes()).decode()}
    return {WRAPPED: "tensor" if tensor else "array", "of": of}


def _unpack_array(kind: str, dtype: str, shape: list[int], data: str) -> Any:
    import numpy

    if dtype not in ARRAYS or not all(isinstance(size, int) and size >= 0 for size in shape) or len(shape) > 32:
        raise ValueError(f"type {str(dtype)[:20]!r}, shape {str(shape)[:60]}")
    raw = base64.b64decode(data, validate=True)
    if len(raw) != math.prod(shape) * numpy.dtype(dtype).itemsize:
        raise ValueError(f"{len(raw)} bytes for shape {shape}")
    made = numpy.frombuffer(raw, f"<{dtype}").reshape(shape).copy()
    if kind == "tensor":
        import torch

        return torch.from_numpy(made)
    return made if shape else made[()]


def encode(message: dict[str, Any]) -> bytes:
    """A message as bytes. Raises NotPlain when it is too large."""
    data = json.dumps(message).encode()
    if len(data) > MOST:
        raise NotPlain(f"{len(data):,} bytes can't be handed over at once; the limit is {MOST:,}")
    return data


def decode(data: bytes) -> dict[str, Any]:
    """The message in these bytes. Raises NotPlain when there is none."""
    try:
        message = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise NotPlain(f"an answer is no message: {type(error).__name__}") from None
    if not isinstance(message, dict):
        raise NotPlain("an answer is no message")
    return message


def send(link: socket.socket, number: int, data: bytes) -> None:
    """Send one framed message of a connection."""
    link.sendall(HEADER.pack(number, len(data)) + data)


def receive(link: socket.socket) -> tuple[int, bytes] | None:
    """The next framed message; None when the other side has hung up. Raises NotPlain when it is too large."""
    header = _exactly(link, HEADER.size)
    if header is None:
        return None
    number, size = HEADER.unpack(header)
    if size > MOST:
        raise NotPlain(f"an answer of {size:,} bytes is too large; the limit is {MOST:,}")
    data = _exactly(link, size)
    return None if data is None else (number, data)


def _exactly(link: socket.socket, size: int) -> bytes | None:
    got = bytearray()
    while len(got) < size:
        try:
            part = link.recv(min(size - len(got), 1 << 20))
        except OSError:
            return None
        if not part:
            return None
        got += part
    return bytes(got)
