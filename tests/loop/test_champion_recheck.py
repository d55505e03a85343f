"""How a search lives with luck: close wins run twice, the champion is measured again, and seeds are nobody's own."""

from __future__ import annotations

import io
import math
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from support.labs import MEASURE, TinyLab
from support.processes import living
from support.tiers import by_default

from nightlab.core.config import LabConfig, StopRules
from nightlab.core.events import ProposalRefused, Rechecked, RunStarted
from nightlab.core.observer import Observer
from nightlab.core.source import code_lines, same_program, syntax_fault
from nightlab.core.types import Budget, Measurement, Metric, Trial
from nightlab.judge import Contestant, NeedsTrial, Noise, change_of_noise, make_rule
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.scheduler import Scheduler
from nightlab.session.replicates import ATTEMPTS, RECHECK_SEED, Replicates, contestant, replicates, runs
from nightlab.storage.git import Repo
from nightlab.storage.ledger import Ledger
from nightlab.ui.terminal.lines import LineObserver

pytestmark = pytest.mark.integration

CONTRACT = """\
name = "lucky"
genome = ["genome.py"]
command = "python measure.py"

[metric]
name = "loss"
lowest = 0

[budget]
amount = 20
startup = 20
evaluation = 20

[judge]
{judge}

[sandbox]
allow_missing = ["files", "network", "processes", "privileges"]

[[proposers]]
kind = "patches"
"""

LUCKY = """\
import os, random
from genome import A
draw = random.Random(f"{os.environ['NIGHTLAB_SEED']} {A}")
print(f"METRIC loss={A + draw.uniform(-0.01, 0.01):.6f}")
"""
SHRUNK = 'rule = "shrunk"\nsigma = 0.2\nconfirm = 0\nupkeep = {}'
PURPOSE = {"search": 0, "upkeep": 1}


@pytest.fixture
def lucky(make_lab: Any) -> Any:
    """A lab whose ideas are values of A: what a genome measures, give or take a seed's luck."""

    def make(judge: str, *values: float, measure: str = LUCKY) -> TinyLab:
        lab: TinyLab = make_lab("A = 10.0\n", measure, contract=CONTRACT.format(judge=judge))
        ideas(lab, *values)
        return lab

    return make


def ideas(lab: TinyLab, *values: float) -> None:
    """Patches on each other, as if each had been kept."""
    repo, before = Repo(lab.folder), len(list(lab.folder.glob("ideas/*")))
    base = repo.resolve() or ""
    for n, value in enumerate(values, 1 + before):
        made = repo.commit_files(base, {"genome.py": f"A = {value}\n"}, "x")
        lab.write(f"ideas/{n:02}.patch", f"Hypothesis: A is {value}\n{repo.diff(base, made)}")


def ran(ledger: Ledger, *numbers: int) -> dict[int, list[tuple[str, int]]]:
    """Purpose and seed of each trial that counts, by experiment."""
    found: dict[int, list[tuple[str, int]]] = {}
    for trial, measured in ledger.trials():
        if measured and measured.outcome == "measured" and not measured.disturbed:
            found.setdefault(trial.experiment, []).append((trial.purpose, trial.seed))
    return {n: found[n] for n in numbers} if numbers else found


def verdicts(ledger: Ledger) -> list[tuple[str, str]]:
    return [(e.verdict.status, e.verdict.reason) for e in ledger.experiments() if e.verdict]


def read(lab: TinyLab) -> Ledger:
    return Ledger(lab.folder / ".nightlab" / "t" / "ledger.db", read_only=True)


# -- the rules in real sessions ------------------------------------------------------------------------


@pytest.mark.parametrize("slots", by_default(2, of=[1, 2]))
def test_only_a_close_win_runs_twice(lucky: Any, slots: int) -> None:
    lab = lucky(SHRUNK.format(0), 8.0, 7.95, 9.0)
    _, session = lab.run(slots=slots)
    ledger = session.ledger
    said = verdicts(ledger)
    assert said[0] == ("keep", "baseline") and said[2:] == [("keep", "improved"), ("discard", "regressed")]
    # With two slots the second idea may be judged before the first, which is no gain over it.
    assert said[1] == ("keep", "improved") or (slots == 2 and said[1] == ("discard", "inconclusive"))
    search = {
        n: [("search", seed) for seed in seeds] for n, seeds in {0: (1, 2), 1: (2,), 2: (2, 10004), 3: (10004,)}.items()
    }
    if slots == 1:
        assert ran(ledger) == search
    else:  # where the second idea is judged first, it is a clear win too
        found = ran(ledger, 0, 3)
        assert sorted(found[0]) == search[0] and len(found[3]) == 1
    values = [m.metric for _, m in ledger.trials(0) if m]
    assert ledger.experiment(0).bar == pytest.approx(fmean(values)) == ledger.experiment(0).measurement.metric
    assert ledger.experiment(0).measurement.runs == 2

    # The session's noise by hand: one degree of freedom of belief, and one more of each genome that ran twice.
    groups = [[m.metric for _, m in ledger.trials(e.number) if m] for e in ledger.experiments()]
    twice = [group for group in groups if len(group) == 2]
    sigma = math.sqrt((0.2**2 + sum(stdev(group) ** 2 for group in twice)) / (1 + len(twice)))
    noise = replicates(ledger, session.budget.record(), session.lab).noise()
    assert (noise.sigma, noise.df, noise.replicates) == (pytest.approx(sigma), 1 + len(twice), len(twice))
    if slots == 1:
        one, two = ledger.experiment(1), ledger.experiment(2)
        assert one.measurement.metric < one.bar < one.measurement.metric + 0.1, "a clear win has little luck in it"
        assert two.measurement.metric + 0.07 < two.bar <= one.bar, "a close one may be luck alone"


@pytest.mark.parametrize(
    ("judge", "values", "status"),
    [
        ('rule = "strict"\nsigma = 0.05\nconfirm = 0', (9.0, 8.9, 9.5), ["keep", "keep", "keep", "discard"]),
        ('rule = "replicate"\nseeds = 2\nconfirm = 0', (9.0, 9.5), ["keep", "keep", "discard"]),
    ],
)
def test_champion_and_candidate_meet_the_same_seeds(
    lucky: Any, judge: str, values: tuple[float, ...], status: list[str]
) -> None:
    _, session = lucky(judge, *values).run()
    assert [found for found, _ in verdicts(session.ledger)] == status
    met = {n: {seed for _, seed in found} for n, found in ran(session.ledger).items()}
    if "replicate" in judge:
        assert all(seeds == {1, 2} for seeds in met.values())
    else:  # as many as the evidence takes, and no more: the second win is close
        assert met[0] == {1} == met[3] and met[1] == met[2] > {1}
    assert all(count == 1 for found in ran(session.ledger).values() for count in Counter(found).values())


def test_a_champion_that_fails_on_a_later_seed_does_not_stop_the_search() -> None:
    good, crash = Measurement("measured", 10.0), Measurement("crashed")
    champion = Contestant({1: good, 2: crash}, 1, 10.0)
    candidate = Contestant({1: Measurement("measured", 9.9), 2: Measurement("measured", 9.9)}, 1)
    decision = make_rule("strict").compare(Metric("loss"), champion, candidate, Noise(0.5, 9))
    assert not (isinstance(decision, NeedsTrial) and (decision.who, decision.seed) == ("champion", 2))


# -- upkeep --------------------------------------------------------------------------------------------


def test_the_champion_is_measured_again_after_so_many_experiments(lucky: Any) -> None:
    lab = lucky(SHRUNK.format(2), 8.0, 9.0, 9.1, 9.2, 9.3)
    session, out = lab.session(), io.StringIO()
    ExperimentLoop(session, StopRules(), Scheduler(session, LineObserver(Console(file=out, width=200)))).run()
    ledger, metric = session.ledger, session.metric
    notes = ledger.events(Rechecked)
    assert [(note.number, note.after) for note in notes] == [(1, 2), (1, 4)]
    assert notes[0].seeds[0] == RECHECK_SEED
    seeds = [seed for note in notes for seed in note.seeds]
    assert len(set(seeds)) == len(seeds) and not set(seeds) & {s for p, s in ran(ledger, 1)[1] if p == "search"}
    assert {s for p, s in ran(ledger, 1)[1] if p == "upkeep"} == set(seeds)
    bar, weight = ledger.experiment(1).verdict.bar, 1
    for note in notes:
        assert note.before == pytest.approx(bar)
        for value in note.values:
            moved = bar + (value - bar) / (weight + 1)
            assert abs(value - moved) < abs(value - bar)
            bar, weight = moved, weight + 1
        assert note.bar == pytest.approx(bar)
        assert note.would in ("keep", "discard")
    assert ledger.experiment(1).bar == pytest.approx(bar) == notes[-1].bar
    assert ledger.next_number() == 6 and len(lab.table()) == 7, "an upkeep is no experiment"
    said = out.getvalue()
    assert said.count("champion re-check: #1 counts as loss") == 2 and "self-test: the rule" in said
    for note in notes:
        assert f"counts as {metric.name} {note.bar:.6f}, it was {note.before:.6f}" in said


def test_the_original_s_rule_never_looks_back(lucky: Any) -> None:
    _, session = lucky('rule = "greedy"\nupkeep = 1\nconfirm = 0', 9.0, 9.5).run()
    notes = session.ledger.events(Rechecked)
    assert [note.after for note in notes] == [1, 2] and all(len(note.values) == 1 for note in notes)
    kept = session.ledger.experiment(1)
    assert kept.bar == kept.measurement.metric and all(note.bar == kept.bar for note in notes)


def test_upkeep_without_end_counts_the_latest_and_takes_no_other_question_s_seeds(
    lucky: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nightlab.loop.champion_recheck.CONFIRM_SEED", RECHECK_SEED + 4)
    for room in ("nightlab.loop.champion_recheck", "nightlab.session.replicates"):
        monkeypatch.setattr(f"{room}.RECHECKS", 2)
    _, session = lucky('rule = "greedy"\nupkeep = 1\nconfirm = 0', *(11.0 + n for n in range(6))).run()
    notes, ledger = session.ledger.events(Rechecked), session.ledger
    assert [note.number for note in notes] == [0] * 6
    seeds = [seed for note in notes for seed in note.seeds]
    assert seeds == [RECHECK_SEED + n % 4 for n in range(len(seeds))] and len(seeds) > 4
    counted = contestant(ledger, ledger.experiment(0), same_seeds=False).runs
    search = {trial.seed for trial, _ in ledger.trials(0, "search")}
    assert set(counted) - search == set(seeds[-2:])


@pytest.mark.parametrize("between", ["nothing", "a try"])
def test_a_champion_from_another_machine_is_measured_again(lucky: Any, nightlab: Any, between: str) -> None:
    lab = lucky('rule = "greedy"\nupkeep = 25\nconfirm = 0', 9.0)
    session = lab.session()
    session.ledger.append(RunStarted("another machine"))
    ExperimentLoop(session, StopRules(), Scheduler(session, Observer())).run()
    [first] = [n for n in session.ledger.events(RunStarted) if n.platform != "another machine"]
    assert session.ledger.events(Rechecked) == [], "what was measured since is of this machine"
    session.close()

    # The same ledger, as if the whole search so far had been elsewhere.
    with sqlite3.connect(lab.folder / ".nightlab/t/ledger.db") as db:
        db.execute(
            "UPDATE events SET data = json_set(data, '$.platform', 'another machine') WHERE kind = 'opened' AND at = ?",
            (first.at,),
        )
    db.close()
    if between == "a try":
        lab.write("genome.py", "A = 9.7\n")
        assert "conflict" in nightlab("try", cwd=lab).err
        lab.git("checkout", "-q", "genome.py")
    ideas(lab, 9.6)
    said: list[str] = []
    session = lab.session()
    view = Observer()
    view.say = said.append  # type: ignore[method-assign]
    ExperimentLoop(session, StopRules(), Scheduler(session, view)).run()
    assert [note.number for note in session.ledger.events(Rechecked)] == [1]
    if between == "nothing":  # else the try has said it
        assert [words for words in said if "the champion runs again" in words and "another machine" in words]


# -- kill -9 -------------------------------------------------------------------------------------------

STEPS = """\
import os, signal, sys
from pathlib import Path
from nightlab.storage.ledger import Ledger
from nightlab.storage.git import Repo
from nightlab.core.config import StopRules
from nightlab.loop.scheduler import Scheduler
from nightlab.loop.loop import ExperimentLoop
from nightlab.session.session import Session
from nightlab.engines.local.engine import LocalEngine
from nightlab.core.observer import Observer
lab, target, wanted, when = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
room, name = target.split(".")
owner = {"ledger": Ledger, "box": LocalEngine}[room]
real = getattr(owner, name)
def struck(self, *args, **more):
    mine = not wanted or wanted in str(args)
    if mine and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    done = real(self, *args, **more)
    if mine:
        os.kill(os.getpid(), signal.SIGKILL)
    return done
setattr(owner, name, struck)
session = Session(Repo(lab), "t", writer=True)
ExperimentLoop(session, StopRules(), Scheduler(session, Observer())).run()
"""


def night_of_luck(folder: Path) -> TinyLab:
    """A lab with a session that is about to measure a close win: a second run, and an upkeep, are ahead."""
    lab = TinyLab(folder)
    for path, text in {
        "lab.toml": CONTRACT.format(judge=SHRUNK.format(1)),
        "genome.py": "A = 10.0\n",
        "measure.py": LUCKY,
    }.items():
        lab.write(path, text)
    lab.git("init", "-q", "--template=", "-b", "main")
    lab.commit()
    ideas(lab, 9.9)
    lab.session().close()
    return lab


def story(lab: TinyLab) -> dict[str, Any]:
    """What a session found out, without when."""
    ledger = read(lab)
    keys = ("number", "before", "bar", "seeds", "values", "after", "would", "sigma")
    told = {
        "verdicts": [(e.candidate.hypothesis, e.verdict, e.bar) for e in ledger.experiments()],
        "upkeep": [{key: getattr(note, key) for key in keys} for note in ledger.events(Rechecked)],
        "trials": sorted(
            (t.experiment, t.purpose, t.seed, m.metric)
            for t, m in ledger.trials()
            if m and m.outcome == "measured" and not m.disturbed
        ),
        "open": ledger.open_trials(),
        "table": [(row[1], row[3], row[5]) for row in lab.table()[1:]],
    }
    ledger.close()
    return told


@pytest.fixture(scope="module")
def ready(tmp_path_factory: Any) -> tuple[TinyLab, dict[str, Any]]:
    """A lab about to run, and what an undisturbed session finds in it."""
    lab = night_of_luck(tmp_path_factory.mktemp("ready") / "lab")
    calm = lab.copied(lab.folder.parent / "calm")
    calm.run()[1].close()
    return lab, story(calm)


def test_the_undisturbed_night(ready: tuple[TinyLab, dict[str, Any]]) -> None:
    told = ready[1]
    met = Counter((number, purpose) for number, purpose, *_ in told["trials"])
    assert met[0, "search"] == met[1, "search"] == 2 and len(told["upkeep"]) == 1
    assert met[1, "upkeep"] == len(told["upkeep"][0]["seeds"]) >= 1


def also(*step: str) -> Any:
    """A step for the machine tier: the default run tries those at which most is under way."""
    return pytest.param(*step, marks=pytest.mark.machine)


@pytest.mark.parametrize(
    ("step", "about", "when"),
    [
        ("ledger.start", "0001-search-s1", "after"),  # a second run is announced, nothing runs
        also("ledger.finish", "0001-search-s1", "before"),  # it has ended, nobody wrote it down
        ("box.start", "0001-upkeep-s501", "after"),  # its supervisor may not be up yet
        also("ledger.finish", "0001-upkeep-s501", "after"),  # measured, and not yet an upkeep
        also("ledger.append", "Rechecked(", "after"),
    ],
)
def test_a_kill_changes_nothing_that_a_session_finds(
    ready: tuple[TinyLab, dict[str, Any]], tmp_path: Path, step: str, about: str, when: str
) -> None:
    lab = ready[0].copied(tmp_path / "lab")
    command = [sys.executable, "-c", STEPS, str(lab.folder), step, about, when]
    died = subprocess.run(command, capture_output=True, text=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    done = read(lab).trials()
    lab.run()[1].close()
    assert story(lab) == ready[1]
    before = {t.id: m for t, m in done if m}
    assert {t.id: m for t, m in read(lab).trials() if t.id in before} == before, "what was measured stays as it was"
    others = [m.outcome for _, m in read(lab).trials() if m and m.outcome != "measured"]
    assert others in ([["lost"]] if step == "ledger.start" else [[], ["lost"]] if step == "box.start" else [[]])
    assert living(lab.folder) == []


# -- seeds, layout, impossible numbers -----------------------------------------------------------------

PROGRAM = '''\
"""What it does."""
A = 4.0  # the start
B = 8
SEED = 1


def step(x, seed=3):
    """One step."""
    # of many
    return x
'''


def test_a_program_that_is_the_same_but_for_seeds_or_layout_costs_nothing(make_lab: Any, nightlab: Any) -> None:
    lab: TinyLab = make_lab(PROGRAM, MEASURE)
    changes = {
        "another seed": ("SEED = 1", "SEED = 2"),
        "another default": ("seed=3", "seed=4"),
        "a comment": ("  # the start", "  # the beginning"),
        "no docstring": ('    """One step."""\n', ""),
        "no title": ('"""What it does."""\n', ""),
        "blank lines": ("B = 8\n", "\n\n\nB = 8\n"),
        "brackets": ("B = 8", "B = (8)"),
    }
    for n, (hypothesis, (old, new)) in enumerate(changes.items()):
        assert old in PROGRAM
        lab.idea(f"{n:02}", PROGRAM.replace(old, new), hypothesis)
    lab.idea("99", PROGRAM.replace("A = 4.0", "A = 2.0"), "a change")
    _, session = lab.run()
    refused = {note.hypothesis: note.reason for note in session.ledger.events(ProposalRefused)}
    assert list(refused) == list(changes)
    assert all("nothing but layout, comments or seeds" in reason for reason in refused.values())
    assert [(e.number, e.candidate.hypothesis) for e in session.ledger.experiments()] == [
        (0, "baseline"),
        (1, "a change"),
    ]
    assert ran(session.ledger) == {0: [("search", 1)], 1: [("search", 1)]}
    session.close()

    lab.write("genome.py", PROGRAM.replace("SEED = 1", "SEED = 5"))
    mine = nightlab("try", cwd=lab)
    assert mine.code == 1 and "nothing but layout, comments or seeds" in mine.err, mine.out
    assert len(read(lab).trials()) == 2


def test_a_number_that_can_not_be_is_tampering(lucky: Any) -> None:
    _, session = lucky('rule = "greedy"\nupkeep = 0\nconfirm = 0', -3.0, 9.0).run()
    assert verdicts(session.ledger) == [("keep", "baseline"), ("discard", "tampered"), ("keep", "improved")]
    detail = session.ledger.experiment(1).verdict.detail
    assert "loss -2.99" in detail or "loss -3" in detail
    assert "is outside of 0 to inf" in detail and session.champion().number == 2


def same(before: str, after: str) -> bool:
    return same_program("genome.py", before, after)


def test_what_is_the_same_program() -> None:
    for before, after in [
        ("SEED = 1", "SEED = 2"),
        ("seed: int = 1", "seed: int = -7"),
        ("torch.manual_seed(1)", "torch.manual_seed(2)"),
        ("rng = random.Random(1)", "rng = random.Random(2)"),
        ("rng = np.random.default_rng(1)", "rng = np.random.default_rng(2)"),
        ("f(x, seed=1)", "f(x, seed=2)"),
        ("c = {'seed': 1, 'b': 2}", "c = {'seed': 3, 'b': 2}"),
        ("def f(*, init_seed=1): g()", "def f(*, init_seed=2): g()"),
        ("def f():\n  'doc'", "def f(): pass"),
        ("x = 1", "x=1;"),
    ]:
        assert same(before, after) and same(after, before), (before, after)
    for before, after in [
        ("A = 1", "A = 2"),
        ("SEED = 1", "SEED = best()"),
        ("c = {'seed': 1, 'b': 2}", "c = {'seed': 1, 'b': 3}"),
        ("def f(x=1, seed=1): g()", "def f(x=2, seed=1): g()"),
        ("f(1, seed=1)", "f(2, seed=1)"),
        ("seeded = 1", "seeded = 2"),
        ("x = 'a'", "x = 'b'"),
        ("A = 1", "A = ("),
    ]:
        assert not same(before, after), (before, after)
    assert not same_program("a.txt", "seed 1", "seed 2") and same_program("a.txt", "seed 1", "seed 1")


def test_how_long_a_program_is() -> None:
    plain = "A = 1\n\n\ndef f(x):\n    return x\n"
    told = '"""What."""\n\nA = 1  # one\n\n# and\n\n\ndef f(x):\n    """How."""\n    return (\n        x\n    )\n'
    assert code_lines("g.py", plain) == code_lines("g.py", told) < code_lines("g.py", plain + "B = 2\n")
    assert code_lines("g.py", "x = '''a\nb\nc'''\n") == 1
    assert code_lines("a.txt", "one\n\n  \ntwo\n") == 2 and code_lines("g.py", "") == 0
    assert code_lines("g.py", "no python (\n\nat all\n") == 2
    assert code_lines("k.cu", "/* one\ntwo */\nint x; // three\n") == 1


DEEP = "A = " + "+".join(["1"] * 900) + "\n"


def test_a_program_too_deep_to_walk_is_still_a_program() -> None:
    assert syntax_fault("g.py", DEEP) is None
    assert code_lines("g.py", DEEP) == 1
    assert same("B = 1\n" + DEEP, "B = 1\n" + DEEP) and not same(DEEP, DEEP + "B = 1\n")
    assert code_lines("g.py", "x = f'''{len(\"\"\"\n\"\"\")}'''\n") >= 1


odd = ["seed", " = ", "1", "(", ")", "\n", "    ", "def f(", "):", "'''", '"', "f'{x!r:\n}'", "#", "\\", "\0", "é", ";"]
odd += ["class A: ", "lambda seed=1: ", "{'seed': -1}", "[" * 60, "-" * 120, "torch.manual_seed(", "*", "pass", "\f"]
fragments = st.sampled_from(odd)


@given(st.one_of(st.text(max_size=200), st.lists(fragments, max_size=25).map("".join)), st.text(max_size=20))
def test_no_text_is_too_odd(text: str, other: str) -> None:
    for path in ("g.py", "g.txt"):
        assert code_lines(path, text) >= 0
        assert same_program(path, text, text)
        assert same_program(path, text, other) == same_program(path, other, text)


# -- what counts ---------------------------------------------------------------------------------------

BUDGET = Budget("wall", 20)


def trial(seed: int, attempt: int = 1, purpose: Any = "search", commit: str = "c", experiment: int = 1) -> Trial:
    return Trial(f"{experiment}-{purpose}-{seed}-{attempt}", experiment, commit, seed, purpose, BUDGET, attempt)


def test_which_trials_count() -> None:
    good, second = Measurement("measured", 1.0), Measurement("measured", 2.0)
    noisy, cut = Measurement("measured", 9.0, disturbed="neighbours"), Measurement("interrupted")
    gone, crash = Measurement("lost"), Measurement("crashed")
    assert runs([(trial(1), None), (trial(2), good)]) == {2: good}, "one still runs"
    assert runs([(trial(1), cut), (trial(1, 2), good), (trial(1, 3), second)]) == {1: good}, "the first that counts"
    assert runs([(trial(1), noisy), (trial(2), good)]) == {2: good}
    assert runs([(trial(1), crash), (trial(1, 2), good)]) == {1: crash}
    for times in range(1, ATTEMPTS):
        assert runs([(trial(1, n), gone) for n in range(times)]) == {}
    lost = runs([(trial(1, n), gone) for n in range(ATTEMPTS)])[1]
    assert (lost.outcome, lost.detail) == ("lost", f"lost {ATTEMPTS} times: ")
    assert runs([(trial(1), gone), (trial(2), gone), (trial(3), gone)]) == {}, "each seed has its own attempts"
    assert runs([(trial(501, purpose="upkeep"), good)]) == {} != runs([(trial(501, purpose="upkeep"), good)], "upkeep")


def test_the_noise_is_learned_from_the_latest_repeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few as they are, each repeat counts; later the first of them don't, and the baseline's always do."""
    ledger, draw = Ledger(tmp_path / "l.db"), random.Random(1)
    ledger._db.execute("PRAGMA synchronous = OFF")
    values: dict[str, list[float]] = {}
    for n in [0, 0, *range(1, 9), *range(1, 9), 8]:
        genome = f"g{n}"
        seeds = values.setdefault(genome, [])
        seeds.append(draw.gauss(n, 1))
        one = trial(len(seeds), experiment=n, commit=genome)
        ledger.start(one)
        ledger.finish(one, Measurement("measured", seeds[-1]))
    lab = LabConfig.recorded({"name": "lab", "genome": ["g"], "command": "run", "metric": {"name": "loss"}})
    found = replicates(ledger, BUDGET, lab)
    assert sorted(found.groups()) == sorted(values.values()) and found.baseline == values["g0"][0]
    monkeypatch.setattr("nightlab.session.replicates.REPEATS", 4)
    latest = [values[name] for name in ("g0", "g6", "g7", "g8")]
    few = replicates(ledger, BUDGET, lab)
    assert few.groups() == latest and few.noise().replicates == 1 + 1 + 1 + 2 and few.baseline == found.baseline


def test_noise_in_proportion_to_a_value_that_fell_has_not_changed() -> None:
    draw = random.Random(1)
    for scale, changed in (("difference", True), ("ratio", False)):
        found = Replicates(BUDGET, None, scale)
        for commit, level in (("base", 100.0), ("a", 1.0)):
            for seed in range(8):
                value = level * math.exp(draw.gauss(0, 0.1))
                found.add(trial(seed, experiment=0, commit=commit), Measurement("measured", value))
        change = change_of_noise([list(values.values()) for values in found.on_scale()])
        assert bool(change) is changed, change


def test_the_noise_of_a_session_is_that_of_its_replicates() -> None:
    found = Replicates(BUDGET, None)
    assert found.noise().sigma == 0
    found.add(trial(1, experiment=0, commit="base"), Measurement("measured", 100.0))
    assert found.noise().sigma == pytest.approx(0.04), "a share of the baseline, until something ran twice"
    draw = random.Random(1)
    groups = {name: [draw.gauss(5, 1) for _ in range(n)] for name, n in (("a", 4), ("b", 2), ("c", 1))}
    for name, values in groups.items():
        for seed, value in enumerate(values, 1):
            purpose = "confirm" if seed > 2 else "search"
            found.add(trial(seed, purpose=purpose, commit=name), Measurement("measured", value))
    found.add(trial(9, commit="a", purpose="replay"), Measurement("measured", 99.0))
    found.add(trial(9, commit="a"), Measurement("measured", 99.0, disturbed="neighbours"))
    found.add(trial(9, commit="a"), Measurement("crashed"))
    found.add(trial(9, commit="a"), None)
    found.add(Trial("x", 1, "a", 9, "transfer", Budget("wall", 80)), Measurement("measured", 99.0))
    squares = sum((v - fmean(g)) ** 2 for g in groups.values() for v in g)
    noise = found.noise()
    assert noise.replicates == 4 and noise.df == 5
    assert noise.sigma == pytest.approx(math.sqrt((0.04**2 + squares) / 5))
    stated = Replicates(BUDGET, 0.5)
    stated.add(trial(1, experiment=0), Measurement("measured", 100.0))
    assert stated.noise().sigma == 0.5
