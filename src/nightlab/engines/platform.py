"""Identifies the platform: the hardware and software within which measurements compare."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

from nightlab.core.types import Platform


def this_platform(device: str | None = None) -> Platform:
    """The platform of this machine; ``device`` (cuda, mps or cpu) overrides detection."""
    accelerator = _nvidia()
    found = "cuda" if accelerator else "mps" if _apple_silicon() else "cpu"
    return Platform(
        device=device or found,
        accelerator=accelerator if (device or found) == "cuda" else "",
        processor=_processor(),
        cores=usable_cores(),
        system=f"{platform.system()} {platform.release()}",
        python=f"Python {platform.python_version()}",
    )


def differences(one: Platform, other: Platform) -> list[str]:
    """The differences that prevent comparing measurements of two machines, as text; empty if they compare."""
    pairs = {
        "device": (one.device, other.device),
        "accelerator": (_model(one.accelerator), _model(other.accelerator)),
        "processor": (one.processor, other.processor),
        "Python": (one.python, other.python),
        "system": (one.system.split()[0], other.system.split()[0]),
    }
    if one.device == "cpu":
        pairs["cores"] = (str(one.cores), str(other.cores))
    return [f"its {what} is {b or 'none'}, not {a or 'none'}" for what, (a, b) in pairs.items() if a != b]


def _model(accelerators: str) -> str:
    """``8 x NVIDIA H100`` without the number: a trial uses one, wherever it runs."""
    return accelerators.split(" x ", 1)[-1]


def usable_cores() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _nvidia() -> str:
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return ""
    try:
        out = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    names = [line.strip() for line in out.stdout.splitlines() if line.strip()]
    return "" if out.returncode or not names else f"{len(names)} x {names[0]}"


def nvidia_driver(told: Path = Path("/proc/driver/nvidia/version")) -> str:
    """The version of the loaded NVIDIA driver, e.g. ``580.95.05``; empty without one."""
    try:
        found = re.search(r"Kernel Module(?: for \w+)?\s+([\d.]+)", told.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return found[1] if found else ""


def _apple_silicon() -> bool:
    return sys.platform == "darwin" and platform.machine() == "arm64"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
