"""All learning is budget: wherever a candidate learns beside its training, it gains nothing.

The genome learns by computing: its skill is the CPU seconds that it has spent, and the metric is its skill. Its budget
is half a second. What is free beside training is learned from the honest genome's own trials.
"""

from __future__ import annotations

from typing import Any

import pytest
from support.bench import LEAST, Bench
from support.labs import TinyLab, lab_in
from support.tiers import by_default

from nightlab.analysis.redteam.attack import with_prologue
from nightlab.analysis.redteam.on_programs import PROGRAM_ATTACKS
from nightlab.core.overhead import learned
from nightlab.sandbox.bubblewrap import NoSandbox

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("budget")]  # one worker makes the two labs
BUDGET = 0.5
CLEAN = '[evaluator]\ncommand = "python evaluate.py"\nserved = true\nprocesses = 2\n'
ITSELF = '[evaluator]\ncommand = "python evaluate.py itself"\nserved = true\n'
GENOME = """\
import array, os, time
import nightlab_guest
def learn(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until: pass
    return seconds
def load(arrays):
    skill = arrays["skill"][0] + {loading}
    def function(x):
        nonlocal skill
        answer = array.array("f", [skill])
        skill += {answering}
        return answer
    return function
nightlab_guest.answer(load)
trial = nightlab_guest.trial()
skill = {before}
trial.start()
skill += learn({training})
{after}
if "NIGHTLAB_HANDED" in os.environ:
    trial.hand_over({{"skill": array.array("d", [skill])}})
else:
    trial.serve(load({{"skill": array.array("d", [skill])}}))
"""
EVALUATE = """\
import array, sys
import nightlab_guest
def skills(process, calls):
    served = nightlab_guest.Served(process=process)
    return [answer[0] for answer in served.map([array.array("i", [n]) for n in range(calls)], "f", (1,))]
try:
    found = skills(0, 8)
    if len(sys.argv) == 1 and skills(1, 4) != found[:4]:
        print("it answers otherwise when it is asked again")
        sys.exit(3)
    print(f"METRIC loss={-found[-1]}")
except nightlab_guest.ServeError as error:
    print(error)
    sys.exit(4)
"""
TRAINS_ON = """\
if os.fork() == 0:
    os.setsid()
    while True:
        learn(0.1)
        try: os.pwrite(int(os.environ["NIGHTLAB_HANDED"]), array.array("d", [9.0]).tobytes(), 256)
        except OSError: pass
"""
# where it learns, by the parts of GENOME, and what the verdict says of it
ATTACKS: dict[str, tuple[dict[str, Any], str]] = {
    "before its start signal": ({"before": "learn(1.5)"}, "s before its start signal"),
    "until the allowance for the start ends": ({"before": "learn(99)"}, "s before its start signal"),
    "while it loads": ({"loading": "learn(1.5)", "training": 0.0}, "s to load what was handed over"),
    "in its first answer": ({"answering": "learn(1.5 if skill < 1 else 0)"}, "s to load what was handed over"),
    "after each answer": ({"answering": "learn(0.3)"}, "s for 8 answers"),
    "a little everywhere": (
        {"before": "learn(0.3)", "training": 0.6, "loading": "learn(0.3)", "answering": "learn(0.05)"}, "count as",
    ),
    "within the grace of before": ({"training": 1.4}, "s of training, the budget is 0.5 s"),
}  # fmt: skip


LEARNS = ("before its start signal", "while it loads", "after each answer", "a little everywhere")
BETTER = ["before its start signal", "while it loads", "after each answer"]
ITS_OWN: list[dict[str, str]] = [{"loading": "learn(1.5)"}, {"answering": "learn(0.3)"}]


def genome(**parts: Any) -> str:
    honest = {"before": 0.0, "training": BUDGET, "after": "", "loading": 0.0, "answering": 0.0}
    return GENOME.format(**{**honest, **parts})


class Trials:
    """An honest genome's trials, and what was learned from them."""

    def __init__(self, lab: TinyLab, contract: str) -> None:
        self.lab = lab
        self.bench = Bench(lab, LEAST + contract, NoSandbox(), clock="cpu", amount=BUDGET, startup=20)
        self.honest = [self.bench.run(), self.bench.run()]
        self.free = learned(self.honest, self.bench.engine.budget.record())

    def run(self, source: str) -> Any:
        self.bench.commit = self.lab.commit(genome_py=source)
        return self.bench.run(free=self.free)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: Any) -> Trials:
    return made(tmp_path_factory, CLEAN)


@pytest.fixture(scope="module")
def itself(tmp_path_factory: Any) -> Trials:
    return made(tmp_path_factory, ITSELF)


def made(factory: Any, contract: str) -> Trials:
    return Trials(lab_in(factory.mktemp("lab"), genome=genome(), files={"evaluate.py": EVALUATE}), contract)


def test_the_honest_genome_is_measured_as_before(clean: Trials) -> None:
    assert clean.free and clean.free["signals"] == 1 and {"over", "start", "load", "answer"} <= clean.free.keys()
    measured = clean.run(genome())
    assert (measured.outcome, measured.metric) == ("measured", -BUDGET), measured
    assert "charged" not in measured.overhead


@pytest.mark.parametrize("where", by_default(*LEARNS, of=ATTACKS))
def test_learning_beside_training_is_over_budget(clean: Trials, where: str) -> None:
    parts, says = ATTACKS[where]
    measured = clean.run(genome(**parts))
    assert (measured.outcome, measured.metric) == ("over budget", None), measured
    assert says in measured.detail


# What comes of redteam's attacks on a program. Those on answers: test_lm_metric.py; smuggling: test_information.py.
CAME = {
    "early output": "no metric", "NaN": "no metric", "shadowing": "no metric", "false claim": "measured",
    "clock": "over budget", "over-run": "over budget", "late start": "over budget",
}  # fmt: skip


PROGRAMS = [one for one in PROGRAM_ATTACKS if one.name in CAME]


@pytest.mark.parametrize("attack", PROGRAMS, ids=[one.name for one in PROGRAMS])
def test_no_attack_of_redteam_gains(clean: Trials, attack: Any) -> None:
    # Half a second before the start signal is within the room that a busy machine needs: three times as much is not.
    source = attack.source(clean.bench.lab).replace("- begun < budget", "- begun < 3 * budget")
    budget = 'float(os.environ["NIGHTLAB_BUDGET"])' + (" * 2" if attack.name == "late start" else "")
    measured = clean.run(with_prologue(genome(training=budget), source))
    assert (measured.outcome, measured.metric) == (CAME[attack.name], -BUDGET if measured.measured else None), measured


def test_a_trainer_that_trains_on_changes_nothing(clean: Trials) -> None:
    measured = clean.run(genome(after=TRAINS_ON))
    assert (measured.outcome, measured.metric) == ("measured", -BUDGET), measured


@pytest.mark.parametrize("parts", by_default(ITS_OWN[1], of=ITS_OWN))
def test_a_program_that_serves_itself_is_held_to_the_same(itself: Trials, parts: dict[str, str]) -> None:
    assert itself.run(genome()).metric == -BUDGET
    assert itself.run(genome(**parts)).outcome == "over budget"


@pytest.mark.parametrize("where", by_default("while it loads", of=BETTER))
def test_without_what_was_learned_it_would_be_kept(clean: Trials, where: str) -> None:
    """The attacks are real: each measures better where nothing is known of the baseline."""
    free, clean.free = clean.free, None
    try:
        measured = clean.run(genome(**ATTACKS[where][0]))
    finally:
        clean.free = free
    assert measured.metric is not None and measured.metric < -BUDGET - 0.5


# Twenty more, by somebody who knows that one sum is kept: where it learns for 1.5 s, and who does.
WHO = {
    "itself": "learn(1.5)",
    "a thread": "made = threading.Thread(target=learn, args=(1.5,)); made.start(); made.join()",
    "a child": "apart(); os.wait()",
    "a child that nobody waits for": "signal.signal(signal.SIGCHLD, signal.SIG_IGN); apart()",
    "a grandchild": "apart(daemon=True)",
}
MORE = """\
import signal, threading
def apart(daemon=False):
    done, told = os.pipe()
    if os.fork() == 0:
        if not daemon or os.fork() == 0:
            os.setsid()
            learn(1.5)
            os.write(told, b"x")
        os._exit(0)
    os.read(done, 1)
already = []
def more():
    if already: return 0
    already.append(1)
    WHO
    return 1.5
def load"""
WHEN = {
    "before its start signal": {"before": "more()"},
    "after its training": {"training": f"{BUDGET}) + more() + learn(0"},
    "while it loads": {"loading": "more()"},
    "in an answer": {"answering": "more()"},
}
WAYS = [(when, who) for when in WHEN for who in WHO]


@pytest.mark.machine
@pytest.mark.parametrize(("when", "who"), WAYS, ids=map("-".join, WAYS))
def test_no_way_of_learning_is_uncounted(clean: Trials, when: str, who: str) -> None:
    measured = clean.run(genome(**WHEN[when]).replace("def load", MORE.replace("WHO", WHO[who]), 1))
    assert (measured.outcome, measured.metric) == ("over budget", None), measured
