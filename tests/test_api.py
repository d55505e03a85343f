"""The Python API: sessions run, asked and told by a program, in threads, beside others, and after a kill."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support.labs import TinyLab
from support.processes import PATIENCE, program_env, wait

import nightlab
from nightlab.commons.finding import finding_body
from nightlab.session.session import open_session
from nightlab.storage.ledger import Ledger

SLOW = "import time\ntime.sleep(0.5)\n"
ENDLESS = "import time\nfrom genome import A\ntime.sleep(0 if A == 4 else 600)\nprint('METRIC loss=1')\n"


def events(lab: TinyLab, tag: str = "t") -> list[tuple[str, dict[str, Any]]]:
    """What happened in a session: the kind of each event, and its data."""
    ledger = Ledger(lab.folder / ".nightlab" / tag / "ledger.db", read_only=True)
    found = [(event.kind, event.to_dict()) for event in ledger.journal()]
    ledger.close()
    return found


def statuses(session: nightlab.Session) -> list[tuple[int, str | None]]:
    return [(e.number, e.verdict.status if e.verdict else None) for e in session.experiments()]


@pytest.fixture
def lab(make_lab: Any) -> TinyLab:
    return make_lab(proposer="tuner")


# -- labs ----------------------------------------------------------------------------------------------


def test_a_lab_says_what_it_is_and_what_a_session_needs(lab: TinyLab, tmp_path: Path) -> None:
    opened = nightlab.Lab(lab.folder)
    assert opened.name == "tiny" and opened.metric.name == "loss" and opened.sessions() == []
    checks = opened.check(allow_missing="all")
    assert all(check.ok or not check.fatal for check in checks) and checks[0].what.startswith("genome: genome.py")
    lab.write("genome.py", "A = 5\n")
    unclean = next(check for check in opened.check() if "uncommitted" in check.what)
    assert not unclean.ok and unclean.fatal and "git commit" in unclean.hint

    made = nightlab.Lab.new(tmp_path / "faster", template="speed")
    assert made.name == "speed" and (tmp_path / "faster" / "lab.toml").exists()


@pytest.mark.parametrize(("path", "words"), [("nowhere", "is not a folder"), ("plain", "git"), ("lab", "no lab.toml")])
def test_what_is_no_lab_is_refused_with_a_hint(make_lab: Any, tmp_path: Path, path: str, words: str) -> None:
    (tmp_path / "plain").mkdir()
    lab = make_lab()
    lab.git("rm", "-q", "lab.toml", "measure.py")
    lab.commit()
    with pytest.raises(nightlab.NightlabError, match=words) as refusal:
        nightlab.Lab(tmp_path / path)
    assert refusal.value.hint


def test_names_that_do_not_exist_are_refused_before_anything_runs(lab: TinyLab) -> None:
    opened = nightlab.Lab(lab.folder)
    for wrong, words in (
        ({"judge": "generous"}, "generous"),
        ({"proposers": ["oracle"]}, "oracle"),
        ({"proposers": [object()]}, "has no name, propose"),
        ({"selection": "roulette"}, "roulette"),
        ({"judge": object()}, "has no compare"),
        ({"allow_missing": "everything"}, "no protection everything"),
        ({"engine": "punched cards"}, "punched cards"),
    ):
        with pytest.raises(nightlab.NightlabError, match=words) as refusal:
            opened.session("t", **wrong)  # type: ignore[arg-type]
        assert refusal.value.hint
        assert opened.sessions() == [], "no empty session is left"
    with opened.session("t") as session, pytest.raises(nightlab.NightlabError, match=r"stop\.experiments"):
        session.run(experiments=0)


# -- running -------------------------------------------------------------------------------------------


def test_a_run_says_why_it_ended_and_what_it_found(lab: TinyLab) -> None:
    heard: list[tuple[int, int]] = []
    with nightlab.Lab(lab.folder).session("t") as session:
        with pytest.raises(nightlab.NightlabError, match="no measured baseline"):
            _ = session.champion
        result = session.run(experiments=3, callbacks=[lambda s, e: heard.append((e.number, s.champion.number))])
        assert result.reason == "3 experiments are done" and not result.stopped
        assert result.champion == session.champion and result.tally["keep"] == len(session.experiments("keep"))
        assert [number for number, _ in heard] == [0, 1, 2, 3] and heard[-1][1] == session.champion.number
        assert session.report() == session.folder / "report.html"
        assert (session.folder / "results.tsv").read_text().count("\n") == 5
        again = session.run(experiments=4, confirm=3)
        assert again.evidence and again.evidence.gain.pairs == 3
        assert session.confirm(3).gain.mean == pytest.approx(again.evidence.gain.mean)
        assert lab.git("rev-parse", session.branch) == session.champion.candidate.commit
    with pytest.raises(nightlab.NightlabError, match="closed"):
        session.run(experiments=9)
    assert nightlab.Lab(lab.folder).sessions() == ["t"]


def test_a_callback_stops_a_run_and_one_that_raises_is_dropped(lab: TinyLab) -> None:
    class Heard(nightlab.Callback):
        result: nightlab.RunResult | None = None

        def searched(self, result: nightlab.RunResult) -> None:
            self.result = result

    def fail(session: nightlab.Session, experiment: nightlab.Experiment) -> None:
        calls.append(experiment.number)
        raise RuntimeError("no [/] more")

    class Broken(nightlab.Callback):
        def started(self, experiment: nightlab.Experiment, trial: object) -> None:
            raise ValueError("broken")

    calls: list[int] = []
    out = io.StringIO()
    heard = Heard()
    with nightlab.Lab(lab.folder).session("t") as session:
        result = session.run(experiments=9, callbacks=[lambda s, e: e.number == 1 and s.stop(), heard])
        assert result.stopped and heard.result == result and len(session.experiments()) == 2
        assert result.reason == "stopped by the program"
        lines = nightlab.LineObserver(Console(file=out, width=200))
        with pytest.warns(RuntimeWarning) as warned:
            result = session.run(experiments=3, callbacks=[fail, Broken(), lines, heard])
        assert result.reason == "3 experiments are done" and heard.result == result and len(calls) == 1
        said = [str(one.message) for one in warned if "callback" in str(one.message)]
        assert sorted(said) == [
            "callback Broken failed and is not called any more: ValueError: broken",
            "callback fail failed and is not called any more: RuntimeError: no [/] more",
        ]
        assert all(out.getvalue().count(words) == 1 for words in said)
        with pytest.warns(RuntimeWarning, match="a callback can't run it"):
            session.run(experiments=4, callbacks=[lambda s, e: s.run()])
        assert session.run(experiments=5).reason == "5 experiments are done"


def test_a_session_runs_in_a_thread_while_another_runs_in_the_main_thread(make_lab: Any) -> None:
    one, two = (nightlab.Lab(make_lab(proposer="tuner", name=name).folder) for name in ("one", "two"))
    results = {}
    with one.session("t") as first, two.session("t") as second:
        thread = threading.Thread(target=lambda: results.update(first=first.run(experiments=3)))
        thread.start()
        results["second"] = second.run(experiments=3)
        thread.join()
        assert {result.reason for result in results.values()} == {"3 experiments are done"} and len(results) == 2
        assert len(first.experiments()) == len(second.experiments()) == 4


def test_two_runs_of_one_session_at_once_are_refused(make_lab: Any) -> None:
    lab = nightlab.Lab(make_lab(proposer="tuner", measure=ENDLESS).folder)
    with lab.session("t") as session:
        results: list[nightlab.RunResult] = []
        thread = threading.Thread(target=lambda: results.append(session.run(experiments=3)))
        thread.start()
        wait(lambda: len(session.experiments()) > 1)
        with pytest.raises(nightlab.NightlabError, match="another thread") as refusal:
            session.run(experiments=3)
        assert "session.stop()" in refusal.value.hint
        with pytest.raises(nightlab.NightlabError, match="already"):
            lab.session("t")
        session.stop(now=True)
        thread.join()
        assert results[0].stopped and statuses(session) == [(0, "keep"), (1, None)]


# -- without the loop ----------------------------------------------------------------------------------


def test_ask_measure_tell_goes_where_the_loop_goes(make_lab: Any) -> None:
    labs = [make_lab(proposer="tuner", name=name) for name in ("loop", "steps")]
    with nightlab.Lab(labs[0].folder).session("t", seed=7) as session:
        session.run(experiments=3)
    with nightlab.Lab(labs[1].folder).session("t", seed=7) as session:
        for _ in range(4):
            trial = session.ask()
            assert trial and (trial.folder / "genome.py").read_text() == trial.genome["genome.py"]
            copy = trial.folder
            experiment = session.tell(trial, session.measure(trial))
            assert experiment.verdict and experiment.number == trial.experiment.number and not copy.exists()
    rows = [[row[1:4] + row[5:] for row in lab.table()] for lab in labs]
    strip = [[[c for n, c in enumerate(row) if n != 6] for row in table] for table in rows]
    assert [[row[0], row[2], row[3]] for row in strip[0]] == [[row[0], row[2], row[3]] for row in strip[1]]


def test_the_judge_wants_another_trial_and_a_told_number_is_recorded_as_told(make_lab: Any) -> None:
    lab = nightlab.Lab(make_lab(proposer="tuner").folder)
    with lab.session("t", judge="replicate") as session:
        seeds = []
        while True:
            trial = session.ask()
            assert trial
            seeds.append(trial.seed)
            with pytest.raises(nightlab.NightlabError, match="no slot is free"):
                session.ask()
            if (experiment := session.tell(trial, 0.5)).verdict:
                break
        assert len(set(seeds)) == 3 and experiment.measurement and "told" in experiment.measurement.detail
        with pytest.raises(nightlab.NightlabError, match="does not wait"):
            session.tell(trial, 0.4)
        trial = session.ask()
        assert trial
        with pytest.raises(nightlab.NightlabError, match="is no measurement"):
            session.tell(trial, "small")  # type: ignore[arg-type]
        measured = session.measure(trial)
        with pytest.raises(nightlab.NightlabError, match="ran already"):
            session.measure(trial)
        session.tell(trial, measured)
        session.report()
    assert "told by the caller" in (session.folder / "report.md").read_text()


def test_what_a_program_told_is_no_finding_for_others(lab: TinyLab) -> None:
    with nightlab.Lab(lab.folder).session("t") as session:
        for value in (1.0, 0.5):
            trial = session.ask()
            assert trial
            experiment = session.tell(trial, value)
        assert experiment.kept
    with closing(open_session(lab.folder, "t")) as inner:
        with pytest.raises(nightlab.NightlabError, match="told by the caller") as refusal:
            finding_body(inner, inner.ledger.experiment(1), None, ())  # type: ignore[arg-type]  # refused before it matters
        assert refusal.value.hint


def test_trials_that_were_never_told_run_again(lab: TinyLab) -> None:
    opened = nightlab.Lab(lab.folder)
    with opened.session("t") as session:
        first = session.ask()
        assert first
    with opened.session("t") as session:
        again = session.ask()
        assert again and again.id != first.id and again.seed == first.seed
        result = session.run(experiments=1)  # takes over what was asked for
        assert result.reason == "1 experiment is done" and statuses(session)[0] == (0, "keep")


# -- what is brought along -----------------------------------------------------------------------------


class Shifts(nightlab.Proposer):
    """Proposes each of some values for B, and fails in between."""

    name = "shifts"

    def __init__(self, *values: object) -> None:
        self.values = list(values)

    def propose(self, briefing: nightlab.Briefing) -> Any:
        if not self.values:
            return None
        value = self.values.pop(0)
        if isinstance(value, Exception):
            raise value
        if not isinstance(value, int):
            return value
        text = re.sub(r"B = \d+", f"B = {value}", briefing.genome["genome.py"])
        return nightlab.Proposal("whatever", f"B {value}", files={"genome.py": text})

    def tell(self, proposal: nightlab.Proposal, refusal: str | None) -> None:
        if refusal:  # the champion moved on meanwhile
            self.values.insert(0, int(proposal.hypothesis.removeprefix("B ")))


def test_a_proposer_that_fails_loses_its_turn_and_the_session_goes_on(lab: TinyLab) -> None:
    mine = Shifts(ValueError("no idea"), 7, "not a proposal", nightlab.NoProposal("tired"), 30, 5)
    with nightlab.Lab(lab.folder).session("t", proposers=[mine]) as session:
        result = session.run()
        assert result.reason == "the proposers have nothing left to propose"
        assert statuses(session) == [(0, "keep"), (1, "keep"), (2, "discard"), (3, "keep")]
        assert [e.candidate.proposer for e in session.experiments()][1:] == ["shifts"] * 3
    found = events(lab)
    reasons = [data["reason"] for kind, data in found if kind == "refused"]
    lost = [reason for reason in reasons if "moved on" not in reason]
    assert lost == ["shifts raised ValueError: no idea", "shifts returned str, not a Proposal", "tired"]
    given = next(data for kind, data in found if kind == "overrides")
    assert given["proposers"][0]["name"] == "shifts"


def test_a_rule_and_a_selection_of_ones_own_decide(lab: TinyLab) -> None:
    class Never:
        baseline_runs, same_seeds = 1, True

        def compare(self, metric: Any, champion: Any, candidate: Any, noise: Any) -> nightlab.Verdict:
            return nightlab.Verdict("discard", "regressed", "never")

        def remeasured(self, bar: float, weight: int, value: float) -> float:
            return bar

    class Latest:
        memory = 1
        last: nightlab.Experiment | None = None

        def ask(self) -> nightlab.Experiment | None:
            return self.last

        def tell(self, experiment: nightlab.Experiment) -> None:
            self.last = experiment

    with nightlab.Lab(lab.folder).session("t", judge=Never(), selection=Latest()) as session:
        session.run(experiments=3)
        assert [status for _, status in statuses(session)] == ["keep", "discard", "discard", "discard"]
        numbers = {e.candidate.commit: e.number for e in session.experiments()}
        assert numbers[session.experiments()[-1].candidate.parent] > 0


# -- kills and interrupts ------------------------------------------------------------------------------

KILLED = """
import os, signal, sys, nightlab
def kill(session, experiment):
    if experiment.number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
session = nightlab.Lab(sys.argv[1]).session("t")
session.run(experiments=5, callbacks=[kill])
"""
INTERRUPTED = """
import sys, nightlab
session = nightlab.Lab(sys.argv[1]).session("t")
try:
    session.run(experiments=5, callbacks=[lambda s, e: print("judged", e.number, flush=True)])
except KeyboardInterrupt:
    print("interrupted", [e.verdict is not None for e in session.experiments()], flush=True)
    session.close()
"""


def program(text: str, lab: TinyLab, home: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(text), str(lab.folder)],
        env=program_env(home),
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_program_that_is_killed_is_resumed(lab: TinyLab, tmp_path: Path) -> None:
    process = program(KILLED, lab, tmp_path / "home")
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    with nightlab.Lab(lab.folder).session("t") as session:
        assert len([e for e in session.experiments() if e.verdict]) >= 3
        assert session.run(experiments=5).reason == "5 experiments are done"
        assert [number for number, _ in statuses(session)] == list(range(6))


def test_an_interrupt_ends_what_runs_and_loses_nothing(make_lab: Any, tmp_path: Path) -> None:
    lab = make_lab(proposer="tuner", measure=ENDLESS)
    process = program(INTERRUPTED, lab, tmp_path / "home")
    assert process.stdout and process.stdout.readline() == "judged 0\n"
    wait(lambda: any(kind == "started" and data["experiment"] == 1 for kind, data in events(lab)))
    os.kill(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=PATIENCE)
    assert out == "interrupted [True, False]\n" and process.returncode == 0
    assert [data["measurement"]["outcome"] for kind, data in events(lab) if kind == "finished"][-1] == "interrupted"


# -- one night, two doors ------------------------------------------------------------------------------

OWN = {"at", "wall_seconds", "training_seconds", "startup_seconds", "evaluation_seconds", "cpu_seconds", "waited"}
OWN |= {"peak_memory_mb", "machine", "proposed_at", "judged_at", "seconds", "secret", "drawn", "id"}


def same(value: Any) -> Any:
    """Facts without what differs between two runs of the same: times, memory, the state of the machine."""
    if isinstance(value, dict):
        return {key: same(one) for key, one in value.items() if key not in OWN}
    return [same(one) for one in value] if isinstance(value, list) else value


def test_the_command_and_the_api_write_the_same_ledger(make_lab: Any, nightlab: Any) -> None:
    import nightlab as api

    labs = [make_lab(proposer="patches", name=name) for name in ("command", "api")]
    for lab in labs:
        lab.git("commit", "-q", "--amend", "--no-edit", "--date", "2026-01-01T00:00:00Z")
        for n, (a, b) in enumerate([(2.0, 8), (9.0, 8), (2.0, 3), (1.5, 8)]):
            lab.idea(f"{n:02d}", f"A = {a}  # [0.25..8 log]\nB = {b}  # [1..16]\n", f"idea {n}")
    assert nightlab("run", "--tag", "t", "--experiments", "4", "--plain", cwd=labs[0]).code == 0
    with api.Lab(labs[1].folder).session("t") as session:
        session.run(experiments=4)
    one, two = ([(kind, same(data)) for kind, data in events(lab)] for lab in labs)
    names = {commit: number for lab in labs for number, commit in commits(lab)}
    assert renamed(one, names) == renamed(two, names)
    assert [kind for kind, _ in one].count("judged") == 5


def commits(lab: TinyLab) -> list[tuple[int, str]]:
    return [(data["number"], data["candidate"]["commit"]) for kind, data in events(lab) if kind == "proposed"]


def renamed(value: Any, names: dict[str, int]) -> Any:
    """Facts with a commit's experiment instead of its id, which holds the time of its lab's first commit."""
    if isinstance(value, dict):
        return {key: renamed(one, names) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [renamed(one, names) for one in value]
    return names.get(value, value) if isinstance(value, str) else value


# -- the package ---------------------------------------------------------------------------------------


@pytest.mark.integration
def test_importing_nightlab_imports_next_to_nothing() -> None:
    code = "import sys, nightlab; print([m for m in sys.modules if m.split('.')[0] in ('numpy', 'optuna', 'pydantic')])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
    code = "import sys, nightlab.api; print([m for m in ('numpy', 'optuna', 'scipy', 'torch') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_all_public_names_are_there_and_say_what_they_are() -> None:
    for name in nightlab.__all__:
        assert getattr(nightlab, name) is not None
    assert set(nightlab.__all__) <= set(dir(nightlab)) and (Path(nightlab.__file__).parent / "py.typed").exists()
    with pytest.raises(AttributeError, match="no attribute 'Study'"):
        _ = nightlab.Study
    for one in (nightlab.Lab, nightlab.Session):
        for name in vars(one):
            assert name.startswith("_") or getattr(one, name).__doc__, f"{one.__name__}.{name} says nothing of itself"


EXAMPLES = sorted(path for path in (Path(__file__).parents[1] / "examples").glob("*.py") if path.stem != "tiny_lab")


@pytest.mark.integration
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_run(path: Path, tmp_path: Path) -> None:
    if "pandas" in path.stem:
        pytest.importorskip("pandas")
    assert len(path.read_text().splitlines()) <= 40
    env = program_env(tmp_path / "home", TMPDIR=str(tmp_path))
    done = subprocess.run([sys.executable, str(path)], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout, done.stderr
