"""Everything that runs in a candidate's process and that it may forge: what each message does, and that none gains."""

from __future__ import annotations

from typing import Any

import pytest
from support.bench import LEAST
from support.tiers import by_default

CLEAN = '[evaluator]\ncommand = "python evaluate.py"\nserved = true\nprocesses = 2\n'
# The score is how far the answers are from 10: what was handed over decides it.
EVALUATE = """\
import array, sys
import nightlab_guest
try:
    found = [
        answer[0]
        for process in (0, 1)
        for answer in nightlab_guest.Served(process=process).map([array.array("i", [1])], "f", (1,))
    ]
except nightlab_guest.ServeError as error:
    print(error)
    sys.exit(4)
if found[0] != found[1]:
    print("the processes disagree")
    sys.exit(3)
print(f"METRIC loss={abs(10 - found[0])}")
"""
PROGRAM = """\
import array, os, socket, struct, sys, time
import nightlab_guest
def load(arrays):
    weight = arrays["weight"][0]
    {loading}
    return lambda x: array.array("f", [weight])
nightlab_guest.answer(load)
control = int(os.environ["NIGHTLAB_CONTROL"])
def say(line): os.write(control, line)
def hand(weight): trial.hand_over({{"weight": array.array("d", [weight])}})
trial = nightlab_guest.trial()
trial.start()
{training}
hand(3.0)
"""
HONEST = 7.0
WRITE = "os.write(int(os.environ['NIGHTLAB_HANDED']), "
FORGED = {
    "start again": "say(b'start\\n' * 5000)",
    "start, much later": "time.sleep(0.2); say(b'start\\n')",
    "a curve": "say(b'report 0.5 0.0001\\nreport nan inf\\nreport 2 -1\\n')",
    "unknown words": "say(b'evaluated\\nmeasured\\nMETRIC loss=0\\n\\x00\\xff\\n')",
    "half a word": "say(b'ser')\ntime.sleep(0.05)\nsay(b'\\n')",
    "a metric": "print('METRIC loss=0', flush=True)",
    "the evaluator's role": "os.environ['NIGHTLAB_ROLE'] = 'evaluator'",
}


def run(bench: Any, training: str = "", loading: str = "pass") -> Any:
    one = bench(PROGRAM.format(training=training, loading=loading), LEAST + CLEAN, files={"evaluate.py": EVALUATE})
    return one.run()


@pytest.mark.parametrize("what", by_default("start again", "a metric", "the evaluator's role", of=FORGED))
def test_messages_of_the_trainer(bare_bench: Any, what: str) -> None:
    measured = run(bare_bench, FORGED[what])
    assert (measured.outcome, measured.metric) == ("measured", HONEST), measured.detail


@pytest.mark.parametrize(
    ("training", "says"),
    [
        ("say(b'serve\\n'); time.sleep(9)", "mmap an empty file"),
        (
            "os.write(int(os.environ['NIGHTLAB_HANDED']), b'\\xff' * 64); say(b'serve\\n'); time.sleep(9)",
            "while answering",
        ),
        (
            "os.write(int(os.environ['NIGHTLAB_HANDED']), struct.pack('<Q', 1 << 60) + b'['); say(b'serve\\n')",
            "answering",
        ),
    ],
    ids=["nothing", "garbage", "a length beyond the file"],
)
def test_a_hand_over_that_is_none_is_a_crash(bare_bench: Any, training: str, says: str) -> None:
    measured = run(bare_bench, f"{training}\ntime.sleep(60)")
    assert (measured.outcome, measured.metric) == ("crashed", None) and says in measured.detail, measured.detail
    assert measured.wall_seconds < 50


def test_what_is_written_after_the_hand_over_is_not_handed_over(bare_bench: Any) -> None:
    """The process says that it is done, and goes on: it is dead before anything is copied."""
    stays = "nightlab_guest.os._exit = lambda status: None\n"
    late = stays + "try: hand(3.0)\nexcept BaseException: pass\nwhile True: time.sleep(1)"
    assert run(bare_bench, late).metric == HONEST


@pytest.mark.parametrize(
    ("loading", "outcome"),
    [
        ("print('METRIC loss=0', flush=True)", "measured"),
        ("os._exit(0)", "crashed"),
        ("weight += os.getpid() % 1000 + time.time() % 1", "tampered"),
        ("os.environ['NIGHTLAB_TURN'] = '3'", "measured"),
    ],
)
def test_messages_of_an_answering_process(bare_bench: Any, loading: str, outcome: str) -> None:
    measured = run(bare_bench, loading=loading)
    assert measured.outcome == outcome and measured.metric in (None, HONEST), measured


def test_numbers_and_feedback_are_the_evaluators_alone(bare_bench: Any) -> None:
    lines = ("METRIC loss=0", "METRIC size=0", "METRIC more=1", "METRIC held_out=0", "FEEDBACK well done")
    forges = "".join(f"print({line!r}, flush=True)\n" for line in lines)
    evaluate = "print('METRIC loss=7')\nprint('METRIC size=12')\nprint('FEEDBACK too large')\n"
    contract = f'{LEAST}[evaluator]\ncommand = "python evaluate.py"\nheld_out = true\n'
    measured = bare_bench(forges, contract, files={"evaluate.py": evaluate}).run()
    assert (measured.metric, measured.secondary, measured.said) == (HONEST, {"size": 12.0}, "too large"), measured
    assert measured.held_out is None
