"""What a candidate's process, and its evaluator, may say to each other and to the supervisor.

This file, with ``nightlab_cuda.py`` beside it, is the only part of nightlab that runs beside candidate
code. It needs nothing but the standard library, is found through ``PYTHONPATH`` inside a trial, and is
absent outside one, so a lab asks for it like this and works by hand too::

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

The memory is a file descriptor: of a file in host memory that both are born with or, where the evaluator
asks for it on CUDA, of device memory. It sends that along with the header of the first call that needs it,
so the candidate's side has no choice to make.
"""

from __future__ import annotations

import math
import mmap
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

Buffer = Any  # anything with the buffer protocol: collections.abc.Buffer, which needs Python 3.12
Code = Any  # a struct code: memoryview wants to know beforehand which

SLOTS = 2
MAX_DIMS = 4
TYPES: tuple[Any, ...] = ("b", "B", "h", "H", "i", "I", "q", "Q", "e", "f", "d")  # struct codes, by index in a header
# slot, offset of the array, its size in bytes, room for the answer, type, dimensions, shape
HEADER = struct.Struct(f"<IQQQII{MAX_DIMS}Q")
FAILED = 0xFFFFFFFF
ALIGNED = 256  # where a slot may begin: as strict as any device is


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

    def report(self, progress: float, loss: float) -> None:
        """Say how training goes: the loss (lower is better) at a part of the budget, 0 to 1.

        A claim: it is drawn, and may end this very trial early where the lab allows that. It never counts for one.
        """
        _tell(f"report {progress:.6g} {loss:.6g}")

    def hand_over(self) -> socket.socket:
        """End training, and return the socket to the evaluator, for a lab with another protocol than ``serve``."""
        _tell("serve")
        return socket.socket(fileno=int(os.environ["NIGHTLAB_LINK"]))

    def serve(self, function: Callable[[Any], Buffer]) -> None:
        """Hand the model over and answer the evaluator's calls until it hangs up.

        ``function`` gets a read-only memoryview with type and shape (for a language model: int32
        tokens, shape (batch, time)) and returns any C-contiguous buffer (float32 logits, shape
        (batch, time, vocabulary)). It may be a view that the next call overwrites. Where the evaluator
        wants the arrays to stay on the CUDA device, it gets an object with ``__cuda_array_interface__``
        instead, and may return one. Training time ends when this is called.

        Raises ServeError if the answer is larger than what the evaluator made room for.
        """
        link = self.hand_over()
        memory: Any = _Memory()
        descriptors: list[int] = []
        while header := _receive(link, HEADER.size, descriptors):
            slot, offset, size, room, kind, dims, *shape = HEADER.unpack(header)
            try:
                if descriptors:
                    if isinstance(memory, _Memory):
                        memory = _device_memory()
                    memory.adopt(descriptors.pop(), _both_slots(size, room))
                memory.grow(_both_slots(size, room))
                answer = function(memory.view(offset, TYPES[kind], tuple(shape[:dims])))
                answered = _header(slot, offset + size, 0, *memory.put(offset + size, room, answer))
            except BaseException:
                link.sendall(HEADER.pack(FAILED, 0, 0, 0, 0, 0, *([0] * MAX_DIMS)))
                raise
            try:
                link.sendall(answered)
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


def evaluator_link() -> socket.socket:
    """The evaluator's end of the socket to the candidate; nothing may be sent before ``wait_for_turn``."""
    return socket.socket(fileno=int(os.environ["NIGHTLAB_LINK"]))


def wait_for_turn(turn: str) -> None:
    """Wait until the candidate has handed over; ``turn`` is the variable NIGHTLAB_TURN. Raises ServeError otherwise.

    No input may be seen while the candidate still trains: the supervisor says when it no longer does.
    """
    if not os.read(int(turn), 1):
        raise ServeError("the model was never handed over")


class Served:
    """The evaluator's end of the link: calls the function that the candidate serves.

    ``device``: on CUDA, arrays travel in the device's memory. The candidate's function gets, and ``map``
    yields, objects with ``__cuda_array_interface__`` then, which frameworks view without a copy. On other
    devices it changes nothing.
    """

    def __init__(self, device: bool = False) -> None:
        self.link = evaluator_link()
        self.memory = _device_memory() if device and os.environ["NIGHTLAB_DEVICE"] == "cuda" else _Memory()
        self.turn = os.environ.get("NIGHTLAB_TURN")

    def map(self, inputs: Iterable[Buffer], kind: str, shape: tuple[int, ...]) -> Iterator[Any]:
        """Yield the candidate's answer for each input, in order, computing one ahead.

        ``inputs``: C-contiguous arrays of at most four dimensions, all of one size. ``kind`` and
        ``shape``: struct code and shape that every answer must have ("f", (batch, time, vocabulary)).
        An answer is a memoryview, copied out before it is checked, so the candidate can't change it
        afterwards; it is valid until the next one.

        Raises ServeError when the candidate is gone, failed, or answers with another type or shape.
        """
        if self.turn:
            wait_for_turn(self.turn)
            self.turn = None
        room = _size(kind, shape)
        waiting = 0
        for number, array in enumerate(inputs):
            slot, view = number % SLOTS, memoryview(array)
            if waiting == SLOTS:
                yield self._answer(kind, shape)
                waiting -= 1
            both = _both_slots(view.nbytes, room)
            offset = slot * both // SLOTS
            descriptors = self.memory.grow(both)  # at the first of them only: nothing is under way yet
            header = _header(slot, offset, room, *self.memory.put(offset, view.nbytes, view))
            try:
                sent = socket.send_fds(self.link, [header], descriptors) if descriptors else 0
                self.link.sendall(header[sent:])
            except OSError as error:
                raise ServeError("the candidate stopped serving") from error
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
            waiting += 1
        for _ in range(waiting):
            yield self._answer(kind, shape)

    def _answer(self, kind: str, shape: tuple[int, ...]) -> Any:
        header = _receive(self.link, HEADER.size)
        if not header:
            raise ServeError("the candidate stopped serving")
        slot, offset, size, _, code, dims, *found = HEADER.unpack(header)
        if slot == FAILED:
            raise ServeError("the function that the candidate serves raised an exception")
        got = (TYPES[code] if code < len(TYPES) else "?", tuple(found[:dims]))
        if got != (kind, shape) or size != _size(kind, shape) or offset + size > self.memory.size:
            raise ServeError(f"the candidate answered with {got[0]}{got[1]}, expected {kind}{shape}")
        return self.memory.copy(offset, kind, shape)


class _Memory:
    """The shared memory on the host: a file, mapped, and grown when a call needs more."""

    def __init__(self) -> None:
        self.fd = int(os.environ["NIGHTLAB_SHARED"])
        self.size = 0
        self.map: mmap.mmap
        self.private = bytearray()

    def grow(self, size: int) -> list[int]:
        """Make room. Returns descriptors that the other side has yet to be sent: none."""
        if size > self.size:
            if os.fstat(self.fd).st_size < size:
                os.ftruncate(self.fd, size)
            self.map = mmap.mmap(self.fd, size)
            self.size = size
        return []

    def view(self, offset: int, kind: Code, shape: tuple[int, ...]) -> Buffer:
        flat = memoryview(self.map)[offset : offset + _size(kind, shape)]
        return flat.toreadonly().cast(kind, shape)

    def put(self, offset: int, room: int, array: Buffer) -> tuple[str, tuple[int, ...]]:
        """Copy an array in. Returns its type and shape."""
        view = memoryview(array)
        if view.nbytes > room:
            raise ServeError(f"the served function returned {view.nbytes} bytes, room was {room}")
        self.map[offset : offset + view.nbytes] = view.cast("B")
        return view.format, view.shape or ()

    def copy(self, offset: int, kind: Code, shape: tuple[int, ...]) -> Buffer:
        """A copy that the other side can't reach; the next one takes its place."""
        size = _size(kind, shape)
        if len(self.private) != size:
            self.private = bytearray(size)
        self.private[:] = memoryview(self.map)[offset : offset + size]
        return memoryview(self.private).cast(kind, shape)


def _device_memory() -> Any:
    import nightlab_cuda  # only here: a host has no use for it

    return nightlab_cuda.Memory()


def _size(kind: str, shape: tuple[int, ...]) -> int:
    return struct.calcsize(kind) * math.prod(shape)


def _both_slots(size: int, room: int) -> int:
    """Bytes of all slots, each with room for an input and its answer, and an input where any device can read it."""
    return SLOTS * -(-(size + room) // ALIGNED) * ALIGNED


def _header(slot: int, offset: int, room: int, kind: str, shape: tuple[int, ...]) -> bytes:
    if len(shape) > MAX_DIMS or kind not in TYPES:
        raise ServeError(f"can't send an array of type {kind!r} with {len(shape)} dimensions")
    padded = [*shape, *([0] * (MAX_DIMS - len(shape)))]
    return HEADER.pack(slot, offset, _size(kind, shape), room, TYPES.index(kind), len(shape), *padded)


def _receive(link: socket.socket, size: int, descriptors: list[int] | None = None) -> bytes:
    """``size`` bytes, or nothing when the other side has hung up.

    Descriptors that come along are added to the list; without one the kernel drops them.
    """
    got = b""
    while len(got) < size:
        try:
            if descriptors is None:
                part = link.recv(size - len(got))
            else:
                part, came, _, _ = socket.recv_fds(link, size - len(got), 1)
                descriptors += came
        except OSError:
            return b""
        if not part:
            return b""
        got += part
    return got


def _tell(word: str) -> None:
    if control := os.environ.get("NIGHTLAB_CONTROL"):
        os.write(int(control), word.encode() + b"\n")
