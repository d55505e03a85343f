"""The sealed box on macOS: a profile for ``sandbox-exec``, which denies whatever it does not allow.

Written from what is publicly known of Seatbelt, and tested as text: it has never run on a Mac. Paths are the
machine's own, for nothing is mounted, and the last rule that matches a path decides.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from nightlab.sandbox.bubblewrap import SandboxedStart, SandboxSpec, compiling, link_data, told

SANDBOX_EXEC = Path("/usr/bin/sandbox-exec")
SYSTEM = (
    "/usr",
    "/bin",
    "/sbin",
    "/System",
    "/Library/Developer/CommandLineTools",
    "/Library/Frameworks",
    "/opt/homebrew",
    "/private/etc/localtime",
    "/private/var/db/dyld",
    "/private/var/db/timezone",
)
BASE = """\
(version 1)
(deny default)
(allow process-exec)
(allow process-fork)
(allow process-info* (target same-sandbox))
(allow signal (target same-sandbox))
(allow sysctl-read)
(allow ipc-posix-sem)
(allow mach-lookup (global-name "com.apple.system.opendirectoryd.libinfo"))
(allow file-read-data (literal "/"))
(allow file-read* file-write-data (literal "/dev/null"))
(allow file-read* (literal "/dev/random") (literal "/dev/urandom") (literal "/dev/zero"))"""
METAL = """\
(allow iokit-open (iokit-user-client-class "AGXDeviceUserClient"))
(allow mach-lookup (global-name "com.apple.MTLCompilerService"))"""


class SandboxExec:
    """Seatbelt: files and network as in the box on Linux, but the machine's processes and the user's own rights."""

    name = "sandbox-exec"
    missing: tuple[str, ...] = ("processes", "privileges")
    movable = doors = False  # its rules name paths
    why = "macOS has no namespaces: a process that forks for ever can outlive its trial, and all run as you"

    def __init__(self, readable: Iterable[Path]) -> None:
        self.readable = [_real(path) for path in readable]

    def start(self, place: SandboxSpec) -> SandboxedStart:
        link_data(place)
        home = _real(place.home)
        (home / "tmp").mkdir(exist_ok=True)
        env = {"HOME": str(home), "TMPDIR": str(home / "tmp")} | told(place.artefacts and _real(place.artefacts))
        env |= compiling(place.cache and _real(place.cache))
        return SandboxedStart([str(SANDBOX_EXEC), "-p", self.profile(place)], str(_real(place.folder)), env)

    def profile(self, place: SandboxSpec) -> str:
        """The rules for one process, in SBPL."""
        folder, home = _real(place.folder), _real(place.home)
        data = [_real(source) for source, _ in place.links()]
        artefacts = [_real(place.artefacts)] if place.artefacts else []
        cache = [_real(place.cache)] if place.cache else []
        seen = [*map(Path, SYSTEM), *self.readable, *data, *artefacts, *cache, folder, home]
        written = [home, *cache, folder] if place.writable else [home, *cache]
        above = sorted({parent for path in seen for parent in path.parents})
        frozen = [folder / name for name in place.frozen]
        # Nor may it move a folder away that holds something frozen, or its own, and put another in its place.
        above_frozen = {parent for path in frozen for parent in path.parents if parent.is_relative_to(folder)}
        rules = [
            BASE,
            *([METAL] if place.device == "mps" else []),
            _rule("allow", "file-read-metadata", "literal", above),
            _rule("allow", "file-read* file-map-executable", "subpath", seen),
            _rule("allow", "file-write*", "subpath", written),
            _rule("deny", "file-write-unlink", "literal", sorted({*written, *above_frozen})),
            _rule("deny", "file-write*", "subpath", frozen),
            "(allow network*)" if place.network else "(deny network*)",
        ]
        return "\n".join(rule for rule in rules if rule) + "\n"


def quoted(path: Path) -> str:
    """A path as a string of SBPL."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _rule(decision: str, what: str, kind: str, paths: list[Path]) -> str:
    """One rule about paths; nothing where there are none, for a rule without a path is about all of them."""
    return f"({decision} {what} {' '.join(f'({kind} {quoted(path)})' for path in paths)})" if paths else ""


def _real(path: Path) -> Path:
    """The path as the kernel knows it: ``/tmp`` is ``/private/tmp`` there."""
    return Path(os.path.realpath(path))
