"""What is scored are clean processes that load what training handed over: what they share, and how it can fail."""

from __future__ import annotations

from typing import Any

import pytest
from support.bench import LEAST

from nightlab.core.config import parse

CLEAN = '[evaluator]\ncommand = "python evaluate.py"\nserved = true\nprocesses = 2\n'
# The candidate learns one number, and answers with a multiple of it.
PROGRAM = """\
import array, os, sys, time
import nightlab_guest
{top}
def load(arrays):
    {loading}
    weight = arrays["weight"][0]
    def function(x):
        {answering}
        return array.array("f", [weight * x[0]])
    return function

nightlab_guest.answer(load)
trial = nightlab_guest.trial()
trial.start()
weight = 3.0
{training}
trial.hand_over({{"weight": array.array("d", [weight]), "words": b"words", "nothing": b""}})
"""
EVALUATE = """\
import array, sys
import nightlab_guest
def calls(process, *numbers):
    served = nightlab_guest.Served(process=process)
    inputs = [array.array("i", [n]) for n in numbers]
    return [answer[0] for answer in served.map(inputs, "f", (1,))]
try:
    print(f"METRIC loss={sum(calls(0, 1, 2))}")
    print(f"METRIC again={sum(calls(1, 2, 1))}")
except nightlab_guest.ServeError as error:
    print(error)
    sys.exit(4)
"""


def program(top: str = "", loading: str = "pass", answering: str = "pass", training: str = "") -> str:
    return PROGRAM.format(top=top, loading=loading, answering=answering, training=training)


def clean(bench: Any, contract: str = LEAST + CLEAN, **parts: str) -> Any:
    return bench(program(**parts), contract, files={"evaluate.py": EVALUATE})


def test_two_clean_processes_answer_with_what_was_handed_over(bench: Any) -> None:
    one = clean(bench, loading="print('loads', sorted(arrays), bytes(arrays['words']), os.environ['NIGHTLAB_ROLE'])")
    measured = one.run()
    assert (measured.outcome, measured.metric, measured.secondary) == ("measured", 9.0, {"again": 9.0}), measured
    said = "loads ['nothing', 'weight', 'words'] b'words' answer\n"
    assert (one.log("answer0"), one.log("answer1")) == (said, said)
    assert not [path for path in one.folder.iterdir() if path.is_dir()]


def test_the_cpu_time_of_a_program_that_is_ended_at_its_hand_over_is_in_that_of_its_trial(bench: Any) -> None:
    """A child still runs when it is ended: with its sandbox the kernel kills it, and no process waits for it."""
    child = "while time.process_time() < 0.5: pass\n    os.write(end, b'.')\n    time.sleep(99)"
    one = clean(bench, training=f"told, end = os.pipe()\nif os.fork() == 0:\n    {child}\nos.read(told, 1)")
    measured = one.run()
    assert measured.outcome == "measured" and measured.cpu_seconds > 0.5, measured


def test_what_answering_processes_import_ahead_is_no_training_of_a_program_that_crashes(bench: Any) -> None:
    warm = 'warm = ["asyncio", "email.mime.text", "http.server", "unittest.mock", "xml.dom.minidom"]\n'
    one = bench(
        program(training="time.sleep(1); raise SystemExit(3)"),
        warm + LEAST + CLEAN,
        {"evaluate.py": EVALUATE},
        clock="cpu",
    )
    measured = one.run()
    assert measured.outcome == "crashed" and measured.training_seconds < 0.1 < measured.cpu_seconds, measured


@pytest.mark.parametrize("warm", ['warm = ["decimal"]\n', ""])
def test_they_begin_after_training_whether_they_wait_or_not(bench: Any, warm: str) -> None:
    top = "began = time.monotonic()"
    told = "print('decimal' in sys.modules, began > arrays['weight'][0])"
    one = clean(bench, warm + LEAST + CLEAN, top=top, loading=told, training="time.sleep(0.1); weight=time.monotonic()")
    assert one.run().outcome == "measured"
    assert one.log("answer0") == one.log("answer1") == f"{bool(warm)} True\n"


def test_nothing_passes_from_the_trainer_or_from_one_answering_process_to_the_next(bench: Any) -> None:
    """Files, locks, sockets, and processes that are left: whatever an earlier one tries, the next finds nothing."""
    leave = """
import fcntl, socket
PLACES = ("/tmp/hostile", "/dev/shm/hostile", os.path.expanduser("~/hostile"), "hostile")
def leave(who):
    for place in PLACES:
        try: open(place, "a").write(who)
        except OSError: pass
    global held, named
    held = open(sys.executable, "rb")
    fcntl.flock(held, fcntl.LOCK_EX)
    named = socket.socket(socket.AF_UNIX)
    named.bind("\\0hostile")
def found():
    left = [place for place in PLACES if os.path.exists(place)]
    try: fcntl.flock(open(sys.executable, "rb"), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError: left.append("lock")
    try: socket.socket(socket.AF_UNIX).connect("\\0hostile"); left.append("socket")
    except OSError: pass
    return left
"""
    daemon = "leave('trainer')\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(99)\n"
    loading = "print('found', found()); leave('answer'); os.fork() or time.sleep(99)"
    one = clean(bench, top=leave, training=daemon, loading=loading)
    if one.engine.sandbox.name == "none":
        pytest.skip("without a sandbox they share the machine's folders")
    assert one.run().outcome == "measured"
    assert one.log("answer0") == one.log("answer1") == "found []\n"


def test_what_was_handed_over_cannot_be_changed(bench: Any) -> None:
    write = """
fd = os.environ["NIGHTLAB_HANDED"]
for how in (lambda: os.pwrite(int(fd), b"x", 0), lambda: os.truncate(f"/proc/self/fd/{fd}", 0),
            lambda: os.pwrite(os.open(f"/proc/self/fd/{fd}", os.O_RDWR), b"x", 0)):
        try: how(); print("changed")
        except OSError: print("refused")
"""
    one = clean(
        bench, top="def change():\n" + "\n".join("    " + line for line in write.splitlines()), loading="change()"
    )
    assert one.run().metric == 9
    assert one.log("answer0") == "refused\n" * 3


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"loading": "raise ValueError('another shape')"}, "ValueError: another shape (exit status 1 while answering)"),
        ({"answering": "raise MemoryError"}, "MemoryError (exit status 1 while answering)"),
        ({"answering": "os.kill(os.getpid(), 9)"}, "SIGKILL) while answering"),
        ({"training": "trial.serve(lambda x: x)"}, "trial.hand_over(arrays)"),
        ({"training": "trial.hand_over({'w': memoryview(b'abcd')[::2]})"}, "can't hand over the array 'w'"),
        ({"training": "trial.hand_over({'w': 'text'})"}, "bytes-like object"),
        ({"top": "nightlab_guest.answer = lambda load: None"}, "call answer(load) before trial()"),
        ({"training": "sys.exit()"}, "exited without handing over a model"),
    ],
)
def test_what_cannot_be_handed_over_or_loaded_is_one_lost_trial_with_words(
    bench: Any, parts: dict[str, str], says: str
) -> None:
    one = clean(bench, **parts)
    measured = one.run()
    assert measured.metric is None and measured.outcome in ("crashed", "no metric")
    assert says in measured.detail + one.log() + one.log("answer0"), (measured.detail, one.log())


def test_one_that_needs_too_much_memory_to_answer(bench: Any) -> None:
    more = "hold = bytearray(300 * 2**20); time.sleep(99)"
    measured = clean(bench, LEAST + CLEAN + '[resources]\nmemory = "150MB"\n', loading=more).run()
    assert measured.outcome == "over limit" and "while answering; the limit is 150 MB" in measured.detail


def test_the_trainer_is_gone_before_the_first_answer(bench: Any) -> None:
    go_on = (
        "import threading; threading.Thread(target=lambda: time.sleep(99)).start()\nos._exit = lambda status: None\n"
    )
    measured = clean(bench, training=go_on).run()
    assert measured.metric == 9 and measured.training_seconds < 20, "it was ended"
    assert measured.wall_seconds < 60


def test_a_lab_without_clean_processes_says_how_to_serve(bench: Any) -> None:
    contract = LEAST + CLEAN.replace("processes = 2\n", "")
    one = clean(bench, contract)
    assert one.run().outcome == "crashed" and "use trial.serve(function)" in one.log()
    with pytest.raises(Exception, match="only an evaluator with served = true"):
        parse(LEAST + CLEAN.replace("served = true\n", ""))
