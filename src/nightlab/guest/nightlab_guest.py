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
``NIGHTLAB_WARM_START``  a file to read: the champion's answer; absent where a trial starts from nothing
``NIGHTLAB_BEGIN``, ``NIGHTLAB_END``  of a member of a population: the part of the budget that it does, 0 to 1

What was trained is handed over as plain arrays, and the program that handed it over ends there. Clean
processes of the same genome load it and answer the evaluator's calls::

    def load(arrays):               # in an answering process: arrays by name, as they were handed over
        return lambda inputs: ...   # inputs to an answer

    nightlab_guest.answer(load)     # in an answering process this never returns; elsewhere it does nothing
    trial.start()                   # training begins
    trial.hand_over(arrays)         # training is over, and this process ends

Arrays of a call travel through shared memory as plain bytes, described by a fixed-size header on a socket: no
pickle, every size and type checked by the side that reads. Two slots let the candidate compute one batch
while the evaluator scores the one before.

The memory is a file descriptor: of a file in host memory that both are born with or, where the evaluator
asks for it on CUDA, of device memory. It sends that along with the header of the first call that needs it,
so the candidate's side has no choice to make.
"""

from __future__ import annotations

import contextlib
import json
import math
import mmap
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

Buffer = Any  # anything with the buffer protocol: collections.abc.Buffer, which needs Python 3.12
Code = Any  # a struct code: memoryview wants to know beforehand which

SLOTS = 2
MAX_DIMS = 4
TYPES: tuple[Any, ...] = ("b", "B", "h", "H", "i", "I", "q", "Q", "e", "f", "d")  # struct codes, by index in a header
HANDED = (*TYPES, "l", "L", "?")  # of arrays that are handed over: numpy's integers and truth values too
# slot, offset of the array, its size in bytes, room for the answer, type, dimensions, shape
HEADER = struct.Struct(f"<IQQQII{MAX_DIMS}Q")
FAILED = 0xFFFFFFFF
ALIGNED = 256  # where a slot, or an array that is handed over, may begin: as strict as any device is
ANSWERED, MARK = struct.Struct("<BBI"), 255  # to the supervisor: a process has given that many more answers
LENGTH = struct.Struct("<Q")  # of the list of arrays at the start of what is handed over
CLEAN = """This lab scores clean processes, not the one that trained. In place of trial.serve(function):

    nightlab_guest.answer(load)    # at the start: load(arrays) gives the function
    trial.start()                  # as before
    trial.hand_over(arrays)        # at the end: {"name": array, ...} is all that load needs
"""


class ServeError(RuntimeError):
    """The other side of the link is gone, or answered with something that was not agreed."""


class Trial(NamedTuple):
    """The trial that this process is the candidate of.

    ``budget`` is that of the whole training, of which this trial does the part from ``begin`` to ``end``: all of it,
    unless it is a member of a population, which goes on from a ``checkpoint``. ``warm_start``: the path of the file
    that the champion left, where the contract says so; empty where the trial starts from nothing.
    """

    seed: int
    clock: str
    budget: float
    device: str
    begin: float = 0.0
    end: float = 1.0
    warm_start: str = ""

    def start(self) -> None:
        """Tell the supervisor that training begins: the budget runs from now.

        A program that began while another trial trains is held here until that has ended.
        """
        _tell("start")
        if held := os.environ.get("NIGHTLAB_HELD"):
            with contextlib.suppress(OSError):  # closed, as by a daemon
                os.read(int(held), 1)  # nothing is sent: the other end is closed once the trial's time has come

    def report(self, progress: float, loss: float) -> None:
        """Say how training goes: the loss (lower is better) at a part of the budget, 0 to 1.

        A claim: it is drawn, and may end this very trial early where the lab allows that. It never counts for one.
        """
        _tell(f"report {progress:.6g} {loss:.6g}")

    def checkpoint(self) -> dict[str, Any]:
        """What training goes on from at ``begin``: the arrays that ``save`` was given there, by name, read-only.

        Memoryviews with type and shape; none where training begins from nothing.
        """
        if "NIGHTLAB_CHECKPOINT" not in os.environ:
            return {}
        return _read_arrays(mmap.mmap(int(os.environ["NIGHTLAB_CHECKPOINT"]), 0, access=mmap.ACCESS_READ))

    def save(self, arrays: Mapping[str, Buffer]) -> None:
        """Hand over all that training needs to go on from ``end``, before it is over: arrays as in ``hand_over``.

        The weights, an optimiser's averages, the place in the data. Where nothing will go on, this does nothing.
        Raises ServeError when an array can't be handed over.
        """
        if "NIGHTLAB_SAVED" not in os.environ:
            return
        with os.fdopen(os.dup(int(os.environ["NIGHTLAB_SAVED"])), "wb") as file:
            file.seek(0)
            file.truncate()
            _write_arrays(file, arrays)

    def hand_over(self, arrays: Mapping[str, Buffer]) -> NoReturn:
        """End training with what was learned: C-contiguous arrays by name. This process ends here.

        Any buffer with a struct code as its type will do (numpy's arrays do, of at most four dimensions).
        Whatever should still be printed is printed before.

        Raises ServeError when an array can't be handed over, or the lab has no clean processes to answer.
        """
        if "NIGHTLAB_HANDED" not in os.environ:
            raise ServeError("this lab's contract names no evaluator.processes: use trial.serve(function)")
        with os.fdopen(int(os.environ["NIGHTLAB_HANDED"]), "wb") as file:
            _write_arrays(file, arrays)
        sys.stdout.flush()
        sys.stderr.flush()
        _tell("serve")
        os._exit(0)

    def link(self) -> socket.socket:
        """End training, and return the socket to the evaluator, for a lab with another protocol than ``serve``.

        Raises ServeError where clean processes answer.
        """
        if "NIGHTLAB_HANDED" in os.environ:
            raise ServeError(CLEAN)
        _tell("serve")
        return socket.socket(fileno=int(os.environ["NIGHTLAB_LINK"]))

    def serve(self, function: Callable[[Any], Buffer]) -> None:
        """Answer the evaluator's calls from this very process until it hangs up.

        For labs without ``evaluator.processes``: their metric rests on the model's honesty about its memory.
        ``function``: see ``answer``. Training time ends when this is called.

        Raises ServeError if the answer is larger than what the evaluator made room for, or where clean
        processes answer.
        """
        _answer_calls(function, self.link())


def answer(load: Callable[[dict[str, Any]], Callable[[Any], Buffer]]) -> None:
    """In an answering process: load what was handed over and answer, never to return. Elsewhere: do nothing.

    ``load`` gets the arrays by name, read-only memoryviews with type and shape, and returns the function to
    call. That gets a read-only memoryview with type and shape (for a language model: int32 tokens, shape
    (batch, time)) and returns any C-contiguous buffer (float32 logits, shape (batch, time, vocabulary)). It
    may be a view that the next call overwrites, but an answer must not depend on the calls before it. Where
    the evaluator wants the arrays to stay on the CUDA device, it gets an object with
    ``__cuda_array_interface__`` instead, and may return one.
    """
    if os.environ.get("NIGHTLAB_ROLE") != "answer":
        return
    handed = mmap.mmap(int(os.environ["NIGHTLAB_HANDED"]), 0, access=mmap.ACCESS_READ)
    _answer_calls(load(_read_arrays(handed)), socket.socket(fileno=int(os.environ["NIGHTLAB_LINK"])))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _answer_calls(function: Callable[[Any], Buffer], link: socket.socket) -> None:
    """Answer until the evaluator hangs up."""
    memory: Any = _Memory(int(os.environ["NIGHTLAB_SHARED"]))
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
    """The trial this process runs in, or None when it was started by hand.

    Raises ServeError in a process that should answer: ``answer`` comes first in a program.
    """
    if os.environ.get("NIGHTLAB_ROLE") == "answer":
        raise ServeError("a process that should answer got as far as training: call answer(load) before trial()")
    if os.environ.get("NIGHTLAB_ROLE") != "candidate":
        return None
    env = os.environ
    return Trial(
        seed=int(env["NIGHTLAB_SEED"]),
        clock=env["NIGHTLAB_CLOCK"],
        budget=float(env["NIGHTLAB_BUDGET"]),
        device=env["NIGHTLAB_DEVICE"],
        begin=float(env.get("NIGHTLAB_BEGIN", 0)),
        end=float(env.get("NIGHTLAB_END", 1)),
        warm_start=env.get("NIGHTLAB_WARM_START", ""),
    )


def evaluator_link(process: int = 0) -> socket.socket:
    """The evaluator's end of the socket to a process; nothing may be sent before ``wait_for_turn``."""
    return socket.socket(fileno=int(os.environ["NIGHTLAB_LINK"].split(",")[process]))


def wait_for_turn(turn: str, process: int = 0) -> None:
    """Wait until a process may be called; ``turn`` is the variable NIGHTLAB_TURN. Raises ServeError if it never may.

    No input may be seen while the candidate still trains, or another process answers: the supervisor says when none
    does.
    """
    os.write(int(turn), bytes([process]))
    if not os.read(int(turn), 1):
        raise ServeError("the model was never handed over")


class Served:
    """The evaluator's end of a link: calls the function that the candidate serves.

    ``process``: which of the answering processes, from 0 on. They run one after another: the first call of
    one ends those before it, so nothing of an earlier one can reach it.

    ``device``: on CUDA, arrays travel in the device's memory. The candidate's function gets, and ``map``
    yields, objects with ``__cuda_array_interface__`` then, which frameworks view without a copy. On other
    devices it changes nothing.
    """

    def __init__(self, device: bool = False, process: int = 0) -> None:
        shared = os.environ["NIGHTLAB_SHARED"].split(",")
        if process >= len(shared):
            raise ServeError(f"the contract has {len(shared)} answering processes: raise evaluator.processes")
        self.process = process
        self.link = evaluator_link(process)
        on_device = device and os.environ["NIGHTLAB_DEVICE"] == "cuda"
        self.memory = _device_memory() if on_device else _Memory(int(shared[process]))
        self.turn = os.environ.get("NIGHTLAB_TURN")
        self.told = int(self.turn) if self.turn else None  # where the supervisor is told of answers
        self.answered = self.untold = 0

    def map(self, inputs: Iterable[Buffer], kind: str, shape: tuple[int, ...]) -> Iterator[Any]:
        """Yield the candidate's answer for each input, in order, computing one ahead.

        ``inputs``: C-contiguous arrays of at most four dimensions, all of one size. ``kind`` and
        ``shape``: struct code and shape that every answer must have ("f", (batch, time, vocabulary)).
        An answer is a memoryview, copied out before it is checked, so the candidate can't change it
        afterwards; it is valid until the next one.

        Raises ServeError when the candidate is gone, failed, or answers with another type or shape.
        """
        if self.turn:
            wait_for_turn(self.turn, self.process)
            self.turn = None
        try:
            yield from self._map(inputs, kind, shape)
        finally:
            self._tell_answers()

    def _map(self, inputs: Iterable[Buffer], kind: str, shape: tuple[int, ...]) -> Iterator[Any]:
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

    def close(self) -> None:
        """Hang up: no further call is made, and the answering process ends."""
        self.link.close()

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
        self.answered += 1
        self.untold += 1
        if self.answered == 1:
            self._tell_answers()  # loading is over
        return self.memory.copy(offset, kind, shape)

    def _tell_answers(self) -> None:
        """Tell the supervisor how many more answers there were: at the first, and after each ``map``."""
        if self.told is not None and self.untold:
            os.write(self.told, ANSWERED.pack(MARK, self.process, self.untold))
            self.untold = 0


class _Memory:
    """The shared memory on the host: a file, mapped, and grown when a call needs more."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
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


def _write_arrays(file: Any, arrays: Mapping[str, Buffer]) -> None:
    """The length of a JSON list of (name, type, shape), that list, and the arrays' bytes, each aligned."""
    views = {name: memoryview(array) for name, array in arrays.items()}
    for name, view in views.items():
        if view.format not in HANDED or view.ndim > MAX_DIMS or not view.c_contiguous:
            raise ServeError(
                f"can't hand over the array {name!r} of type {view.format!r} and {view.ndim} dimensions: it must be "
                f"contiguous, of at most {MAX_DIMS} dimensions and a plain type ({', '.join(HANDED)})"
            )
    listed = json.dumps([(name, view.format, view.shape) for name, view in views.items()]).encode()
    file.write(LENGTH.pack(len(listed)) + listed)
    for view in views.values():
        file.write(bytes(-file.tell() % ALIGNED))
        file.write(view.cast("B") if view.nbytes else b"")


def _read_arrays(memory: mmap.mmap) -> dict[str, Buffer]:
    """The arrays that were handed over, as read-only views by name."""
    (length,) = LENGTH.unpack_from(memory)
    at, arrays, whole = LENGTH.size + length, {}, memoryview(memory)
    for name, kind, shape in json.loads(memory[LENGTH.size : at]):
        at += -at % ALIGNED
        size = _size(kind, tuple(shape))
        arrays[name] = whole[at : at + size].cast(kind, tuple(shape)) if size else memoryview(b"").cast(kind)
        at += size
    return arrays


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
