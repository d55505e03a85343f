"""Memory of a CUDA device that is a file descriptor: where the link's arrays lie when they stay on the device.

The evaluator allocates it with the driver's virtual memory calls and sends its descriptor over the link; the
candidate imports that. The older way (cudaIpcGetMemHandle) wants both in namespaces that they share; a
descriptor passes through a sandbox. Both use the first device that they see, in the context that torch uses
too. Nothing here needs more than the standard library: constants and layouts are those of NVIDIA's cuda.h.
"""

from __future__ import annotations

import ctypes
import functools
import os
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_ubyte, c_uint, c_uint64, c_ushort, c_void_p
from typing import Any

from nightlab_guest import ServeError, _size

PINNED, ON_DEVICE, AS_DESCRIPTOR, READ_AND_WRITE, LEAST = 1, 1, 1, 3, 0
# Struct codes by the names that the CUDA array interface has for them.
KINDS = {"|i1": "b", "|u1": "B", "<i2": "h", "<u2": "H", "<i4": "i", "<u4": "I", "<i8": "q", "<u8": "Q"}
KINDS |= {"<f2": "e", "<f4": "f", "<f8": "d"}
NAMES = {kind: name for name, kind in KINDS.items()}


class Location(ctypes.Structure):
    """CUmemLocation."""

    _fields_ = (("type", c_int), ("id", c_int))


class Properties(ctypes.Structure):
    """CUmemAllocationProp."""

    _fields_ = (
        ("type", c_int),
        ("handles", c_int),
        ("location", Location),
        ("windows", c_void_p),
        ("compression", c_ubyte),
        ("rdma", c_ubyte),
        ("usage", c_ushort),
        ("reserved", c_ubyte * 4),
    )


class Access(ctypes.Structure):
    """CUmemAccessDesc."""

    _fields_ = (("location", Location), ("flags", c_int))


CALLS: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDevicePrimaryCtxRetain": (POINTER(c_void_p), c_int),
    "cuCtxSetCurrent": (c_void_p,),
    "cuCtxSynchronize": (),
    "cuMemGetAllocationGranularity": (POINTER(c_size_t), POINTER(Properties), c_int),
    "cuMemCreate": (POINTER(c_uint64), c_size_t, POINTER(Properties), c_uint64),
    "cuMemExportToShareableHandle": (POINTER(c_int), c_uint64, c_int, c_uint64),
    "cuMemImportFromShareableHandle": (POINTER(c_uint64), c_void_p, c_int),
    "cuMemRelease": (c_uint64,),
    "cuMemAddressReserve": (POINTER(c_uint64), c_size_t, c_size_t, c_uint64, c_uint64),
    "cuMemAddressFree": (c_uint64, c_size_t),
    "cuMemMap": (c_uint64, c_size_t, c_size_t, c_uint64, c_uint64),
    "cuMemUnmap": (c_uint64, c_size_t),
    "cuMemSetAccess": (c_uint64, c_size_t, POINTER(Access), c_size_t),
    "cuMemcpyHtoD_v2": (c_uint64, c_char_p, c_size_t),
    "cuMemcpyDtoD_v2": (c_uint64, c_uint64, c_size_t),
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
}


class Array:
    """An array in device memory; ``torch.as_tensor(array, device="cuda")`` is a view of it.

    Nothing keeps the candidate from writing to its inputs, and torch takes no array that says it is read-only.
    """

    def __init__(self, address: int, kind: str, shape: tuple[int, ...]) -> None:
        self.address, self.kind, self.shape = address, kind, shape

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"version": 3, "typestr": NAMES[self.kind], "shape": self.shape, "data": (self.address, False)}


class Memory:
    """The shared memory, and the evaluator's private copy of the last answer."""

    def __init__(self) -> None:
        self.size = 0
        self.shared: _Block | None = None
        self.private: _Block | None = None

    def grow(self, size: int) -> list[int]:
        """Make room, in new memory: what was there is gone. Returns the descriptor that the other side needs."""
        if size <= self.size:
            return []
        self.shared, self.size = _renew(self.shared, size), size
        descriptor = c_int()
        _call("cuMemExportToShareableHandle", byref(descriptor), self.shared.handle, AS_DESCRIPTOR, 0)
        return [descriptor.value]

    def adopt(self, descriptor: int, size: int) -> None:
        """Take the memory that a descriptor from the other side stands for, and close it."""
        try:
            self.shared, self.size = _renew(self.shared, size, descriptor), size
        finally:
            os.close(descriptor)

    def view(self, offset: int, kind: str, shape: tuple[int, ...]) -> Array:
        return Array(self._at(offset), kind, shape)

    def put(self, offset: int, room: int, array: Any) -> tuple[str, tuple[int, ...]]:
        """Copy an array in, from the device or from the host. Returns its type and shape."""
        there = getattr(array, "__cuda_array_interface__", None)
        if there is None:
            here = memoryview(array)
            kind, shape, size = here.format, here.shape or (), here.nbytes
        else:
            kind, shape = KINDS.get(there["typestr"], ""), tuple(there["shape"])
            if not kind or there.get("strides") is not None:
                raise ServeError(f"can't send an array of type {there['typestr']} and strides {there.get('strides')}")
            size = _size(kind, shape)
        if size > room:
            raise ServeError(f"the served function returned {size} bytes, room was {room}")
        _call("cuCtxSynchronize")  # whatever computes the array, on any stream
        if there is None:
            _call("cuMemcpyHtoD_v2", self._at(offset), here.tobytes(), size)
        else:
            _call("cuMemcpyDtoD_v2", self._at(offset), there["data"][0], size)
        _call("cuCtxSynchronize")  # a copy may return before it is done, and the other process can't know
        return kind, shape

    def copy(self, offset: int, kind: str, shape: tuple[int, ...]) -> Array:
        """A copy that the other side can't reach; the next one takes its place."""
        size = _size(kind, shape)
        if self.private is None or self.private.size < size:
            self.private = _renew(self.private, size)
        _call("cuCtxSynchronize")  # whatever still reads the last one
        _call("cuMemcpyDtoD_v2", self.private.address, self._at(offset), size)
        _call("cuCtxSynchronize")
        return Array(self.private.address, kind, shape)

    def _at(self, offset: int) -> int:
        assert self.shared is not None
        return self.shared.address + offset


class _Block:
    """Device memory that this process has mapped: its own, or what a descriptor stands for."""

    def __init__(self, size: int, descriptor: int | None) -> None:
        place = Location(ON_DEVICE, _device())
        properties = Properties(type=PINNED, handles=AS_DESCRIPTOR, location=place)
        step, handle, address = c_size_t(), c_uint64(), c_uint64()
        _call("cuMemGetAllocationGranularity", byref(step), byref(properties), LEAST)
        self.size = -(-size // step.value) * step.value  # both sides round alike
        if descriptor is None:
            _call("cuMemCreate", byref(handle), self.size, byref(properties), 0)
        else:
            _call("cuMemImportFromShareableHandle", byref(handle), descriptor, AS_DESCRIPTOR)
        _call("cuMemAddressReserve", byref(address), self.size, 0, 0, 0)
        _call("cuMemMap", address.value, self.size, 0, handle.value, 0)
        _call("cuMemSetAccess", address.value, self.size, byref(Access(place, READ_AND_WRITE)), 1)
        self.handle, self.address = handle.value, address.value

    def free(self) -> None:
        _call("cuCtxSynchronize")
        _call("cuMemUnmap", self.address, self.size)
        _call("cuMemAddressFree", self.address, self.size)
        _call("cuMemRelease", self.handle)


def _renew(old: _Block | None, size: int, descriptor: int | None = None) -> _Block:
    """Memory in the place of some that is freed first: there may not be room for both."""
    if old is not None:
        old.free()
    return _Block(size, descriptor)


@functools.cache
def _device() -> int:
    """The first device, in whose primary context this thread then is: the one that frameworks use."""
    device, context = c_int(), c_void_p()
    _call("cuInit", 0)
    _call("cuDeviceGet", byref(device), 0)
    _call("cuDevicePrimaryCtxRetain", byref(context), device.value)
    _call("cuCtxSetCurrent", context)
    return device.value


@functools.cache
def _driver() -> ctypes.CDLL:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        for name, types in CALLS.items():
            getattr(driver, name).argtypes = types
    except (OSError, AttributeError) as error:
        raise ServeError(f"no CUDA driver that can share memory: {error}") from error
    return driver


def _call(name: str, *arguments: Any) -> None:
    """Call the driver. Raises ServeError with the call's name and the error's."""
    if status := getattr(_driver(), name)(*arguments):
        word = c_char_p()
        _driver().cuGetErrorName(status, byref(word))
        raise ServeError(f"{name}: {(word.value or str(status).encode()).decode()}")
