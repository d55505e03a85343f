"""The sealed box around one process: what of the machine it can see, behind one small protocol.

What bubblewrap does *not* cover: the kernel itself (a candidate with an exploit for it is out), timing and
CPU caches, other processes' memory on a shared GPU, and how much memory a process uses (the supervisor
samples that). Method and traps: bubblewrap's manual, and what Codex and Claude Code build on it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt", "/nix/store")
SETTINGS = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime", "passwd", "group")
NETWORKING = ("resolv.conf", "hosts", "nsswitch.conf", "gai.conf", "ssl", "pki", "ca-certificates")  # with a network
NVIDIA = "nvidia*"  # devices that a lab on CUDA is given
LAB, HOME, ARTEFACTS = "/lab", "/home/lab", "/artefacts"  # where a process finds its folder, its home, and these
CACHE, DOOR = "/compiled", "/door"
# What compilers call the folder: inductor and Triton (PyTorch), XLA (JAX), the CUDA driver.
CACHES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "JAX_COMPILATION_CACHE_DIR", "CUDA_CACHE_PATH")
SCRATCH = ("/tmp", "/dev/shm", HOME)  # folders of its own, kept in memory
NOBODY = 65534
NO_USERS = ("--unshare-user", "--disable-userns", "--cap-drop", "ALL")
PROTECTIONS = {
    "files": "a candidate sees its copy of the lab and its data, and no other file of yours",
    "network": "a candidate has no network, not even this machine's own",
    "processes": "a candidate sees no process but its own, and none of them outlives it",
    "privileges": "a candidate has no privileges and can gain none",
}


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """What one process of a trial is given, in paths of this machine."""

    folder: Path
    writable: bool
    frozen: tuple[str, ...]
    """Entries of the folder that stay read-only although the folder is writable."""
    home: Path
    tmp: Path
    data: tuple[str, ...]
    """Folders to read; what begins with ``~/`` is found at the same place in the private home."""
    scratch_mb: int
    device: str
    artefacts: Path | None = None
    """What the candidate left, for an evaluator that runs after it: to be read only."""
    gpu_node: str = ""
    """The one GPU that it is given, of several; empty: all."""
    cache: Path | None = None
    """Where its compilers keep what they made: a folder of its own, on disk."""
    network: bool = False
    """Whether it may use this machine's network, whole: only a proposer may, whose model is elsewhere."""
    door: Path | None = None
    """The socket of its one way to a few endpoints, where it has no network."""

    def links(self) -> list[tuple[Path, str]]:
        """Each data folder, and where below the home (``.cache/x``) or on the machine (``/x``) it is found."""
        return [(Path(entry).expanduser(), entry.removeprefix("~/")) for entry in self.data]


@dataclass(frozen=True, slots=True)
class SandboxedStart:
    """How to start a process in its place: what goes before its command, in which folder, with what added."""

    prefix: list[str]
    cwd: str
    env: dict[str, str]


class Isolation(Protocol):
    """What a sandbox gives."""

    name: str
    missing: tuple[str, ...]
    """Names of PROTECTIONS that it does not give here."""
    why: str
    """Why they are missing, and the mend."""


class Sandbox(Isolation, Protocol):
    movable: bool
    """Whether a place may be renamed while a process is in it."""
    doors: bool
    """Whether a place may have a door."""

    def start(self, place: SandboxSpec) -> SandboxedStart:
        """Prepare the place and say how a process is started in it."""
        ...


class NoSandbox:
    """No sandbox: a private home and folder, and nothing that keeps a process inside them."""

    name = "none"
    missing = tuple(PROTECTIONS)
    doors = False
    movable = False  # Python makes the name of its program absolute before it looks at anything

    def __init__(self, why: str = "") -> None:
        self.why = why

    def start(self, place: SandboxSpec) -> SandboxedStart:
        link_data(place)
        env = {"HOME": str(place.home), "TMPDIR": str(place.tmp)}
        return SandboxedStart([], str(place.folder), env | told(place.artefacts) | compiling(place.cache))


class Bubblewrap:
    """Namespaces of its own for files, network, processes and IPC; only what is named here is visible.

    As root, the mounts are root's and the process is nobody's: bubblewrap alone would leave it host root in
    all but name, for whatever a mount shows it. A second bubblewrap then gives it a user namespace of its own:
    otherwise it could make one, be root in there, and leave keys in the keyring that nobody's trials share.
    """

    name = "bubblewrap"
    missing: tuple[str, ...] = ()
    why = ""
    movable = doors = True

    def __init__(self, readable: Iterable[Path], *, own_users: bool = True) -> None:
        self.own_users = own_users
        self.readable = [path for path in readable if not _within(path, SYSTEM)]

    def start(self, place: SandboxSpec) -> SandboxedStart:
        if os.geteuid() == 0:
            for folder in (place.folder if place.writable else None, place.cache):
                if folder:
                    _give_away(folder)
        argv = ["bwrap", "--die-with-parent", "--new-session", "--unshare-pid", "--unshare-ipc"]
        argv += [] if place.network else ["--unshare-net"]
        argv += ["--unshare-uts", "--unshare-cgroup-try", "--hostname", "lab"]
        if os.geteuid() != 0:
            argv += NO_USERS
        seen = [(path, path, "--ro-bind-try") for path in map(Path, SYSTEM)]
        seen += [(path, path, "--ro-bind-try") for path in (Path("/etc") / name for name in SETTINGS)]
        if place.network or place.door:
            seen += [(path.resolve(), path, "--ro-bind-try") for path in (Path("/etc") / name for name in NETWORKING)]
        seen += [(path, path, "--ro-bind") for path in self.readable]
        seen += [(source, Path(HOME) / target, "--ro-bind-try") for source, target in place.links()]
        seen += [(place.folder, Path(LAB), "--bind" if place.writable else "--ro-bind")]
        seen += [(place.folder / name, Path(LAB) / name, "--ro-bind") for name in place.frozen]
        if place.artefacts:
            seen += [(place.artefacts, Path(ARTEFACTS), "--ro-bind")]
        if place.cache:
            seen += [(place.cache, Path(CACHE), "--bind")]
        if place.door:
            seen += [(place.door, Path(DOOR), "--ro-bind")]
        argv += ["--proc", "/proc", "--dev", "/dev"]
        for scratch in SCRATCH:
            argv += _folders([Path(scratch)], set())
            argv += ["--perms", "1777", "--size", str(place.scratch_mb * 2**20), "--tmpfs", scratch]
        if place.device == "cuda":
            nodes = [path for path in sorted(Path("/dev").glob(NVIDIA)) if _for_all(path.name, place.gpu_node)]
            seen += [(path, path, "--dev-bind") for path in nodes]
        argv += _folders([target for _, target, _ in seen], {Path("/dev"), Path("/tmp"), Path(HOME)})
        for source, target, how in seen:
            argv += [how, str(source), str(target)]
        # What holds the mounts together lies in memory, and would have no limit.
        argv += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", LAB, "--"]
        if os.geteuid() == 0:
            argv += ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"]
            argv += ["--bounding-set=-all", "--inh-caps=-all", "--"]
            if self.own_users:
                argv += ["bwrap", *NO_USERS, "--dev-bind", "/", "/", "--"]
        env = {"HOME": HOME, "TMPDIR": "/tmp", "USER": "lab"}
        more = told(place.artefacts and Path(ARTEFACTS)) | compiling(place.cache and Path(CACHE))
        return SandboxedStart(argv, str(place.folder), env | more)


def link_data(place: SandboxSpec) -> None:
    """Let the data be found in the private home, where nothing can be mounted there."""
    for source, target in place.links():
        link = place.home / target
        if link.is_relative_to(place.home):
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():  # it has been started in before
                link.symlink_to(source)


def told(artefacts: Path | None) -> dict[str, str]:
    """What an evaluator is told of where the artefacts are."""
    return {"NIGHTLAB_ARTEFACTS": str(artefacts)} if artefacts else {}


def _for_all(name: str, gpu_node: str) -> bool:
    """Whether a device is for whoever has that GPU: its own entry, or one that is no GPU's."""
    return not gpu_node or name == gpu_node or not name.removeprefix("nvidia").isdigit()


def compiling(cache: Path | None) -> dict[str, str]:
    """What tells compilers where their cache is: each has a folder of its own in it."""
    return {name: f"{cache}/{name.split('_')[0].lower()}" for name in CACHES} if cache else {}


def search_path(path: str) -> str:
    """A PATH on which our own interpreter, and what was installed beside it, is found first."""
    return os.pathsep.join([str(Path(sys.executable).parent), path])


def _within(path: Path, folders: Iterable[str]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _folders(targets: list[Path], made: set[Path]) -> list[str]:
    """Options that make the folders above each target, readable by all: bubblewrap would make them private."""
    above = {parent for target in targets for parent in target.parents if parent != Path("/")}
    argv = []
    for folder in sorted(above - made):
        argv += ["--perms", "0755", "--dir", str(folder)]
    return argv


def _give_away(folder: Path) -> None:
    """Let nobody own a folder and all in it, without following links."""
    for at, folders, files in os.walk(folder):
        os.chown(at, NOBODY, NOBODY)
        for name in (*folders, *files):
            os.chown(Path(at) / name, NOBODY, NOBODY, follow_symlinks=False)
