"""Plain values as JSON, and messages: numbers, strings, lists, dicts, sets, bytes, arrays. Never pickle.

The evaluator's dataclasses and named tuples reach the candidate as objects with the same fields; those that come back
are numbers, for which the evaluator finds its own objects.

Everything that is read here may come from a hostile process: sizes and types are checked before anything is made.
"""

from __future__ import annotations

import base64
import json
import math
import socket
import struct
from collections.abc import Sequence
from typing import Any

HEADER = struct.Struct("<QQ")  # which connection, bytes of the message
MOST = 64 * 2**20  # bytes of one message
ARRAYS = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"}
WRAPPED = "__value__"  # the key of what JSON has no notation for


NUMBER = "__record__"  # the attribute of a record of the evaluator's: its number
KINDS: dict[tuple[str, bool | None, tuple[str, ...]], Any] = {}  # classes of the candidate's records


class NotPlain(TypeError):
    """A value that can't be handed over, or a message that says nothing valid."""


class Records:
    """The evaluator's objects that the candidate has been given, each under its number."""

    def __init__(self) -> None:
        self.all: list[Any] = []
        self.numbers: dict[int, int] = {}  # by identity, which lasts as long as ``all`` has them

    def number(self, value: Any) -> int:
        if id(value) not in self.numbers:
            self.numbers[id(value)] = len(self.all)
            self.all.append(value)
        return self.numbers[id(value)]


def pack(value: Any, records: Records | None = None) -> Any:
    """A plain value, as something that JSON can write. Raises NotPlain for anything else.

    ``records``: the evaluator's, which may hand over records; without, they only go back to it.
    """
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
        return [pack(item, records) for item in value]
    if (number := getattr(value, NUMBER, None)) is not None and records is None:
        return {WRAPPED: "record", "of": number}
    if records is not None and (names := _fields(value)) is not None:
        fields = [[name, pack(getattr(value, name), records)] for name in names]
        kind = type(value)
        frozen = None if isinstance(value, tuple) else kind.__dataclass_params__.frozen
        return {WRAPPED: "record", "of": [records.number(value), kind.__name__, frozen, fields]}
    if isinstance(value, tuple | set | frozenset):
        name = next(kind.__name__ for kind in (tuple, set, frozenset) if isinstance(value, kind))
        return {WRAPPED: name, "of": [pack(item, records) for item in value]}
    if isinstance(value, dict):
        return {WRAPPED: "dict", "of": [[pack(key, records), pack(item, records)] for key, item in value.items()]}
    raise NotPlain(f"a value of type {type(value).__name__} can't be handed over")


def unpack(data: Any, records: Sequence[Any] | None = None) -> Any:
    """The value that ``pack`` made this of. Raises NotPlain for anything else.

    ``records``: the evaluator's, by number; None on the candidate's side, which is given their fields.
    """
    if isinstance(data, list):
        return [unpack(item, records) for item in data]
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
            return {unpack(key, records): unpack(item, records) for key, item in of}
        if kind == "record":
            return _record(*of) if records is None else records[range(len(records)).index(of)]
        if kind in ("array", "tensor"):
            return _unpack_array(kind, **of)
        if kind in ("tuple", "set", "frozenset"):
            made: Any = {"tuple": tuple, "set": set, "frozenset": frozenset}[kind]
            return made(unpack(item, records) for item in of)
    except (TypeError, ValueError) as error:
        raise NotPlain(f"an answer holds an invalid {kind}: {error}") from None
    raise NotPlain(f"an answer holds something of kind {str(kind)[:40]!r}")


def _fields(value: Any) -> list[str] | None:
    """The fields of a dataclass or a named tuple; None for others. Raises NotPlain for a dataclass with methods too."""
    kind = type(value)
    names = getattr(kind, "_fields" if isinstance(value, tuple) else "__dataclass_fields__", None)
    if names is None:
        return None
    own = (name for made in kind.__mro__ if made not in (tuple, object) for name in vars(made))
    if other := next((name for name in own if not name.startswith("_") and name not in names), ""):
        if isinstance(value, tuple):
            return None
        raise NotPlain(f"a value of type {kind.__name__}, which has {other} besides its fields, can't be handed over")
    return list(names)


def _record(number: int, kind: str, frozen: bool | None, fields: list[list[Any]]) -> Any:
    """An object like the evaluator's, with its fields. ``frozen``: None for a named tuple."""
    names = tuple(name for name, _ in fields)
    if (key := (kind, frozen, names)) not in KINDS:
        if frozen is None:
            from collections import namedtuple

            KINDS[key] = type(kind, (namedtuple(kind, names),), {})
        else:
            from dataclasses import make_dataclass

            KINDS[key] = make_dataclass(kind, names, frozen=frozen)
    made = KINDS[key](*(unpack(item) for _, item in fields))
    object.__setattr__(made, NUMBER, number)
    return made


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
