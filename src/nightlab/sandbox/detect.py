"""Detects which sandbox works on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from nightlab.core import plugins
from nightlab.sandbox.bubblewrap import Bubblewrap, NoSandbox, Sandbox, SandboxSpec
from nightlab.sandbox.macos import SANDBOX_EXEC, SandboxExec

VARIABLE = "NIGHTLAB_SANDBOX"
USUAL = {"linux": "bubblewrap", "darwin": "sandbox-exec"}


def find_sandbox(readable: Iterable[Path]) -> Sandbox:
    """The best sandbox that works on this machine, tested by starting a process; else ``NoSandbox`` with the reason.

    ``readable``: folders that every sandboxed process may read, e.g. the interpreter's. The variable NIGHTLAB_SANDBOX
    names another one, e.g. a plug-in. Raises NightlabError when that can't be loaded.
    """
    name = os.environ.get(VARIABLE) or USUAL.get(sys.platform)
    if name is None:
        return NoSandbox(f"there is no sandbox for {sys.platform}; run nightlab on Linux or macOS")
    made: Sandbox = plugins.make("sandbox", name, {}, list(readable), VARIABLE)
    return made


def on_macos(config: object, readable: list[Path]) -> Sandbox:
    """``sandbox-exec``, if there is one."""
    if not SANDBOX_EXEC.exists():
        return NoSandbox(f"{SANDBOX_EXEC} is missing; run nightlab on a macOS that has it, or on Linux")
    return SandboxExec(readable)


def on_linux(config: object, readable: list[Path]) -> Sandbox:
    """bubblewrap, tested by starting a process."""
    needs = ["bwrap"] + (["setpriv"] if os.geteuid() == 0 else [])
    if absent := [name for name in needs if shutil.which(name) is None]:
        return NoSandbox(f"{absent[0]} is not installed; apt install bubblewrap util-linux or the equivalent")
    spec = SandboxSpec(Path("/usr"), False, (), Path("/tmp"), Path("/tmp"), (), 16, "cpu")
    # Each twice: the kernel can refuse a mount once. Where root may not create user namespaces for `nobody`, `nobody`
    # cannot create any either.
    for own_users in (True, True, False, False) if os.geteuid() == 0 else (True, True):
        sandbox = Bubblewrap(readable, own_users=own_users)
        done = subprocess.run([*sandbox.start(spec).prefix, "true"], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return sandbox
    said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    other = "run as another user than root, who needs no capability, or " if os.geteuid() == 0 else ""
    return NoSandbox(
        f"bubblewrap does not work here ({said}); {other}allow unprivileged user namespaces "
        "(sysctl kernel.apparmor_restrict_unprivileged_userns=0, or a container started with --privileged)"
    )
