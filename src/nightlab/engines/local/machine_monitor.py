"""Monitors the machine during training: other programs, a hypervisor, lowered clocks, GPU throttling, sleep.

A measurement from a disturbed machine says more about the machine than about the candidate.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

SLOW = ("over budget", "timed out")  # outcomes that a busy machine may be the cause of
SHORTEST = 5.0  # seconds of training below which the machine is not judged
STOLEN = 0.05  # largest acceptable share of CPU time taken by a hypervisor
NEIGHBOURS = 0.5  # cores that other programs may use when no core is idle
JUMP = 2.0  # seconds by which the machine's clock may move against the time that passed
SPARE = 0.25  # cores that must be idle for the trial to count as unhindered
CROWDED = 0.75  # share of all cores that others may use when the budget is CPU time
HZ = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
# Bits of NVIDIA's clock-event reasons that are not part of normal operation (a power cap is).
SLOWDOWNS = {0x08: "hardware slowdown", 0x20: "heat", 0x40: "heat, in hardware", 0x80: "power brake"}
GPU_FIELDS = "clocks.sm,temperature.gpu,clocks_throttle_reasons.active"


class MachineMonitor:
    """Observes the machine from the start of training to its end. ``own``: the trial's CPU seconds so far.

    ``cores``: the cores that the trial is pinned to, if any; then only these are observed.
    """

    def __init__(self, gpu: bool, cores: Sequence[int] = ()) -> None:
        self.gpu, self.cores = gpu, cores
        self.begun: tuple[float, float, float, float] | None = None
        self._ahead = 0.0
        self.facts: dict[str, float | str] = {}

    def start(self, own: float) -> None:
        self.begun = (time.monotonic(), own, *_processor_seconds(self.cores))
        self._ahead = _clock_ahead()

    def stop(self, own: float) -> None:
        if self.begun is None or self.facts:
            return
        at, own_then, busy_then, stolen_then = self.begun
        seconds = max(time.monotonic() - at, 1e-3)
        busy, stolen = _processor_seconds(self.cores)
        mine = max(own - own_then, 0.0) / seconds
        self.facts = {
            "seconds": round(seconds, 1),
            "own_cores": round(mine, 2),
            "other_cores": round(max((busy - busy_then) / seconds - mine, 0.0), 2),
            "stolen": round((stolen - stolen_then) / seconds / (len(self.cores) or os.cpu_count() or 1), 3),
            "load": round(os.getloadavg()[0], 2),
        }
        if abs(jump := _clock_ahead() - self._ahead) > JUMP:
            self.facts["clock_jump"] = round(jump, 1)
        if self.cores:
            self.facts["cores"] = len(self.cores)
        with contextlib.suppress(OSError, AttributeError, NotImplementedError, RuntimeError):
            if frequency := psutil.cpu_freq():
                self.facts["clock_mhz"] = round(frequency.current)
        if self.gpu:
            self.facts |= _gpu()


def too_short(facts: Mapping[str, float | str]) -> bool:
    """Whether training was too short to judge the machine."""
    return float(facts.get("seconds", 0.0)) < SHORTEST


def slow_machine(facts: dict[str, float | str]) -> str:
    """Why a trial that came over its budget, or took too long, may have been slow without a fault; empty if it
    was undisturbed.

    However short it was, on either clock, and whatever kept its cores busy: CPU time grows too where caches are shared.
    """
    return disturbance({**facts, "seconds": SHORTEST}, "wall") if facts else ""


def disturbance(facts: dict[str, float | str], clock: str, *, shared: bool = False) -> str:
    """Why a trial's measurement should not count; empty if nothing speaks against it.

    ``shared``: other trials of this session ran at the same time, which is expected unless the trial has its own cores.
    """

    def number(name: str) -> float:
        value = facts.get(name, 0.0)
        return value if isinstance(value, (int, float)) else 0.0

    if slow := facts.get("gpu_slowed"):
        return f"the GPU was slowed ({slow})"
    if clock == "work":
        return ""
    if jump := number("clock_jump"):
        return f"the machine slept, or its clock was set: it moved by {jump:+g} s beside the time that passed"
    if too_short(facts):
        return ""
    cores, others = number("cores") or os.cpu_count() or 1, number("other_cores")
    if clock == "wall" and number("stolen") > STOLEN:
        return f"{number('stolen'):.0%} of the machine's time was taken by its host"
    if shared and not number("cores"):
        return ""
    if clock == "wall" and others > min(NEIGHBOURS, cores / 4) and number("own_cores") + others > cores - SPARE:
        return f"other programs used {others:.1f} of {cores:g} cores, and none was idle"
    if others > CROWDED * cores:
        return f"other programs used {others:.1f} of {cores:g} cores"
    return ""


def overuse(facts: Mapping[str, float | str]) -> str:
    """How far a trial used other slots' cores, as text: a program can leave the cores that it was pinned to."""
    used, cores, seconds = (facts.get(name, 0.0) for name in ("own_cores", "cores", "seconds"))
    assert not isinstance(used, str) and not isinstance(cores, str) and not isinstance(seconds, str)
    if not cores or seconds < SHORTEST or used <= cores * 1.1 + 0.1:
        return ""
    return f"it used {used:.1f} cores, its slot has {cores:g}"


def _processor_seconds(cores: Sequence[int] = ()) -> tuple[float, float]:
    """CPU seconds since boot that these processors (default: all) were busy, and that a hypervisor took from them."""
    try:
        lines = [
            line.split()
            for line in Path("/proc/stat").read_text(encoding="utf-8").splitlines()
            if line.startswith("cpu")
        ]
        wanted = {f"cpu{core}" for core in cores} or {"cpu"}
        rows = [[int(field) / HZ for field in line[1:9]] for line in lines if line[0] in wanted]
        user, nice, system, _, _, irq, softirq, stolen = (sum(column) for column in zip(*rows, strict=True))
    except (OSError, ValueError):
        with contextlib.suppress(OSError, RuntimeError):
            times = psutil.cpu_times()
            return times.user + times.system, 0.0
        return 0.0, 0.0
    return user + nice + system + irq + softirq, stolen


def _clock_ahead() -> float:
    """The machine's clock less the one that stands still while it sleeps, and that nothing sets."""
    return time.time() - time.monotonic()


def _gpu() -> dict[str, float | str]:
    """Clock, temperature and slowdown of the first GPU in use; empty where nvidia-smi does not report them."""
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    query = ["nvidia-smi", f"--id={wanted}", f"--query-gpu={GPU_FIELDS}", "--format=csv,noheader,nounits"]
    try:
        out = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
        clock, heat, reasons = (field.strip() for field in out.splitlines()[0].split(","))
        slowed = [words for bit, words in SLOWDOWNS.items() if int(reasons, 16) & bit]
        facts: dict[str, float | str] = {"gpu_mhz": float(clock), "gpu_celsius": float(heat)}
        return {**facts, "gpu_slowed": ", ".join(slowed)} if slowed else facts
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return {}
