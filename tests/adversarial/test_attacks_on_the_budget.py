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


# Twenty more, written independently of the code: each trains for 1.5 s too long while it keeps the supervisor busy, or
# says late or never that training begins. ``aside`` does something for ever in a thread.
ASIDE = """\
import signal, socket, threading
def aside(work):
    def forever():
        while True:
            try: work()
            except OSError: time.sleep(0.01)
    threading.Thread(target=forever, daemon=True).start()
control = int(os.environ.get("NIGHTLAB_CONTROL", 0))
names = iter(range(10**9))
def touch(name): os.close(os.open(name, os.O_CREAT | os.O_WRONLY))
def make(name):
    os.mkdir(name)
    return name
def child():
    if os.fork() == 0: os._exit(0)
def nest(depth):
    for n in range(depth): os.mkdir("d"); os.chdir("d")
    [touch(f"n{n}") for n in range(2000)]
def load"""
STARVES = {
    "50,000 files": "[touch(f's{n}') for n in range(50_000)]",
    "files in folders": "[touch(f'{place}/{n}') for place in map(make, map(str, range(900))) for n in range(20)]",
    "files while it trains": "aside(lambda: touch(f's{next(names)}'))",
    "files that are renamed": "[touch(f'r{n}') for n in range(2000)]; aside(lambda: os.rename(*['r0', 'r1'][::-1]))",
    "a folder that is renamed": "make('m'); [touch(f'm/{n}') for n in range(5000)]; "
    "aside(lambda: (os.rename('m', 'o'), os.rename('o', 'm')))",
    "deep folders": "nest(60)",
    "links": "[os.symlink('nothing', f'l{n}') for n in range(20_000)]",
    "signals without end": "aside(lambda: os.write(control, b'start\\n' * 500))",
    "reports without end": "aside(lambda: os.write(control, b'report 0.5 1\\n' * 300))",
    "a line without end": "aside(lambda: os.write(control, b'x' * 4096))",
    "output without end": "aside(lambda: print('x' * 9999))",
    "children that exit": "signal.signal(signal.SIGCHLD, signal.SIG_IGN); [child() for _ in range(300)]",
    "children that are not waited for": "[child() for _ in range(100)]",
    "threads": "[threading.Thread(target=time.sleep, args=(9,), daemon=True).start() for _ in range(100)]",
    "descriptors": "global kept; kept = [os.memfd_create('x') for _ in range(400)]",
    "sockets": "global kept; kept = [socket.socketpair() for _ in range(200)]",
    "a low priority": "os.nice(19)",
}
SAYS = {
    "never that it begins": ("trial.start()", "pass"),
    "that it begins, once it has trained": ("trial.start()", "skill += learn(2.0); trial.start()"),
    "that it begins, as it hands over": (
        "trial.start()",
        "tell = nightlab_guest._tell\nnightlab_guest._tell = lambda word: (tell('start'), tell(word))",
    ),
}


@pytest.mark.parametrize("how", by_default("50,000 files", of=STARVES))
def test_a_busy_supervisor_is_no_longer_training(clean: Trials, how: str) -> None:
    source = genome(training=f"0) + learn({BUDGET + 1.5}").replace("def load", ASIDE, 1)
    measured = clean.run(source.replace("trial.start()\n", f"trial.start()\n{STARVES[how]}\n", 1))
    assert measured.metric is None and measured.outcome in ("over budget", "over limit", "timed out"), measured


@pytest.mark.parametrize("how", by_default("never that it begins", of=SAYS))
def test_who_says_late_that_it_begins_has_begun(clean: Trials, how: str) -> None:
    measured = clean.run(genome(training=BUDGET + 1.5).replace(*SAYS[how], 1))
    assert measured.metric is None and measured.outcome in ("over budget", "timed out"), measured
