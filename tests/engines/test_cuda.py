"""Arrays that stay on the device, with a driver of our own in the place of NVIDIA's: see cuda_stand_in.c.

What this can't show is that the real driver does what its header says.
"""

from __future__ import annotations

import ctypes
import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.bench import GUEST, LEAST, SERVED, Bench

from nightlab.engines.local.layout import GUEST as GUEST_FOLDER
from nightlab.sandbox.bubblewrap import NoSandbox
from nightlab.session.session import detect_sandbox

EVALUATOR = """\
import array, ctypes, os, sys, time
import nightlab_guest
def values(answer):
    there = answer.__cuda_array_interface__
    assert (there["typestr"], there["shape"]) == ("<f4", (2, 3, 2)), there
    return list((ctypes.c_float * 12).from_address(there["data"][0]))
def batches():
    for n in range(5):
        yield memoryview(array.array("i", range(n, n + 6))).cast("B").cast("i", (2, 3))
def evaluate():
    total = 0.0
    for answer in nightlab_guest.Served(device=True).map(batches(), "f", (2, 3, 2)):
        once = values(answer)
        {while_it_scores}
        assert values(answer) == once, "the private copy changed"
        total += sum(v * (n % 2 + 1) for n, v in enumerate(once))
    return total
opened = len(os.listdir("/proc/self/fd"))
try:
    print(f"METRIC loss={{evaluate()}}")
except nightlab_guest.ServeError as error:
    print(error)
    sys.exit(4)
print(f"METRIC more_files={{len(os.listdir('/proc/self/fd')) - opened}}")
"""

# The candidate has its answers in device memory of its own, as its framework would.
CANDIDATE = (
    GUEST
    + """\
import array, ctypes, nightlab_cuda, os, threading
trial.start()
class Answer:
    def __init__(self, values, kind="<f4", shape=(2, 3, 2), strides=None):
        size = len(values) * values.itemsize
        self.memory = nightlab_cuda._Block(size, None)
        ctypes.memmove(self.memory.address, values.tobytes(), size)
        self.__cuda_array_interface__ = {{
            "version": 2, "typestr": kind, "shape": shape, "strides": strides, "data": (self.memory.address, False)}}
def function(tokens):
    there = tokens.__cuda_array_interface__
    assert (there["typestr"], there["shape"]) == ("<i4", (2, 3)), there
    address = there["data"][0]
    values = array.array("f", [v for x in (ctypes.c_int * 6).from_address(address) for v in (x, 2 * x)])
    {body}
    return Answer(values)
trial.serve(function)
"""
)
RIGHT = 5 * sum(sum(range(n, n + 6)) for n in range(5))


@pytest.fixture(params=[pytest.param("bare", marks=pytest.mark.machine), "sandbox"])
def bench(
    make_lab: Any, cuda_stand_in: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Bench]:
    sandbox = NoSandbox() if request.param == "bare" else detect_sandbox()
    if request.param == "sandbox" and sandbox.name == "none":
        pytest.skip(sandbox.why)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(cuda_stand_in))

    def make(genome: str, evaluate: str, device: str = "cuda", more: str = "") -> Bench:
        contract = more + LEAST + SERVED + f'[data]\nopen = ["{cuda_stand_in}"]\n'
        return Bench(make_lab(genome=genome, files={"evaluate.py": evaluate}), contract, sandbox, device)

    return make


def run(bench: Any, body: str = "pass", while_it_scores: str = "pass", **more: Any) -> Any:
    return bench(CANDIDATE.format(body=body), EVALUATOR.format(while_it_scores=while_it_scores), **more).run()


def test_arrays_go_round_on_the_device(bench: Any) -> None:
    measured = run(bench)
    assert (measured.outcome, measured.metric, measured.detail) == ("measured", RIGHT, "")


def test_it_may_answer_from_the_host(bench: Any) -> None:
    body = "return memoryview(values).cast('B').cast('f', (2, 3, 2))"
    assert run(bench, body).metric == RIGHT


def test_growing_arrays_go_round(bench: Any) -> None:
    genome = CANDIDATE.split("def function")[0].format() + (
        "def function(a):\n"
        "    there = a.__cuda_array_interface__\n"
        "    sent = ctypes.string_at(there['data'][0], there['shape'][0])\n"
        "    return Answer(array.array('B', sent[::-1]), '|u1', there['shape'])\n"
        "trial.serve(function)\n"
    )
    evaluate = """\
import ctypes, os, nightlab_guest
link = nightlab_guest.Served(device=True)
good = 0
for size in (1, 1000, 3_000_000, 10, 9_000_000):
    inputs = [os.urandom(size) for _ in range(3)]
    for sent, back in zip(inputs, link.map(inputs, "B", (size,)), strict=True):
        good += ctypes.string_at(back.__cuda_array_interface__["data"][0], size) == sent[::-1]
print(f"METRIC loss={good}")
"""
    measured = bench(genome, evaluate).run()
    assert measured.metric == 15, measured.detail


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return Answer(values, shape=(3, 2, 2))", "answered with f(3, 2, 2), expected f(2, 3, 2)"),
        ("return Answer(values, '<i4')", "answered with i(2, 3, 2), expected f(2, 3, 2)"),
        ("return Answer(values, '<f8', (2, 3, 1))", "answered with d(2, 3, 1), expected f(2, 3, 2)"),
        ("return Answer(values * 9, shape=(18, 3, 2))", "returned 432 bytes, room was 48"),
        ("return Answer(values, '<V2')", "can't send an array of type <V2"),
        ("return Answer(values, strides=(4, 8, 24))", "strides (4, 8, 24)"),
        ("a = Answer(values); a.memory.free(); return a", "cuMemcpyDtoD_v2: CUDA_ERROR_INVALID_VALUE"),
        ("return 'neither'", "TypeError"),
        ("raise ValueError('boom')", "ValueError: boom"),
        ("os._exit(5)", "exit status 5 while serving"),
        ("os.kill(os.getpid(), 9)", "SIGKILL"),
    ],
)
def test_a_function_that_misbehaves(bench: Any, body: str, says: str) -> None:
    measured = run(bench, body)
    assert (measured.outcome, measured.metric) == ("crashed", None)
    assert says in measured.detail, measured.detail


def test_answers_that_change_after_they_were_sent(bench: Any) -> None:
    """Whatever the copy caught is the answer: it may be wrong, but it stays what it is."""
    body = """def scribble(n=0):
        while n := n + 1:
            ctypes.memset(address + 24, n % 100, 48)
    threading.Thread(target=scribble, daemon=True).start()"""
    measured = run(bench, body, "time.sleep(0.05)")
    assert measured.outcome == "measured", measured.detail


RAW = """
import os, socket, time, nightlab_guest
H = nightlab_guest.HEADER
nightlab_guest._tell("start")
nightlab_guest._tell("serve")
link = socket.socket(fileno=int(os.environ["NIGHTLAB_LINK"]))
header, descriptors, _, _ = socket.recv_fds(link, H.size, 4)
assert len(descriptors) == 1
"""
GOOD = "0, 24, 48, 0, 9, 3, 2, 3, 2, 0"


@pytest.mark.parametrize("offset", ["512", "465", "1 << 62", "(1 << 64) - 1"])
def test_an_offset_beyond_the_memory(bench: Any, offset: str) -> None:
    forged = GOOD.replace("24", offset, 1)
    genome = RAW + f"link.sendall(H.pack({forged}))\ntime.sleep(9)\n"
    measured = bench(genome, EVALUATOR.format(while_it_scores="pass")).run()
    assert (measured.outcome, measured.metric) == ("crashed", None) and "answered with" in measured.detail


def test_a_candidate_that_sends_descriptors_and_maps_nothing(bench: Any) -> None:
    """Its own descriptors go nowhere, and what it never wrote is what it answered."""
    answer = f"socket.send_fds(link, [H.pack({GOOD})], [0, 1, descriptors[0]])"
    genome = RAW + f"{answer}\nfor _ in range(4):\n    link.recv(H.size)\n    {answer}\ntime.sleep(0.5)\n"
    measured = bench(genome, EVALUATOR.format(while_it_scores="pass")).run()
    assert (measured.outcome, measured.metric) == ("measured", 0.0), measured.detail
    # Two blocks of the stand-in's memory more, and the link less; nothing that came.
    assert measured.secondary == {"more_files": 1}


def test_no_memory_is_a_crash_that_says_so(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_BYTES", "1000")
    measured = run(bench, more='environment = ["STAND_IN_BYTES"]\n')
    assert (measured.outcome, measured.metric) == ("crashed", None)
    assert "cuMemCreate: CUDA_ERROR_OUT_OF_MEMORY" in measured.detail


def test_no_driver_is_a_crash_that_says_so(bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "libcuda.so.1").write_text("no library")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    measured = run(bench)
    assert measured.outcome == "crashed" and "no CUDA driver that can share memory: " in measured.detail


@pytest.mark.parametrize(("asked", "device"), [("Served()", "cuda"), ("Served(device=True)", "cpu")])
def test_on_the_host_unless_asked_for_and_on_cuda(bench: Any, asked: str, device: str) -> None:
    genome = GUEST + "trial.start()\ntrial.serve(lambda sent: bytes(sent[::-1]))\n"
    evaluate = f"""\
import nightlab_guest
answers = nightlab_guest.{asked}.map([b"abc", b"def"], "B", (3,))
print(f"METRIC loss={{[bytes(answer) for answer in answers] == [b'cba', b'fed']:d}}")
"""
    assert bench(genome, evaluate, device).run().metric == 1


# -- how much of the device's memory a trial takes -----------------------------------------------------

# Every process of the machine has 100 MB, and some more lines are as the real tool prints them now and then.
NVIDIA_SMI = """#!/bin/sh
echo "$@" >> "$(dirname "$0")/asked"
for process in /proc/[0-9]*; do echo "${process#/proc/}, 100"; done
echo "4194999, [N/A]"
echo "No running processes found"
"""


@pytest.mark.parametrize(("clock", "expected"), [("wall", 200.0), ("cpu", 0.0)])
def test_peak_memory_on_the_device(
    make_lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: str, expected: float
) -> None:
    (tmp_path / "nvidia-smi").write_text(NVIDIA_SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    asked = tmp_path / "asked"
    genome = f"""\
import pathlib, subprocess, time
asked, child = pathlib.Path({str(asked)!r}), subprocess.Popen(["sleep", "60"])
until = time.monotonic() + {40 if expected else 4}
while time.monotonic() < until and not (asked.exists() and len(asked.read_text().splitlines()) > 2):
    time.sleep(0.1)
time.sleep(1)
child.kill()
print("METRIC loss=1")
"""
    one = Bench(make_lab(genome=genome), LEAST, device="cuda", clock=clock)
    measured = one.run()
    assert (measured.metric, measured.peak_gpu_memory_mb) == (1, expected), measured
    assert measured.cpu_seconds < 3 and measured.peak_memory_mb < 100
    if expected:
        assert asked.read_text().startswith("--query-compute-apps=pid,used_memory --format=csv,noheader,nounits\n")
    else:
        assert not asked.exists()


def test_without_a_device_there_is_no_figure(make_lab: Any) -> None:
    one = Bench(make_lab(genome="import time\ntime.sleep(1)\nprint('METRIC loss=1')\n"), LEAST, device="cuda")
    measured = one.run()
    assert (measured.metric, measured.peak_gpu_memory_mb) == (1, 0.0)


def test_layouts_and_numbers_are_those_of_the_header(monkeypatch: pytest.MonkeyPatch) -> None:
    """Printed by a C program with sizeof and offsetof, from cuda.h of CUDA 12.9 and 13.5."""
    monkeypatch.syspath_prepend(str(GUEST_FOLDER))
    cuda = importlib.import_module("nightlab_cuda")
    place, properties, access = cuda.Location, cuda.Properties, cuda.Access
    assert (ctypes.sizeof(place), place.type.offset, place.id.offset) == (8, 0, 4)
    assert (ctypes.sizeof(access), access.location.offset, access.flags.offset) == (12, 0, 8)
    fields = (properties.type, properties.handles, properties.location, properties.windows, properties.compression)
    fields += (properties.usage, properties.reserved)
    assert (ctypes.sizeof(properties), *(field.offset for field in fields)) == (32, 0, 4, 8, 16, 24, 26, 28)
    assert (cuda.PINNED, cuda.ON_DEVICE, cuda.AS_DESCRIPTOR, cuda.READ_AND_WRITE, cuda.LEAST) == (1, 1, 1, 3, 0)
