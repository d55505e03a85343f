"""The sandbox on macOS: a ``sandbox-exec`` profile that denies everything it does not allow.

Written from what is publicly known about Seatbelt and tested as text only: it has never run on a Mac. Nothing is
mounted, so paths are the machine's own; the last rule that matches a path decides.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from nightlab.sandbox.bubblewrap import SandboxedStart, SandboxSpec, artefact_env, cache_env, make_home

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
    """Seatbelt: files and network as in bubblewrap, but the machine's processes and the user's own privileges."""

    name = "sandbox-exec"
    missing: tuple[str, ...] = ("processes", "privileges")
    movable = has_proxy = False  # its rules name paths
    why = "macOS has no namespaces: a process that keeps forking can outlive its trial, and all run as your user"

    def __init__(self, readable: Iterable[Path]) -> None:
        self.readable = [_real(path) for path in readable]

    def start(self, spec: SandboxSpec) -> SandboxedStart:
        make_home(spec)
        home = _real(spec.home)
        (home / "tmp").mkdir(exist_ok=True)
        env = {"HOME": str(home), "TMPDIR": str(home / "tmp")} | artefact_env(spec.artefacts and _real(spec.artefacts))
        env |= cache_env(spec.cache and _real(spec.cache))
        return SandboxedStart([str(SANDBOX_EXEC), "-p", self.profile(spec)], str(_real(spec.folder)), env)

    def profile(self, spec: SandboxSpec) -> str:
        """The rules for one process, in SBPL (Seatbelt's profile language)."""
        folder, home = _real(spec.folder), _real(spec.home)
        data = [_real(source) for source, _ in spec.data_links()]
        artefacts = [_real(spec.artefacts)] if spec.artefacts else []
        cache = [_real(spec.cache)] if spec.cache else []
        more = [_real(path) for path in spec.readable]
        seen = [*map(Path, SYSTEM), *self.readable, *more, *data, *artefacts, *cache, folder, home]
        written = [home, *cache, folder] if spec.writable else [home, *cache]
        above = sorted({parent for path in seen for parent in path.parents})
        frozen = [folder / name for name in spec.frozen]
        # Folders that contain something frozen, or are writable themselves, must not be moved away and replaced.
        above_frozen = {parent for path in frozen for parent in path.parents if parent.is_relative_to(folder)}
        rules = [
            BASE,
            *([METAL] if spec.device == "mps" else []),
            _rule("allow", "file-read-metadata", "literal", above),
            _rule("allow", "file-read* file-map-executable", "subpath", seen),
            _rule("allow", "file-write*", "subpath", written),
            _rule("deny", "file-write-unlink", "literal", sorted({*written, *above_frozen})),
            _rule("deny", "file-write*", "subpath", frozen),
            "(allow network*)" if spec.network else "(deny network*)",
        ]
        return "\n".join(rule for rule in rules if rule) + "\n"


def sbpl_string(path: Path) -> str:
    """A path as an SBPL string."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _rule(decision: str, what: str, kind: str, paths: list[Path]) -> str:
    """One rule about paths; empty without paths, because a rule without a path would apply to all of them."""
    return f"({decision} {what} {' '.join(f'({kind} {sbpl_string(path)})' for path in paths)})" if paths else ""


def _real(path: Path) -> Path:
    """The path as the kernel knows it: ``/tmp`` is ``/private/tmp`` on macOS."""
    return Path(os.path.realpath(path))
