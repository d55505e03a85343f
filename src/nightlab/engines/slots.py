"""Slots: equal parts of a machine, each for one trial at a time."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from nightlab.core.types import NightlabError
from nightlab.sandbox.process_tree import pin_to_cores

TOPOLOGY = Path("/sys/devices/system/cpu")
GPUS = ("nvidia-smi", "--query-gpu=index,uuid,pci.bus_id,name", "--format=csv,noheader")
DRIVER = Path("/proc/driver/nvidia/gpus")
LEAST_SPEED = 0.9  # share of a slot's speed alone, below which slots slow each other down
# Reads more memory than a cache holds, and computes; prints how many rounds it did within 0.3 s.
PROBE = """
import sys, time
whole, part = memoryview(bytearray(1 << 26)), 1 << 20
for line in sys.stdin:
    end, count = time.perf_counter() + 0.3, 0
    while time.perf_counter() < end:
        bytes(whole[count * part % len(whole) :][:part])
        sum(range(2_000))
        count += 1
    print(count, flush=True)
"""


@dataclass(frozen=True, slots=True)
class Slot:
    """The resources of one trial. Without cores or a GPU: everything that the machine has."""

    number: int = 0
    cores: tuple[int, ...] = ()
    gpu: str = ""
    """Its UUID."""
    gpu_node: str = ""
    """Its entry in ``/dev``."""

    def environment(self) -> dict[str, str]:
        """Environment variables that keep a program in its slot (in addition to CPU affinity)."""
        threads = {"OMP_NUM_THREADS": str(len(self.cores))} if self.cores else {}
        return threads | ({"CUDA_VISIBLE_DEVICES": self.gpu} if self.gpu else {})


WHOLE = Slot()


def allocate_slots(
    device: str, count: int | None = None, cpus: int | None = None, memory_mb: float = 0.0
) -> list[Slot]:
    """``count`` equal slots, or as many as there is room for: one for each GPU of a kind, or for every ``cpus`` cores.

    A single slot has the whole machine. Hardware threads of one core count as one core.
    Raises NightlabError when there is no room for ``count`` slots.
    """
    gpus, cores = _gpus() if device == "cuda" else [], _cores()
    if count is None:
        count = len(gpus) or (len(cores) // cpus if cpus and device == "cpu" else 1)
        if memory_mb:
            count = min(count, int(psutil.virtual_memory().total / 2**20 / memory_mb))
    if count <= 1:
        return [WHOLE]
    if gpus and count > len(gpus):
        raise NightlabError(
            f"{count} slots need {count} GPUs of one kind, and there are {len(gpus)}",
            "trials that share a GPU do not compare; ask for fewer, or use --slots auto",
        )
    each = cpus if cpus and device == "cpu" else len(cores) // count
    if not each or each * count > len(cores):
        raise NightlabError(
            f"{count} slots need {(each or 1) * count} cores, {each or 1} each; nightlab may use {len(cores)} here",
            "ask for fewer, or use --slots auto",
        )
    slots = []
    for number in range(count):
        uuid, node = gpus[number] if gpus else ("", "")
        slots.append(Slot(number, tuple(cores[number * each : (number + 1) * each]), uuid, node))
    return slots


def leaves_a_core(slot: Slot, device: str, clock: str, cpus: int | None) -> bool:
    """Whether one process may work beside a trial that trains on a CPU.

    The trial's clock is its own CPU time, which does not run while it waits, and by its contract it needs fewer cores
    (``cpus``) than there are.
    """
    return device == "cpu" and clock == "cpu" and not slot.cores and cpus is not None and cpus < len(_cores())


def describe_slots(slots: Sequence[Slot]) -> str:
    """The class of the slots as text: only trials in the same class compare. Empty for the whole machine."""
    if len(slots) == 1:
        return ""
    return f"{len(slots)} slots of {len(slots[0].cores)} {'cores' if len(slots[0].cores) > 1 else 'core'}"


def contention(slots: Sequence[Slot]) -> float:
    """The speed of a slot while all are busy, relative to its speed alone (1.0: no contention). Takes about 2 s."""
    probes = [
        subprocess.Popen([sys.executable, "-c", PROBE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in slots
    ]
    try:
        for probe, slot in zip(probes, slots, strict=True):
            pin_to_cores(probe.pid, slot.cores)

        def speed(of: Sequence[subprocess.Popen[str]]) -> float:
            for probe in of:
                assert probe.stdin
                probe.stdin.write("go\n")
                probe.stdin.flush()
            return statistics.mean(int(probe.stdout.readline()) for probe in of if probe.stdout)

        speed(probes)
        ratios = [speed(probes) / max(speed([probe]), 1) for probe in probes[:3]]
    finally:
        for probe in probes:
            probe.kill()
            probe.communicate()
    return statistics.median(ratios)


def gpu_failure(slot: Slot) -> str:
    """Why the slot's GPU (or the only GPU) has failed, as text; empty if it works, or nvidia-smi is missing."""
    which = [f"--id={slot.gpu}"] if slot.gpu else []
    try:
        done = subprocess.run(
            ["nvidia-smi", *which, "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=60,
        )
    except subprocess.TimeoutExpired:
        return f"the GPU {slot.gpu} does not respond".replace("  ", " ")
    except OSError:
        return ""
    said = (done.stdout.strip() or done.stderr.strip()).splitlines()
    return f"the GPU {slot.gpu} has failed: {said[0] if said else 'no answer'}" if done.returncode else ""


def _cores() -> list[int]:
    """Processors that nightlab may use, one per core."""
    if not hasattr(os, "sched_getaffinity"):
        return list(range(psutil.cpu_count(logical=False) or os.cpu_count() or 1))
    found: dict[str, int] = {}
    for cpu in sorted(os.sched_getaffinity(0)):
        siblings = TOPOLOGY / f"cpu{cpu}" / "topology" / "thread_siblings_list"
        name = str(cpu)
        with contextlib.suppress(OSError):
            name = siblings.read_text(encoding="utf-8")
        found.setdefault(name, cpu)
    return list(found.values())


def _gpus() -> list[tuple[str, str]]:
    """UUID and ``/dev`` entry of each usable GPU of the same model as the first."""
    try:
        out = subprocess.run(GPUS, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[field.strip() for field in line.split(",", 3)] for line in out.splitlines() if line.count(",") >= 3]
    if (wanted := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        names = wanted.split(",")
        rows = [row for name in names for row in rows if name and (name == row[0] or row[1].startswith(name))]
    return [(uuid, _node(bus)) for _, uuid, bus, name in rows if name == rows[0][3]]


def _node(bus: str) -> str:
    """A GPU's entry in ``/dev``; empty where the driver does not provide it."""
    # nvidia-smi prints eight digits of the PCI domain, the driver's folder has four.
    folder = DRIVER / bus.lower().removeprefix("0000")
    with contextlib.suppress(OSError):
        for line in (folder / "information").read_text(encoding="utf-8").splitlines():
            if line.startswith("Device Minor:"):
                return f"nvidia{line.split(':')[1].strip()}"
    return ""
