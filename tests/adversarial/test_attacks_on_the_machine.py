"""Candidates that take more than they were given: processes, memory, disk, output. Each is bounded in itself."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from support.arena import Arena, genome
from support.tiers import by_default

pytestmark = pytest.mark.integration

# -- processes -----------------------------------------------------------------------------------------


def test_a_fork_bomb(long_arena: Arena) -> None:
    bomb = """
born = 0
for _ in range(400):
    try: pid = os.fork()
    except OSError: break
    if pid == 0:
        time.sleep(20)
        os._exit(0)
    born += 1
print("born", born, flush=True)
"""
    got = long_arena.attack(genome(training=bomb))
    born = int(got.log.split("born")[1].split()[0])
    print(born)
    assert born < 60, f"{born} processes, 40 were allowed"


def test_a_bomb_that_forks_and_dies(arena: Arena) -> None:
    """Each process starts another and ends: there is never one to catch. Bounded by depth and by time."""
    bomb = """
end = time.time() + 99
def run():
    while time.time() < end:
        try:
            if os.fork(): os._exit(0)
            os.setsid()
        except OSError: time.sleep(0.01)
if os.fork() == 0:
    for _ in range(3):
        if os.fork() == 0: run()
    os._exit(0)
"""
    got = arena.attack(genome(training=bomb))
    # Where the bomb takes all the processes that there may be, the program itself can't go on.
    assert got.said in (("discard", "inconclusive"), ("crash", "crashed")) and got.measured.wall_seconds < 90


def test_a_daemon_that_goes_on_computing(arena: Arena) -> None:
    """Two forks and a session of its own, its environment cleared, every signal ignored: it ends with its trial."""
    daemon = """
import signal
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for n in range(1, 65):
            try: signal.signal(n, signal.SIG_IGN)
            except (OSError, ValueError): pass
        os.chdir("/")
        for fd in range(64):
            try: os.close(fd)
            except OSError: pass
        spin = "import time; end = time.time() + 20\\nwhile time.time() < end: pass"
        if os.fork() == 0: os.execve(sys.executable, ["python", "-c", spin], {})
        os._exit(0)
    os._exit(0)
time.sleep(0.3)
"""
    got = arena.attack(genome(training=daemon))
    assert got.said == ("discard", "inconclusive")
    assert arena.living() == []


# -- memory --------------------------------------------------------------------------------------------

MEMORY = {
    "private": "kept = [bytearray(b'x' * 2**20) for _ in range(600)]",
    "in children": """
for _ in range(8):
    if os.fork() == 0:
        kept = bytearray(b'x' * (80 * 2**20))
        time.sleep(10)
        os._exit(0)
""",
    "in files without a name": """
for _ in range(20):
    fd = os.memfd_create("x")
    for _ in range(19): os.write(fd, bytes(2**20))
""",
    "in the temporary folders": """
for place in ("/tmp", "/dev/shm", os.path.expanduser("~")):
    for n in range(18): open(f"{place}/hostile{n}", "wb").write(bytes(2**20))
kept = bytearray(b'x' * (250 * 2**20))
""",
}


@pytest.mark.parametrize("where", by_default("private", "in children", of=MEMORY))
def test_more_memory_than_allowed(long_arena: Arena, where: str) -> None:
    got = long_arena.attack(genome(training=f"{MEMORY[where]}\nprint('taken', flush=True)\ntime.sleep(10)\n"))
    assert got.said == ("discard", "over limit"), got.verdict
    assert "memory" in got.verdict.detail


# -- disk ----------------------------------------------------------------------------------------------

DISK = {
    "one file": "open('big', 'wb').write(bytes(30 * 2**20))",
    "many files": "[open(f'big{n}', 'wb').write(bytes(10 * 2**20)) for n in range(5)]",
    "unlinked files": """
kept = []
for n in range(5):
    kept.append(open("big", "wb", buffering=0))
    os.unlink("big")
    kept[-1].write(bytes(10 * 2**20))
""",
    "very many empty files": "[open(f'empty{n}', 'w').close() for n in range(5500)]",
    "very deep": """
for _ in range(1100):
    os.mkdir("d" * 20)
    os.chdir("d" * 20)
[open(f'big{n}', 'wb').write(bytes(10 * 2**20)) for n in range(3)]
""",
    "where nobody may look": """
os.mkdir("dark")
os.chdir("dark")
os.chmod(".", 0o300)
[open(f'big{n}', 'wb').write(bytes(10 * 2**20)) for n in range(3)]
""",
}


@pytest.mark.parametrize("how", by_default("one file", "unlinked files", of=DISK))
def test_more_disk_than_allowed(arena: Arena, how: str) -> None:
    got = arena.attack(genome(top=f"{DISK[how]}\nprint('written', flush=True)\nos.chdir('/lab')\ntime.sleep(1.5)\n"))
    assert got.verdict.status in ("discard", "crash") and got.said != ("discard", "inconclusive"), got.verdict
    if how != "one file":  # which the kernel stops at the limit
        assert got.said == ("discard", "over limit"), (got.verdict, got.log)


def test_a_tree_too_deep_to_walk_is_removed(arena: Arena) -> None:
    """It stays within its limits, ends well, and leaves a folder that a recursive removal stumbles over."""
    dig = """
for _ in range(1100):
    os.mkdir("d")
    os.chdir("d")
os.chdir("/lab")
os.mkdir("shut"); open("shut/file", "w").close(); os.chmod("shut", 0)
"""
    got = arena.attack(genome(training=dig))
    assert got.said in [("discard", "inconclusive"), ("discard", "over limit")], got.verdict


def test_the_temporary_folders_are_full(arena: Arena) -> None:
    fill = """
import errno
for place in ("/tmp", "/dev/shm", os.path.expanduser("~")):
    written = 0
    try:
        for n in range(5):
            with open(f"{place}/hostile{n}", "wb", buffering=0) as out:
                for _ in range(16): written += out.write(bytes(2**20))
    except OSError as error: print(place, written >> 20, errno.errorcode[error.errno], flush=True)
    for n in range(5):
        try: os.unlink(f"{place}/hostile{n}")
        except OSError: pass
"""
    got = arena.attack(genome(top=fill))
    assert got.said == ("discard", "inconclusive")
    full = [line for line in got.log.splitlines() if line.endswith("ENOSPC")]
    assert len(full) == 3 and all(int(line.split()[1]) <= 20 for line in full), got.log


# -- output --------------------------------------------------------------------------------------------


def test_a_flood_of_output(arena: Arena) -> None:
    flood = "block = b'A' * 2**20\nfor _ in range(40): os.write(1, block)\nprint('\\nthe end', flush=True)\n"
    got = arena.attack(genome(top=flood))
    assert got.said == ("discard", "inconclusive") and "the end" in got.log and len(got.log) < 25_000
    log = arena.session.local_engine.folder / got.trial / "candidate.log"
    assert log.stat().st_size < 250_000


def test_a_flood_on_the_control_pipe(arena: Arena) -> None:
    flood = """
control = int(os.environ["NIGHTLAB_CONTROL"])
os.set_blocking(control, False)
try:
    for _ in range(50): os.write(control, b"start\\n" * 600 + b"\\xff\\x00garbage" * 40 + b"\\n")
except BlockingIOError: pass
time.sleep(0.8)
"""
    got = arena.attack(genome(training=flood))
    assert got.said == ("discard", "inconclusive") and got.measured.training_seconds > 0.5


def test_the_machine_is_as_it_was(arena: Arena) -> None:
    """After all of the above: the lab's folder holds logs, not megabytes."""
    time.sleep(0.05)
    arena.check_clean()
    size = sum(p.lstat().st_size for p in Path(arena.session.folder).rglob("*"))
    assert size < 30 * 2**20
