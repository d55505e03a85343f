"""The sandbox around one process: what it can see of the machine, behind a small protocol.

What bubblewrap does *not* cover: the kernel itself (an exploit for it escapes), timing and CPU caches, other processes'
memory on a shared GPU, and the amount of memory used (the supervisor samples that). Sources: bubblewrap's manual, and
the sandboxes that Codex and Claude Code build on it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from nightlab.sandbox import HOME, NOBODY, SCRATCH

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt", "/nix/store")
SETTINGS = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime", "passwd", "group")
NETWORKING = ("resolv.conf", "hosts", "nsswitch.conf", "gai.conf", "ssl", "pki", "ca-certificates")  # with a network
NAMES = Path(__file__).with_name("etc")  # localhost and the sandbox's host name, where there is no other network
NVIDIA = "nvidia*"  # devices that a lab on CUDA gets
LAB, ARTEFACTS = "/lab", "/artefacts"  # mount points of the process's folder and artefacts
HOSTNAME = "lab"  # as in etc/hosts
CACHE, PROXY_SOCKET = "/compiled", "/proxy"
# Environment variables for the cache folders of inductor and Triton (PyTorch), XLA (JAX) and the CUDA driver.
CACHES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "JAX_COMPILATION_CACHE_DIR", "CUDA_CACHE_PATH")
MOST_MOUNTS = 64  # in a process's folder: each costs a part of its start, and some thousands are refused
NO_USERS = ("--unshare-user", "--disable-userns", "--cap-drop", "ALL")
PROTECTIONS = {
    "files": "a candidate sees its copy of the lab and its data, and no other file of yours",
    "network": "a candidate has no network, not even this machine's own",
    "processes": "a candidate sees only its own processes, and none of them outlives it",
    "privileges": "a candidate has no privileges and can gain none",
}

Mount = tuple[Path, Path, str]  # source, target, bubblewrap's option
Layers = tuple[tuple[Path, str, bool], ...]  # source, path in the folder, whether writable where the folder is


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """What one sandboxed process gets, in paths of this machine."""

    folder: Path
    writable: bool
    frozen: tuple[str, ...]
    """Entries of the folder that stay read-only in a writable folder."""
    home: Path
    tmp: Path
    """Private folders on disk, made by a sandbox that can't have them in memory."""
    data: tuple[str, ...]
    """Folders to read; an entry that starts with ``~/`` is found at the same place in the private home."""
    scratch_mb: int
    """Size of each private folder in memory."""
    device: str
    artefacts: Path | None = None
    """The candidate's output for an evaluator that runs after it, read-only."""
    gpu_node: str = ""
    """The one GPU that it gets, as its entry in ``/dev``; empty: all of them."""
    cache: Path | None = None
    """Its folder for compiler caches, on disk."""
    network: bool = False
    """Whether it may use the machine's network without restriction: for a proposer whose model is elsewhere."""
    proxy_socket: Path | None = None
    """The socket of the proxy to its allowed endpoints, where it has no network."""
    readable: tuple[Path, ...] = ()
    """Further folders of this machine that it may read, e.g. its interpreter's."""
    layers: Layers = ()
    """What appears in the folder, each on top of the ones before it."""
    artefact_layers: Layers = ()
    """The same in the artefacts, read-only."""

    def data_links(self) -> list[tuple[Path, str]]:
        """Each data folder, with the path below the home (``.cache/x``) or on the machine (``/x``) where it appears."""
        return [(Path(entry).expanduser(), entry.removeprefix("~/")) for entry in self.data]


@dataclass(frozen=True, slots=True)
class SandboxedStart:
    """How to start a process in the sandbox: a prefix for its command, its working folder, extra environment."""

    prefix: list[str]
    cwd: str
    env: dict[str, str]


class Isolation(Protocol):
    """What a sandbox protects."""

    name: str
    missing: tuple[str, ...]
    """Names of PROTECTIONS that it does not give on this machine."""
    why: str
    """Why they are missing, and how to get them."""


class Sandbox(Isolation, Protocol):
    movable: bool
    """Whether the process's folder may be renamed while the process runs in it."""
    has_proxy: bool
    """Whether it can restrict a process to a list of endpoints."""

    def start(self, spec: SandboxSpec) -> SandboxedStart:
        """Prepare the folders and return how to start a process in them."""
        ...


def has_proxy(sandbox: Isolation) -> bool:
    """Whether a process with ``proxy_socket`` in its spec has no other way to the network."""
    return bool(getattr(sandbox, "has_proxy", False)) and "network" not in sandbox.missing


def layered(sandbox: Isolation) -> bool:
    """Whether it can show a spec's layers, said by an attribute of that name; where not, copies are whole."""
    return bool(getattr(sandbox, "layered", False))


class NoSandbox:
    """No sandbox: a private home and folder, but nothing that confines a process to them."""

    name = "none"
    missing = tuple(PROTECTIONS)
    has_proxy = False
    movable = False  # Python resolves its program's path before it runs, so the folder must not be renamed

    def __init__(self, why: str = "") -> None:
        self.why = why

    def start(self, spec: SandboxSpec) -> SandboxedStart:
        make_home(spec)
        env = {"HOME": str(spec.home), "TMPDIR": str(spec.tmp)}
        return SandboxedStart([], str(spec.folder), env | artefact_env(spec.artefacts) | cache_env(spec.cache))


class Bubblewrap:
    """Private namespaces for files, network, processes and IPC; only what is listed here is visible.

    As root, mounts are set up as root and the process runs as `nobody`: with bubblewrap alone it would stay root on the
    host for every file that a mount shows. A second bubblewrap then puts it into a private user namespace; otherwise it
    could create one, become root in there, and leave keys in the keyring that all trials of `nobody` share.
    """

    name = "bubblewrap"
    missing: tuple[str, ...] = ()
    why = ""
    movable = has_proxy = layered = True

    def __init__(self, readable: Iterable[Path], *, own_users: bool = True) -> None:
        """``own_users``: give the process its own user namespace when run as root."""
        self.own_users = own_users
        self.readable = [path for path in readable if not _within(path, SYSTEM)]

    def start(self, spec: SandboxSpec) -> SandboxedStart:
        root = os.geteuid() == 0
        if root:
            for folder in (spec.folder if spec.writable else None, spec.cache):
                if folder:
                    _chown_to_nobody(folder)
        prefix = ["bwrap", *_namespaces(spec), *(() if root else NO_USERS), "--proc", "/proc", "--dev", "/dev"]
        prefix += _scratch(spec.scratch_mb)
        prefix += _mount_options([*self._system_mounts(spec), *_spec_mounts(spec), *_gpu_mounts(spec)])
        # The root and /dev are in memory without a size limit, so they are made read-only.
        prefix += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", LAB, "--"]
        prefix += self._drop_root() if root else []
        env = {"HOME": HOME, "TMPDIR": "/tmp", "USER": "lab"}
        env |= artefact_env(spec.artefacts and Path(ARTEFACTS)) | cache_env(spec.cache and Path(CACHE))
        return SandboxedStart(prefix, str(spec.folder), env)

    def _system_mounts(self, spec: SandboxSpec) -> list[Mount]:
        """The system's programs and settings, and the folders that every process may read."""
        mounts = [(path, path, "--ro-bind-try") for path in map(Path, SYSTEM)]
        mounts += [(path, path, "--ro-bind-try") for path in (Path("/etc") / name for name in SETTINGS)]
        if spec.network or spec.proxy_socket:
            settings = (Path("/etc") / name for name in NETWORKING)
            mounts += [(path.resolve(), path, "--ro-bind-try") for path in settings]
        else:
            mounts += [(path, Path("/etc") / path.name, "--ro-bind") for path in sorted(NAMES.iterdir())]
        return mounts + [(path, path, "--ro-bind") for path in (*self.readable, *spec.readable)]

    def _drop_root(self) -> list[str]:
        """The command that continues as `nobody`, without privileges."""
        argv = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"]
        argv += ["--bounding-set=-all", "--inh-caps=-all", "--"]
        return [*argv, "bwrap", *NO_USERS, "--dev-bind", "/", "/", "--"] if self.own_users else argv


def _namespaces(spec: SandboxSpec) -> list[str]:
    options = ["--die-with-parent", "--new-session", "--unshare-pid", "--unshare-ipc"]
    options += [] if spec.network else ["--unshare-net"]
    return [*options, "--unshare-uts", "--unshare-cgroup-try", "--hostname", HOSTNAME]


def _spec_mounts(spec: SandboxSpec) -> list[Mount]:
    """The process's data, folder, artefacts, cache and proxy socket."""
    mounts = [(source, Path(HOME) / target, "--ro-bind-try") for source, target in spec.data_links()]
    mounts += [(spec.folder, Path(LAB), "--bind" if spec.writable else "--ro-bind")]
    mounts += [(spec.folder / name, Path(LAB) / name, "--ro-bind") for name in spec.frozen]
    for source, path, own in spec.layers:
        mounts += [(source, Path(LAB) / path, "--bind" if own and spec.writable else "--ro-bind")]
    if spec.artefacts:
        mounts += [(spec.artefacts, Path(ARTEFACTS), "--ro-bind")]
        mounts += [(source, Path(ARTEFACTS) / path, "--ro-bind") for source, path, _ in spec.artefact_layers]
    if spec.cache:
        mounts += [(spec.cache, Path(CACHE), "--bind")]
    if spec.proxy_socket:
        mounts += [(spec.proxy_socket, Path(PROXY_SOCKET), "--ro-bind")]
    return mounts


def _gpu_mounts(spec: SandboxSpec) -> list[Mount]:
    """NVIDIA's devices, without the GPUs of other slots."""
    if spec.device != "cuda":
        return []
    nodes = [path for path in sorted(Path("/dev").glob(NVIDIA)) if _visible(path.name, spec.gpu_node)]
    return [(path, path, "--dev-bind") for path in nodes]


def _scratch(megabytes: int) -> list[str]:
    """Options that mount the private folders in memory."""
    options: list[str] = []
    for folder in SCRATCH:
        options += _folders((Path(folder),))
        options += ["--perms", "1777", "--size", str(megabytes * 2**20), "--tmpfs", folder]
    return options


def _mount_options(mounts: list[Mount]) -> list[str]:
    """Options that create the folders above each target and then mount the sources there."""
    options = [*_folders(tuple(target for _, target, _ in mounts), ("/dev", "/tmp", HOME))]
    for source, target, how in mounts:
        options += [how, str(source), str(target)]
    return options


def make_home(spec: SandboxSpec) -> None:
    """Make the private folders and link the data into the home, for sandboxes that cannot mount it there."""
    for private in (spec.home, spec.tmp):
        private.mkdir(parents=True, exist_ok=True)
    for source, target in spec.data_links():
        link = spec.home / target
        if link.is_relative_to(spec.home):
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():  # left by an earlier start
                link.symlink_to(source)


def artefact_env(artefacts: Path | None) -> dict[str, str]:
    """The environment variable that tells an evaluator where the artefacts are."""
    return {"NIGHTLAB_ARTEFACTS": str(artefacts)} if artefacts else {}


def _visible(name: str, gpu_node: str) -> bool:
    """Whether a device is for a process on the GPU ``gpu_node``: that GPU's entry, or one that belongs to no GPU."""
    return not gpu_node or name == gpu_node or not name.removeprefix("nvidia").isdigit()


def cache_env(cache: Path | None) -> dict[str, str]:
    """The environment variables that point compilers to their folders in the cache."""
    return {name: f"{cache}/{name.split('_')[0].lower()}" for name in CACHES} if cache else {}


def interpreter() -> str:
    """The path of this interpreter without ``..``: in a sandbox the folder before that is not there."""
    return os.path.abspath(sys.executable)  # noqa: PTH100 -- an environment's link stays one


def search_path(path: str) -> str:
    """A PATH on which nightlab's interpreter, and programs installed beside it, come first."""
    return os.pathsep.join([str(Path(interpreter()).parent), path])


def _within(path: Path, folders: Iterable[str]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


@lru_cache(maxsize=64)  # a session's trials have the same
def _folders(targets: tuple[Path, ...], made: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Options that create the folders above each target, readable by all (bubblewrap's default is private).

    Those in the private home are writable: loaders put lock files beside the data, and other caches in ``.cache``.
    """
    above = {parent for target in targets for parent in target.parents if parent != Path("/")}
    argv: list[str] = []
    for folder in sorted(above - set(map(Path, made))):
        argv += ["--perms", "1777" if folder.is_relative_to(HOME) else "0755", "--dir", str(folder)]
    return tuple(argv)


def _chown_to_nobody(folder: Path) -> None:
    """Make `nobody` the owner of a folder and everything in it, without following links."""
    for at, folders, files in os.walk(folder):
        os.chown(at, NOBODY, NOBODY)
        for name in (*folders, *files):
            os.chown(Path(at) / name, NOBODY, NOBODY, follow_symlinks=False)
