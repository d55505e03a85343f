"""Candidates that lie, or serve something other than a model, and what they gain by it."""

from __future__ import annotations

import pytest
from support.arena import Arena, genome
from support.tiers import by_default

pytestmark = pytest.mark.integration

NOTHING_GAINED = ("discard", "inconclusive")

# -- lies ----------------------------------------------------------------------------------------------


def test_a_false_metric_and_a_false_summary(arena: Arena) -> None:
    lies = "print('METRIC loss=0.000001\\nloss: 0.000001\\nval_bpb: 0.1\\npeak_memory_mb: 0.1', flush=True)\n"
    got = arena.attack(genome(top=lies, end=lies))
    assert got.said == NOTHING_GAINED and got.measured.metric == arena.honest
    assert got.measured.claims == {"val_bpb": 0.1, "peak_memory_mb": 0.1} and got.measured.peak_memory_mb > 1


def test_it_patches_its_own_process(arena: Arena) -> None:
    patch = """
import nightlab_guest, types
time.time = time.monotonic = time.perf_counter = time.process_time = lambda: 0.0
sys.modules["numpy"] = types.SimpleNamespace(exp=lambda x: 0, log=lambda x: 0)
prepare.evaluate = lambda: print("METRIC loss=0")
prepare.tampered = lambda why: None
nightlab_guest.Served._answer = lambda *a: None
"""
    wait = "import select; select.select([], [], [], 0.5)\n"
    got = arena.attack(genome(top=patch, training=wait))
    assert got.said == NOTHING_GAINED and got.measured.metric == arena.honest
    assert got.measured.training_seconds > 0.4, "the clock is the supervisor's"


SHADOWS = ["numpy.py", "random.py", "array.py", "unittest.py", "sitecustomize.py", "usercustomize.py", "conftest.py"]
SHADOWS += ["nightlab_guest.py", "__pycache__/prepare.cpython-311.pyc", "__pycache__/train_twin.cpython-311.pyc"]


def test_modules_that_shadow_those_of_the_evaluator_and_the_check(checked_arena: Arena) -> None:
    write = f"""
os.makedirs("__pycache__", exist_ok=True)
for name in {SHADOWS}:
    open(name, "w").write("print('METRIC loss=0'); import os; os._exit(0)")
open("evil.pth", "w").write("import os; print('METRIC loss=0'); os._exit(0)")
for place in (os.path.expanduser("~"), "/tmp", *sys.path):
    def plant(place=place):
        where = os.path.join(place, ".local/lib/python3.11/site-packages")
        os.makedirs(where, exist_ok=True)
        open(where + "/usercustomize.py", "w").write("print('METRIC loss=0')")
    if place and not place.startswith(("/lab", "/tmp", "/home")):
        tries("plant in " + place, plant)
os.environ.update(LD_PRELOAD="/lab/evil.so", PYTHONPATH="/lab", PYTHONSTARTUP="/lab/numpy.py")
"""
    got = checked_arena.attack(genome(top=write))
    assert got.said == NOTHING_GAINED and got.measured.metric == checked_arena.honest
    assert got.tried() and got.open() == []
    assert (checked_arena.session.local_engine.folder / got.trial / "check0.log").exists(), "the check ran"


# -- answers -------------------------------------------------------------------------------------------

ANSWERS = {
    "NaN": ("[[math.nan] * 4 for n in numbers]", "tampered", "not finite"),
    "infinity": ("[[math.inf, 0, 0, 0] for n in numbers]", "tampered", "not finite"),
    "one row too few": ("[table[n] for n in numbers[1:]]", "crashed", "while serving"),
}


@pytest.mark.parametrize("what", by_default("NaN", "one row too few", of=ANSWERS))
def test_answers_that_are_no_scores(arena: Arena, what: str) -> None:
    rows, reason, detail = ANSWERS[what]
    got = arena.attack(genome(training=f"def answer(numbers): return {rows}"))
    assert got.verdict.reason == reason and got.verdict.status != "keep" and detail in got.verdict.detail


def test_unnormalised_scores_gain_nothing(arena: Arena) -> None:
    """The evaluator normalises: what a row is shifted by does not count."""
    got = arena.attack(genome(training="def answer(numbers): return [[s + 1024 for s in table[n]] for n in numbers]"))
    assert got.verdict.status == "discard" and got.measured.metric == pytest.approx(arena.honest, abs=1e-3)


RAW = """
import nightlab_guest, socket, struct
from array import array
H = nightlab_guest.HEADER
nightlab_guest._tell("serve")
link = socket.socket(fileno=int(os.environ["NIGHTLAB_LINK"]))
fd = int(os.environ["NIGHTLAB_SHARED"])
slot, offset, size, room, kind, dims, *shape = H.unpack(link.recv(H.size))
"""
GOOD = "0, 0, 1024, 0, 9, 2, 64, 4, 0, 0"
HEADERS = {
    "an offset beyond the memory": "0, 1 << 62, 1024, 0, 9, 2, 64, 4, 0, 0",
    "the largest offset": "0, (1 << 64) - 1, 1024, 0, 9, 2, 64, 4, 0, 0",
    "a huge size": "0, 0, 1 << 60, 0, 9, 2, 64, 4, 0, 0",
    "size nothing": "0, 0, 0, 0, 9, 2, 64, 4, 0, 0",
    "a type that does not exist": "0, 0, 1024, 0, 4096, 2, 64, 4, 0, 0",
    "another type": "0, 0, 1024, 0, 5, 2, 64, 4, 0, 0",
    "a million dimensions": "0, 0, 1024, 0, 9, 1 << 20, 64, 4, 0, 0",
    "another shape": "0, 0, 1024, 0, 9, 2, 4, 64, 0, 0",
    "oversized": "0, 0, 4096, 0, 9, 2, 256, 4, 0, 0",
}


@pytest.mark.parametrize("what", by_default("oversized", of=["the largest offset", "oversized"]))
def test_forged_headers(arena: Arena, what: str) -> None:
    got = arena.attack(genome(instead=RAW + f"link.sendall(H.pack({HEADERS[what]}))\ntime.sleep(9)\n"))
    assert got.said == ("crash", "crashed") and "answered with" in got.verdict.detail


@pytest.mark.parametrize("what", sorted(HEADERS))
def test_forged_headers_are_refused_by_the_evaluators_end(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kind of forgery, without the rest of the loop."""
    import os
    import socket
    import sys

    from nightlab.engines.local.layout import GUEST

    monkeypatch.syspath_prepend(str(GUEST))
    sys.modules.pop("nightlab_guest", None)
    import nightlab_guest

    ours, theirs = socket.socketpair()
    memory = os.memfd_create("test")
    monkeypatch.setenv("NIGHTLAB_LINK", str(ours.detach()))
    monkeypatch.setenv("NIGHTLAB_SHARED", str(memory))
    served = nightlab_guest.Served()
    theirs.sendall(nightlab_guest.HEADER.pack(*eval(f"({HEADERS[what]})")))
    with pytest.raises(nightlab_guest.ServeError, match="answered with"):
        next(served.map([bytes(256)], "f", (64, 4)))
    served.link.close()
    theirs.close()
    os.close(memory)


GARBAGE = {
    "garbage": "link.sendall(os.urandom(4096)); time.sleep(9)",
    "half a header": "link.sendall(bytes(7)); link.shutdown(2); time.sleep(9)",
    "silence": "link.close(); time.sleep(9)",
}


@pytest.mark.parametrize("what", by_default("garbage", of=GARBAGE))
def test_garbage_on_the_link(arena: Arena, what: str) -> None:
    got = arena.attack(genome(instead=f"{RAW}{GARBAGE[what]}\n"))
    assert got.said == ("crash", "crashed"), got.verdict


def test_a_flood_on_the_link_is_no_metric(arena: Arena) -> None:
    """Answers sent ahead of the questions, all alike: each is taken for what it says, and says nothing."""
    flood = "link.setblocking(False)\ntry:\n    while True: link.send(H.pack(" + GOOD + "))\nexcept OSError: pass\n"
    got = arena.attack(genome(instead=RAW + flood + "time.sleep(0.5)\n"))
    assert got.verdict.status in ("discard", "crash") and (got.measured.metric or 9) > arena.honest


# -- shared memory -------------------------------------------------------------------------------------

SHARED = """
import fcntl, mmap, threading
fd = int(os.environ["NIGHTLAB_SHARED"])
"""


def test_it_takes_the_shared_memory_away(arena: Arena) -> None:
    """A file that shrinks under a mapping would end the evaluator with SIGBUS."""
    shrink = """
def answer(numbers):
    tries("truncate", lambda: os.ftruncate(fd, 0))
    return [table[n] for n in numbers]
def seal():
    fcntl.fcntl(fd, 1033, 4)
tries("seal against growing", seal)
"""
    got = arena.attack(genome(top=SHARED, training=shrink))
    assert got.open() == [] and "truncate" in got.tried()
    assert got.said == NOTHING_GAINED and got.measured.metric == arena.honest


def test_it_changes_answers_after_they_were_sent(arena: Arena) -> None:
    """Whatever is there when the evaluator copies is the answer; it is copied once, before it is looked at."""
    scribble = """
def scribble():
    while os.fstat(fd).st_size == 0: time.sleep(APART)
    memory = mmap.mmap(fd, os.fstat(fd).st_size)
    while True:
        for at in range(0, len(memory) - 8, 256): memory[at:at + 8] = os.urandom(8)
threading.Thread(target=scribble, daemon=True).start()
"""
    for attempt in range(9):  # on a busy machine the evaluator may have copied before the thread has its turn
        apart = f"APART = {0.001 + attempt / 1e4}\n"  # the same program once more would not be tried
        got = arena.attack(genome(top=SHARED + apart, training=scribble))
        assert got.verdict.status in ("discard", "crash")
        if got.said != NOTHING_GAINED:
            return
    raise AssertionError("no answer was changed")


# -- what is served is not what was trained ------------------------------------------------------------


def test_answers_that_depend_on_what_was_asked_before(arena: Arena) -> None:
    adapt = """
calls = []
def answer(numbers):
    calls.append(1)
    return [[s * (1 + len(calls) / 100) for s in table[n]] for n in numbers]
"""
    got = arena.attack(genome(training=adapt))
    assert got.said == ("discard", "tampered") and "changed" in got.verdict.detail


def test_it_hands_over_and_goes_on_training(arena: Arena) -> None:
    train_on = """
import threading
def go_on():
    while True:
        for row in table: row[0] += 0.01
        time.sleep(0.001)
threading.Thread(target=go_on, daemon=True).start()
def answer(numbers):
    time.sleep(0.02)
    return [table[number] for number in numbers]
"""
    got = arena.attack(genome(training=train_on))
    assert got.said == ("discard", "tampered") and "changed" in got.verdict.detail


def test_it_hands_over_and_trains_before_the_first_answer(arena: Arena) -> None:
    """Not caught as such: bounded by the allowance for evaluation, and shown in its time."""
    got = arena.attack(
        genome(
            training="later = []\ndef answer(n):\n    later or (time.sleep(0.7), later.append(1))\n"
            "    return [table[x] for x in n]\n"
        )
    )
    assert got.said == NOTHING_GAINED and got.measured.evaluation_seconds > 0.7 > got.measured.training_seconds


def test_it_trains_before_the_start_signal(arena: Arena) -> None:
    got = arena.attack(genome(top="end = time.time() + 8\nwhile time.time() < end: time.sleep(0.01)\n"))
    assert got.said == ("crash", "timed out") and "training had not started after 3 s" in got.verdict.detail


# -- time ----------------------------------------------------------------------------------------------


def test_it_hangs_while_serving(arena: Arena) -> None:
    got = arena.attack(genome(training="def answer(numbers): time.sleep(9)"))
    assert got.said == ("crash", "timed out") and "evaluation took more than 2 s" in got.verdict.detail


STUBBORN = "import signal\nfor n in (1, 2, 3, 10, 12, 15): signal.signal(n, signal.SIG_IGN)\n"
ENDLESS = "end = time.time() + 99\nwhile time.time() < end: pass\n"


def test_it_never_stops(arena: Arena) -> None:
    got = arena.attack(genome(top=STUBBORN, training=ENDLESS.replace("pass", "time.sleep(0.01)")))
    assert got.verdict.reason in ("over budget", "timed out") and got.verdict.status != "keep"
    assert got.measured.wall_seconds < 90 and got.measured.training_seconds > 1.9


def test_it_never_stops_on_a_cpu_clock(cpu_arena: Arena) -> None:
    got = cpu_arena.attack(genome(top=STUBBORN, training=ENDLESS))
    assert got.verdict.reason in ("over budget", "timed out") and got.measured.wall_seconds < 90


def test_it_sleeps_on_a_cpu_clock(cpu_arena: Arena) -> None:
    got = cpu_arena.attack(genome(training="time.sleep(9)\n"))
    assert got.said == ("crash", "timed out") and "wall-clock" in got.verdict.detail


def test_it_launders_cpu_time_through_children_that_nobody_waits_for(cpu_arena: Arena) -> None:
    """With SIGCHLD ignored the kernel adds a child's CPU time to nobody's."""
    launder = """
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
end, children = time.time() + 1.5, 0
while time.time() < end:
    children += 1
    if os.fork() == 0:
        until = time.process_time() + 0.3
        while time.process_time() < until: pass
        os._exit(0)
    try: os.wait()
    except ChildProcessError: pass
    print(f"burnt: {children * 0.3}", flush=True)
"""
    got = cpu_arena.attack(genome(training=launder))
    burnt = got.measured.claims.get("burnt", 0.0)  # less on a busy machine, where the wall-clock limit may end it
    ended = got.said in (("discard", "over budget"), ("crash", "timed out"))
    assert ended or got.measured.training_seconds > max(0.9 * burnt, 0.2), got.measured
