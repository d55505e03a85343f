"""Plain values as JSON, and messages: numbers, strings, lists, dicts, sets, bytes, arrays. Never pickle.

The evaluator's dataclasses and named tuples reach the candidate as objects with the same fields; those that come back
unchanged are numbers, for which the evaluator finds its own objects.

Everything that is read here may come from a hostile process: sizes and types are checked before anything is made.
"""

from __future__ import annotations

import base64
import json
import math
import socket
import struct
from collections.abc import Mapping
from typing import Any

HEADER = struct.Struct("<QQ")  # which connection, bytes of the message
MOST = 64 * 2**20  # bytes of one message
ARRAYS = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"}
WRAPPED = "__value__"  # the key of what JSON has no notation for


NUMBER = "__record__"  # the attribute of a record of the evaluator's: its number, and what its fields were
KEPT = 10_000  # records of earlier calls that the evaluator's side finds again
KINDS: dict[str, Any] = {}  # classes of the candidate's records
COMPARES = ("eq", "order", "unsafe_hash", "frozen")  # what a dataclass is made with, and its objects behave by
MAKERS = ("<string>", "dataclasses.py", "collections/__init__.py")  # where the methods that they write are from
HARMLESS = {  # methods that a record does without; Python 3.14 makes the last two of annotations
    *("__init__", "__post_init__", "__repr__", "__str__", "__format__", "__annotate__", "__annotate_func__"),
}


class NotPlain(TypeError):
    """A value that can't be handed over, or a message that says nothing valid."""


class Records:
    """The evaluator's objects that the candidate has been given, by number; those of the latest use last."""

    def __init__(self) -> None:
        self.all: dict[int, Any] = {}
        self.numbers: dict[int, int] = {}  # by identity, which lasts as long as ``all`` has them
        self.next = 0

    def number(self, value: Any) -> int:
        number = self.numbers.setdefault(id(value), self.next)
        self.next += number == self.next
        self.all.pop(number, None)
        self.all[number] = value
        return number

    def trim(self) -> None:
        """Forget all but the latest ``KEPT``: before a call, whose own may be more."""
        for number in list(self.all)[: max(len(self.all) - KEPT, 0)]:
            del self.numbers[id(self.all.pop(number))]


def pack(value: Any, records: Records | None = None) -> Any:
    """A plain value, as something that JSON can write. Raises NotPlain for anything else.

    ``records``: the evaluator's, which may hand over records; without, they only go back to it.
    """
    if value is None or isinstance(value, bool):
        return value
    if hasattr(value, "dtype") and hasattr(value, "shape") and not _is_record(type(value)):
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
    if records is None and (given := getattr(value, NUMBER, None)) is not None:
        if given[1] != _digest(value):
            raise NotPlain(f"a {type(value).__name__} of the evaluator's, whose fields were changed, can't go back")
        return {WRAPPED: "record", "of": given[0]}
    if records is not None and (names := _fields(value)) is not None:
        kind, fields = type(value), [pack(getattr(value, name), records) for name in names]
        about: Any = None  # of a named tuple
        if not isinstance(value, tuple):
            about = {name: getattr(kind.__dataclass_params__, name) for name in COMPARES}
            found = [kind.__dataclass_fields__[name] for name in names]
            names = [[field.name, field.compare, field.hash] for field in found]
        return {WRAPPED: "record", "of": [records.number(value), [kind.__name__, about, names], fields]}
    if isinstance(value, tuple | set | frozenset):
        name = next(kind.__name__ for kind in (tuple, set, frozenset) if isinstance(value, kind))
        return {WRAPPED: name, "of": [pack(item, records) for item in value]}
    if isinstance(value, dict):
        return {WRAPPED: "dict", "of": [[pack(key, records), pack(item, records)] for key, item in value.items()]}
    raise NotPlain(f"a value of type {type(value).__name__} can't be handed over")


def unpack(data: Any, records: Mapping[int, Any] | None = None, made: dict[int, Any] | None = None) -> Any:
    """The value that ``pack`` made this of. Raises NotPlain for anything else.

    ``records``: the evaluator's, by number; None on the candidate's side, which is given their fields, and has one
    object of each in ``made``: those of a message.
    """
    made = {} if made is None else made
    if not isinstance(data, list | dict):
        return data
    kind: Any = "list" if isinstance(data, list) else data.get(WRAPPED)
    try:
        if isinstance(data, list):
            return [unpack(item, records, made) for item in data]
        of: Any = data.get("of")
        if kind == "complex":
            return complex(*map(float, of))
        if kind == "bytes":
            return base64.b64decode(of, validate=True)
        if kind == "dict":
            return {unpack(key, records, made): unpack(item, records, made) for key, item in of}
        if kind == "record":
            return _record(*of, made=made) if records is None else records[of]
        if kind in ("array", "tensor"):
            return _unpack_array(kind, **of)
        if kind in ("tuple", "set", "frozenset"):
            several: Any = {"tuple": tuple, "set": set, "frozenset": frozenset}[kind]
            return several(unpack(item, records, made) for item in of)
    except (TypeError, ValueError, KeyError, OverflowError, RecursionError) as error:
        raise NotPlain(f"an answer holds an invalid {kind}: {error}") from None
    raise NotPlain(f"an answer holds something of kind {str(kind)[:40]!r}")


def _fields(value: Any) -> list[Any] | None:
    """The fields of a dataclass or a named tuple; None for others. Raises NotPlain for a dataclass that has more."""
    kind = type(value)
    if not _is_record(kind):
        return None
    if isinstance(value, tuple):
        names = list(kind._fields)
    else:
        from dataclasses import fields

        names = [field.name for field in fields(value)]
    own = [(name, item) for made in kind.__mro__ if made not in (tuple, object) for name, item in vars(made).items()]
    others = [*getattr(value, "__dict__", ()), *(name for name, item in own if _does(name, item))]
    if other := next((name for name in others if name not in names), ""):
        if isinstance(value, tuple):
            return None
        raise NotPlain(f"a value of type {kind.__name__}, which has {other} besides its fields, can't be handed over")
    if lacks := next((name for name in names if not hasattr(value, name)), ""):
        raise NotPlain(f"a value of type {kind.__name__}, whose field {lacks} is not set, can't be handed over")
    return names


def _is_record(kind: type) -> bool:
    return hasattr(kind, "_fields" if issubclass(kind, tuple) else "__dataclass_fields__")


def _does(name: str, item: Any) -> bool:
    """Whether what a record's class holds is missed where only its fields are: not what its decorator has made."""
    if not name.startswith("_"):
        return True
    code = getattr(item, "__code__", None)
    written = code is not None and not code.co_filename.endswith(MAKERS)
    return written and name.endswith("__") and name not in HARMLESS


def _digest(value: Any) -> int:
    names = value._fields if hasattr(value, "_fields") else value.__dataclass_fields__
    return hash(json.dumps([pack(getattr(value, name)) for name in names]))


def _record(number: int, about: list[Any], fields: list[Any], *, made: dict[int, Any]) -> Any:
    """An object like the evaluator's, with its fields. ``about``: its class, as ``pack`` says it."""
    if number not in made:
        if (key := json.dumps(about)) not in KINDS:
            KINDS[key] = _kind(*about)
        record = made[number] = KINDS[key](*(unpack(item, None, made) for item in fields))
        object.__setattr__(record, NUMBER, (number, _digest(record)))
    return made[number]


def _kind(name: str, about: Any, names: list[Any]) -> Any:
    if about is None:
        from collections import namedtuple

        return type(name, (namedtuple(name, names),), {})
    from dataclasses import field, make_dataclass

    return make_dataclass(
        name, [(own, object, field(compare=compare, hash=hashed)) for own, compare, hashed in names], **about
    )


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
