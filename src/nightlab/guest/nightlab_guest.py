"""What a candidate's process, and its evaluator, may say to each other and to the supervisor.

This file is the only part of nightlab that runs beside candidate code. It needs nothing but the
standard library, is found through ``PYTHONPATH`` inside a trial, and is absent outside one, so a lab
asks for it like this and works by hand too::

    try:
        import nightlab_guest
    except ImportError:
        nightlab_guest = None

A trial in another language reads the same environment variables:

``NIGHTLAB_SEED``    the seed of this trial (the engine owns the seeds)
``NIGHTLAB_CLOCK``   ``wall`` or ``cpu`` (seconds), or ``work`` (units that the lab's frozen code counts)
``NIGHTLAB_BUDGET``  how much of that clock may be spent on training
``NIGHTLAB_DEVICE``  ``cuda``, ``mps`` or ``cpu``

The evaluator calls a function that the candidate serves. Arrays travel through shared memory as plain
bytes, described by a fixed-size header on a socket: no pickle, every size and type checked by the side
that reads. Two slots let the candidate compute one batch while the evaluator scores the one before.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

Buffer = Any  # anything with the buffer protocol: collections.abc.Buffer, which needs Python 3.12

SLOTS = 2
MAX_DIMS = 4
TYPES: tuple[Any, ...] = ("b", "B", "h", "H", "i", "I", "q", "Q", "e", "f", "d")  # struct codes, by index in a header
# slot, offset of the array, its size in bytes, room for the answer, type, dimensions, shape
HEADER = struct.Struct(f"<IQQQII{MAX_DIMS}Q")
FAILED = 0xFFFFFFFF


class ServeError(RuntimeError):
    """The other side of the link is gone, or answered with something that was not agreed."""


@dataclass(frozen=True)
class Trial:
    """The trial that this process is the candidate of."""

    seed: int
    clock: str
    budget: float
    device: str

    def start(self) -> None:
        """Tell the supervisor that training begins: the budget runs from now."""
        _tell("start")

    def serve(self, function: Callable[[memoryview], Buffer]) -> None:
        """Hand the model over and answer the evaluator's calls until it hangs up.

        ``function`` gets a read-only memoryview with type and shape (for a language model: int32
        tokens, shape (batch, time)) and returns any C-contiguous buffer (float32 logits, shape
        (batch, time, vocabulary)). It may be a view that the next call overwrites. Training time ends
        when this is called.

        Raises ServeError if the answer is larger than what the evaluator made room for.
        """
        _tell("serve")
        link = socket.socket(fileno=int(os.environ["NIGHTLAB_LINK"]))
        memory = _Memory()
        while header := _receive(link, HEADER.size):
            slot, offset, size, room, kind, dims, *shape = HEADER.unpack(header)
            memory.grow(offset + size + room)
            view = memoryview(memory.map)[offset : offset + size].toreadonly()
            try:
                answer = memoryview(function(view.cast(TYPES[kind], shape[:dims])))
                flat = answer.cast("B")
                if len(flat) > room:
                    raise ServeError(f"the served function returned {len(flat)} bytes, room was {room}")
                memory.map[offset + size : offset + size + len(flat)] = flat
            except BaseException:
                link.sendall(HEADER.pack(FAILED, 0, 0, 0, 0, 0, *([0] * MAX_DIMS)))
                raise
            try:
                link.sendall(_header(slot, offset + size, answer, 0))
            except OSError:
                return  # the evaluator has hung up, and says itself why


def trial() -> Trial | None:
    """The trial this process runs in, or None when it was started by hand."""
    if os.environ.get("NIGHTLAB_ROLE") != "candidate":
        return None
    env = os.environ
    return Trial(
        seed=int(env["NIGHTLAB_SEED"]),
        clock=env["NIGHTLAB_CLOCK"],
        budget=float(env["NIGHTLAB_BUDGET"]),
        device=env["NIGHTLAB_DEVICE"],
    )


class Served:
    """The evaluator's end of the link: calls the function that the candidate serves."""

    def __init__(self) -> None:
        self.link = socket.socket(fileno=int(os.environ["NIGHTLAB_LINK"]))
        self.memory = _Memory()
        self.turn = os.environ.get("NIGHTLAB_TURN")

    def map(self, inputs: Iterable[Buffer], kind: str, shape: tuple[int, ...]) -> Iterator[memoryview]:
        """Yield the candidate's answer for each input, in order, computing one ahead.

        ``inputs``: C-contiguous arrays of at most four dimensions, all of one size. ``kind`` and
        ``shape``: struct code and shape that every answer must have ("f", (batch, time, vocabulary)).
        An answer is copied out before it is checked, so the candidate can't change it afterwards; it
        is valid until the next one.

        Raises ServeError when the candidate is gone, failed, or answers with another type or shape.
        """
        if self.turn:
            # No input may be seen while the candidate still trains: the supervisor says when it no longer does.
            if not os.read(int(self.turn), 1):
                raise ServeError("the model was never handed over")
            self.turn = None
        room = struct.calcsize(kind)
        for n in shape:
            room *= n
        private = bytearray(room)
        waiting = 0
        for number, array in enumerate(inputs):
            slot, view = number % SLOTS, memoryview(array)
            if waiting == SLOTS:
                yield self._answer(private, kind, shape)
                waiting -= 1
            offset = slot * (view.nbytes + room)
            self.memory.grow(offset + view.nbytes + room)
            self.memory.map[offset : offset + view.nbytes] = view.cast("B")
            try:
                self.link.sendall(_header(slot, offset, view, room))
            except OSError as error:
                raise ServeError("the candidate stopped serving") from error
            waiting += 1
        for _ in range(waiting):
            yield self._answer(private, kind, shape)

    def _answer(self, private: bytearray, kind: str, shape: tuple[int, ...]) -> memoryview:
        header = _receive(self.link, HEADER.size)
        if not header:
            raise ServeError("the candidate stopped serving")
        slot, offset, size, _, code, dims, *found = HEADER.unpack(header)
        if slot == FAILED:
            raise ServeError("the function that the candidate serves raised an exception")
        got = (TYPES[code] if code < len(TYPES) else "?", tuple(found[:dims]))
        if got != (kind, shape) or size != len(private) or offset + size > self.memory.size:
            raise ServeError(f"the candidate answered with {got[0]}{got[1]}, expected {kind}{shape}")
        private[:] = memoryview(self.memory.map)[offset : offset + size]
        return memoryview(private).cast(TYPES[code], shape)


class _Memory:
    """The shared memory, mapped, and grown when a call needs more."""

    def __init__(self) -> None:
        self.fd = int(os.environ["NIGHTLAB_SHARED"])
        self.size = 0
        self.map: mmap.mmap

    def grow(self, size: int) -> None:
        if size > self.size:
            if os.fstat(self.fd).st_size < size:
                os.ftruncate(self.fd, size)
            self.map = mmap.mmap(self.fd, size)
            self.size = size


def _header(slot: int, offset: int, array: memoryview, room: int) -> bytes:
    if array.ndim > MAX_DIMS or array.format not in TYPES:
        raise ServeError(f"can't send an array of type {array.format!r} with {array.ndim} dimensions")
    shape = [*(array.shape or ()), *([0] * (MAX_DIMS - array.ndim))]
    return HEADER.pack(slot, offset, array.nbytes, room, TYPES.index(array.format), array.ndim, *shape)


def _receive(link: socket.socket, size: int) -> bytes:
    """``size`` bytes, or nothing when the other side has hung up."""
    got = b""
    while len(got) < size:
        try:
            part = link.recv(size - len(got))
        except OSError:
            return b""
        if not part:
            return b""
        got += part
    return got


def _tell(word: str) -> None:
    if control := os.environ.get("NIGHTLAB_CONTROL"):
        os.write(int(control), word.encode() + b"\n")
