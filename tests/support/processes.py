"""The real program in a process of its own, and eyes on processes that need nothing of nightlab's."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

PROGRAM = [str(Path(sys.executable).parent / "nightlab")]
PATIENCE = 240.0  # seconds, below the limit of a whole test
# One cache of fonts for all homes: matplotlib takes seconds to make it anew.
FONTS = str(Path(tempfile.gettempdir()) / "nightlab-tests-matplotlib")
MARK = "NIGHTLAB_TRIAL"
SUPERVISORS = re.compile(b"fork_server|warm_server")  # what forks them


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def program_env(home: Path, **more: str) -> dict[str, str]:
    """What a newcomer's shell has: a home, a path, a language."""
    return {
        "HOME": str(home),
        "MPLCONFIGDIR": FONTS,
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "COLUMNS": "200",
        **{name: os.environ[name] for name in ["PYTHONPATH"] if name in os.environ},  # where the code under test is
        **more,
    }


def wait(until: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Wait until something holds, and return it. The limit is for what never comes, not for a slow machine."""
    begun = time.monotonic()
    while not (found := until()):
        waited = time.monotonic() - begun
        assert waited < seconds, "it never happened"
        time.sleep(min(0.01 + waited / 20, 0.05))  # to look costs CPU time, which what it waits for needs
    return found


def has_ended(pid: int) -> bool:
    """Whether there is no such process any more, or only its exit status."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _read(path: Path) -> str:
    with contextlib.suppress(OSError):  # it is gone meanwhile
        return path.read_text()
    return ""


def living(folder: Path) -> list[int]:
    """Processes that run in the name of a trial below ``folder``, found without nightlab's help."""
    found = []
    locks = [_read(Path(where, "lock")) for where, _, names in os.walk(folder) if "lock" in names]  # a supervisor's id
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                supervises = entry.name in locks and SUPERVISORS.search((entry / "cmdline").read_bytes())
                names = (entry / "environ").read_bytes()
                zombie = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
            except OSError:
                continue
            if (supervises or f"{MARK}={folder}".encode() in names) and not zombie:
                found.append(int(entry.name))
    return found
