"""Whole sessions on tiny labs: what is kept and why, when it ends, what resumes, and every command's exit status."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from support.labs import TinyLab, lab_in
from support.observers import WAITS, Together
from support.processes import PATIENCE, wait

from nightlab.core.config import StopRules
from nightlab.core.events import ProposalRefused, RunStopped
from nightlab.core.types import NightlabError
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.scheduler import Scheduler
from nightlab.storage.ledger import Ledger

GENOME = """\
A = 4.0  # [0.25..8 log]
# 1
# 2
# 3
# 4
# 5
# 6
B = 8  # [1..16]
# 7
# 8
# 9
# 10
# 11
# 12
C = 0
"""

SEEDED = """\
import os, random
from genome import A, B
noise = random.Random(os.environ["NIGHTLAB_SEED"]).gauss(0, 0.05)
print(f"METRIC loss={(A - 1) ** 2 + 0.1 * (B - 3) ** 2 + noise:.6f}")
"""

CHECKED = '[[checks]]\ncommand = "python check.py"\n'


def changed(old: str, new: str, text: str = GENOME) -> str:
    assert old in text
    return text.replace(old, new)


def look(lab: TinyLab, tag: str = "t") -> Ledger:
    return Ledger(lab.folder / ".nightlab" / tag / "ledger.db", read_only=True)


def rows(session: Any) -> list[tuple[int, str, str]]:
    return [(e.number, e.verdict.status, e.verdict.reason) for e in session.ledger.experiments() if e.verdict]


# -- verdicts ------------------------------------------------------------------------------------------


def test_what_is_kept_and_why(make_lab: Any) -> None:
    lab = make_lab(genome=GENOME)
    lab.idea("01", changed("A = 4.0", "A = 2.0"), "nearer")
    lab.idea("02", changed("B = 8", "B = 30"), "further")
    lab.idea("03", changed("C = 0", "raise ValueError('no good')"), "broken")
    lab.idea("04", changed("C = 0", "raise SystemExit"), "silent")
    lab.idea("05", changed("C = 0\n", ""), "shorter")
    lab.idea("06", changed("B = 8 ", "B = 8.0 "), "the same")
    reason, session = lab.run()
    assert reason == "the proposers have nothing left to propose"
    assert rows(session) == [
        (0, "keep", "baseline"),
        (1, "keep", "improved"),
        (2, "discard", "regressed"),
        (3, "crash", "crashed"),
        (4, "crash", "crashed"),
        (5, "keep", "simpler"),
        (6, "discard", "inconclusive"),
    ]
    found = session.ledger.experiments()
    assert [e.measurement.metric for e in found] == [11.5, 3.5, pytest.approx(73.9), None, None, 3.5, 3.5]
    assert "ValueError: no good" in found[3].verdict.detail and "METRIC loss" in found[4].verdict.detail
    assert found[1].candidate.changes == ("A 4 → 2",) and found[1].candidate.source == "01.patch"
    assert [row[3] for row in lab.table()[1:]] == ["keep", "keep", "discard", "crash", "crash", "keep", "discard"]

    head = lab.git("rev-parse", "nightlab/t")
    assert head == found[5].candidate.commit == session.champion().candidate.commit
    assert "A = 2.0" in lab.git("show", f"{head}:genome.py")
    for experiment in found[1:]:
        assert lab.git("rev-parse", f"refs/nightlab/t/{experiment.number:06d}") == experiment.candidate.commit
    assert lab.git("status", "--porcelain") == "?? ideas/"


def test_a_change_that_fails_a_check_is_not_kept_however_good(make_lab: Any) -> None:
    lab = make_lab(GENOME, more=CHECKED, files={"check.py": "import genome\nassert genome.A > 3, 'too small'\n"})
    lab.idea("01", changed("A = 4.0", "A = 2.0"))
    lab.idea("02", changed("A = 4.0", "A = 3.5"))
    _, session = lab.run()
    assert rows(session) == [(0, "keep", "baseline"), (1, "discard", "checks failed"), (2, "keep", "improved")]


def test_one_that_takes_too_long_is_over_budget(make_lab: Any) -> None:
    lab = make_lab(GENOME)
    lab.commit(lab_toml=(lab.folder / "lab.toml").read_text().replace("= 20", "= 1"))
    lab.idea("01", changed("C = 0", "import time; time.sleep(99)"))
    _, session = lab.run()
    assert rows(session)[1] == (1, "discard", "over budget")


def test_an_idea_that_collides_with_the_champion_is_tried_on_the_baseline(make_lab: Any) -> None:
    lab = make_lab(GENOME)
    lab.idea("01", changed("A = 4.0", "A = 2.0"))
    lab.idea("02", changed("A = 4.0", "A = 1.5"))
    lab.idea("03", changed("B = 8", "B = 3"))
    _, session = lab.run()
    base, one, two, three = session.ledger.experiments()
    assert two.candidate.parent == base.candidate.commit and two.kept
    assert two.candidate.changes == ("A 4 → 1.5",)
    assert three.candidate.parent == two.candidate.commit and three.measurement.metric == 0.25
    assert one.kept and session.champion() == three


def test_what_can_not_be_an_experiment_is_refused_with_its_reason_and_not_asked_again(make_lab: Any) -> None:
    lab = make_lab(GENOME)
    lab.idea("01", changed("A = 4.0", "A = 2.0"), "first")
    lab.idea("02", changed("A = 4.0", "A = 2.0"), "the twin")
    lab.idea("03", "print('METRIC loss=0')\n", "cheat", path="measure.py")
    lab.idea("04", changed("C = 0", "C = ("), "no python")
    lab.write("ideas/05.patch", "Hypothesis: rubbish\nthis is no patch\n")
    _, session = lab.run()
    assert rows(session) == [(0, "keep", "baseline"), (1, "keep", "improved")]
    refused = {note.hypothesis: note.reason for note in session.ledger.events(ProposalRefused)}
    assert "changes nothing" in refused["the twin"] or "same genome as experiment 1" in refused["the twin"]
    assert "measure.py is not part of the genome" in refused["cheat"]
    assert "does not parse: genome.py, line 15" in refused["no python"]
    assert "does not apply" in refused["rubbish"]
    session.close()

    _, again = lab.run()
    assert len(again.ledger.events(ProposalRefused)) == len(refused)


def test_a_baseline_that_fails_ends_the_session_with_its_reason(make_lab: Any) -> None:
    lab = make_lab("A = 1\nB = 1 / 0\n")
    with pytest.raises(
        NightlabError, match=r"baseline can't be measured: crashed: genome\.py, line 2: ZeroDivisionError"
    ) as error:
        lab.run()
    log = next(word.rstrip(",") for word in error.value.hint.split() if word.startswith("/"))
    assert "ZeroDivisionError" in Path(log).read_text()


# -- ends ----------------------------------------------------------------------------------------------


def ideas(lab: TinyLab, *changes: str) -> None:
    for n, new in enumerate(changes, 1):
        lab.idea(f"{n:02}", changed("C = 0", f"C = {n}\n{new}"))


def test_stop_rules(make_lab: Any) -> None:
    lab = make_lab(GENOME)
    ideas(lab, *["A = 5.0"] * 9)
    reason, session = lab.run(experiments=2)
    assert reason == "2 experiments are done" and len(rows(session)) == 3
    session.close()
    reason, session = lab.run(stall=4)
    assert reason == "4 experiments in a row brought no keep" and len(rows(session)) == 5
    session.close()
    reason, session = lab.run(hours=1e-9)
    assert reason.endswith("hours are over") and len(rows(session)) == 5
    assert [note.reason for note in session.ledger.events(RunStopped)][-1] == reason


def test_a_session_goes_on_where_it_was(make_lab: Any) -> None:
    lab = make_lab(GENOME)
    ideas(lab, "A = 5.0", "A = 2.0", "A = 6.0")
    lab.run(experiments=1)[1].close()
    lab.run(experiments=1)[1].close()
    _, session = lab.run()
    assert [r[0] for r in rows(session)] == [0, 1, 2, 3]
    assert [len(session.ledger.trials(n)) for n in range(4)] == [1, 1, 1, 1]


def test_two_slots_fly_at_once(make_lab: Any) -> None:
    lab = make_lab(GENOME)
    ideas(lab, *[WAITS] * 3, "A = 2.0")
    session = lab.session()
    view = Together(session.local_engine.folder, 2)
    ExperimentLoop(session, StopRules(experiments=4), Scheduler(session, view, 2)).run()
    assert max(len(running) for running in view.flights) == 2
    assert not any("0000-search-s1-1" in running and len(running) > 1 for running in view.flights), "baseline first"
    assert [r[0] for r in rows(session)] == [0, 1, 2, 3, 4]
    assert all(len(session.ledger.trials(n)) == 1 for n in range(5))
    assert session.champion().number == 4 == session.ledger.next_number() - 1
    assert lab.git("rev-parse", "nightlab/t") == session.champion().candidate.commit


# -- Ctrl-C --------------------------------------------------------------------------------------------

SLOW = "A = 2.0\nimport time; time.sleep(2)"


def up(lab: TinyLab, number: int) -> Any:
    """Whether an experiment's candidate has begun to run."""
    return lambda: any(lab.folder.glob(f".nightlab/t/trials/{number:04d}-*/candidate.log"))


def acknowledged(process: Any, words: str) -> None:
    while words not in process.stdout.readline():
        assert process.poll() is None


def in_flight(lab: TinyLab, number: int) -> Any:
    def check() -> bool:
        if not (lab.folder / ".nightlab" / "t" / "ledger.db").exists():
            return False
        ledger = look(lab)
        try:
            return any(trial.experiment == number for trial in ledger.open_trials())
        finally:
            ledger.close()

    return check


def test_ctrl_c_once_finishes_what_is_in_flight(make_lab: Any, start_nightlab: Any) -> None:
    lab = make_lab(GENOME)
    ideas(lab, SLOW, SLOW)
    process = start_nightlab("run", "--tag", "t", cwd=lab)
    wait(in_flight(lab, 1))
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, out
    assert "finishing what is in flight" in out and "Traceback" not in out
    assert [e.verdict.status for e in look(lab).experiments()] == ["keep", "keep"]


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_twice_stops_now_and_the_experiment_is_redone(
    make_lab: Any, start_nightlab: Any, nightlab: Any, first: int
) -> None:
    lab = make_lab(GENOME)
    ideas(lab, SLOW)
    process = start_nightlab("run", "--tag", "t", cwd=lab)
    wait(up(lab, 1))
    process.send_signal(first)
    if first == signal.SIGINT:
        acknowledged(process, "Ctrl-C again stops now")
        process.send_signal(first)
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, out
    ledger = look(lab)
    assert [e.number for e in ledger.unjudged()] == [1] and ledger.open_trials() == []
    assert [m.outcome for _, m in ledger.trials(1)] == ["interrupted"]

    done = nightlab("run", "-n", "1", cwd=lab)
    assert done.code == 0
    assert [m.outcome for _, m in look(lab).trials(1)] == ["interrupted", "measured"]
    assert look(lab).champion().number == 1


@pytest.mark.parametrize("command", ["apply", "diff-tree"])
def test_ctrl_c_twice_is_heard_while_git_works(
    make_lab: Any, start_nightlab: Any, tmp_path: Path, command: str
) -> None:
    """It applies a first idea; it compares to make a second one again, after the first was kept."""
    slow = f'for word; do if [ "$word" = {command} ]; then touch {tmp_path}/works; exec sleep 60; fi; done\n'
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n{slow}exec {shutil.which("git")} "$@"\n')
    program.chmod(0o755)
    lab = make_lab(GENOME)
    ideas(lab, SLOW, "B = 3")
    process = start_nightlab("run", "--tag", "t", cwd=lab, PATH=f"{program.parent}:{os.environ['PATH']}")
    wait((tmp_path / "works").exists)
    out, seconds = stopped_twice(process)
    assert "Traceback" not in out and seconds < 8, out  # it takes a second, and more on a busy machine


def test_ctrl_c_twice_is_heard_while_a_genome_is_read(make_lab: Any, start_nightlab: Any) -> None:
    lab = make_lab(GENOME)
    ideas(lab, "A = 2.0\nx = f'" + "{A}" * 40_000 + "'")  # takes more than the reader has
    process = start_nightlab("run", "--tag", "t", cwd=lab)
    wait(up(lab, 0))
    time.sleep(1)  # it is read while the baseline runs
    out, seconds = stopped_twice(process)
    assert "reading its program takes more than" not in out and "Traceback" not in out and seconds < 8, out


def stopped_twice(process: Any) -> tuple[str, float]:
    """What a program says after it was asked to stop, and then to stop now; and how long that took."""
    process.send_signal(signal.SIGINT)
    acknowledged(process, "Ctrl-C again stops now")
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, out
    return out, time.monotonic() - begun


def test_ctrl_c_while_the_lab_prepares(make_lab: Any, start_nightlab: Any, tmp_path: Path) -> None:
    prepare = f"import pathlib, time\npathlib.Path({str(tmp_path / 'up')!r}).touch()\ntime.sleep(99)\n"
    lab = make_lab(files={"prepare.py": prepare})
    contract = (lab.folder / "lab.toml").read_text()
    lab.commit(lab_toml='prepare = "python prepare.py"\n' + contract)
    process = start_nightlab("run", cwd=lab)
    wait((tmp_path / "up").exists)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130 and "Traceback" not in out, out


@pytest.mark.parametrize(
    ("command", "twice"), [(["replay", "1", "--times", "9"], False), (["confirm", "--seeds", "9"], True)]
)
def test_ctrl_c_while_measuring_again(make_lab: Any, start_nightlab: Any, command: list[str], twice: bool) -> None:
    lab = make_lab(GENOME)
    ideas(lab, SLOW)
    lab.run(experiments=1)[1].close()
    process = start_nightlab(*command, cwd=lab)
    wait(in_flight(lab, 1))
    process.send_signal(signal.SIGINT)
    if twice:
        acknowledged(process, "Ctrl-C again stops now")
        process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130 and "Traceback" not in out, out
    assert look(lab).open_trials() == []


# -- the commands --------------------------------------------------------------------------------------


def test_try_measures_your_edit_and_leaves_it_where_it_is(make_lab: Any, nightlab: Any) -> None:
    lab = make_lab(GENOME)
    nothing = nightlab("try", cwd=lab)
    assert nothing.code == 1 and "no genome file has uncommitted changes" in nothing.err
    assert not (lab.folder / ".nightlab").exists(), "no session is made for nothing"

    lab.write("genome.py", changed("A = 4.0", "A = 2.0"))
    good = nightlab("try", "-m", "nearer to one", "--tag", "t", cwd=lab)
    assert good.code == 0 and "nearer to one" in good.out, good.out + good.err
    lab.write("genome.py", changed("B = 8", "B = 9"))
    bad = nightlab("try", cwd=lab)
    assert bad.code == 3 and "regressed" in bad.out
    assert (lab.folder / "genome.py").read_text() == changed("B = 8", "B = 9")
    found = look(lab).experiments()
    assert [e.candidate.proposer for e in found] == ["baseline", "human", "human"]
    assert found[2].candidate.changes == ("B 8 → 9",), "carried onto the champion"

    lab.write("genome.py", changed("A = 4.0", "A = 3.0"))
    conflict = nightlab("try", cwd=lab)
    assert conflict.code == 1 and "does not apply" in conflict.err and "hint:" in conflict.err


def test_try_after_the_baseline_was_cut_short(make_lab: Any, start_nightlab: Any, nightlab: Any) -> None:
    lab = make_lab(GENOME.replace("C = 0", "import time; time.sleep(1.5)"))
    process = start_nightlab("run", "--tag", "t", cwd=lab)
    wait(up(lab, 0))
    process.kill()
    process.wait()
    lab.write("genome.py", changed("A = 4.0", "A = 2.0", (lab.folder / "genome.py").read_text()))
    assert nightlab("try", cwd=lab).code == 0
    assert [e.verdict.status for e in look(lab).experiments()] == ["keep", "keep"]


WORK = '[budget]\nclock = "work"\namount = 1000\n'


def test_replay_at_fixed_work_gives_the_identical_number(make_lab: Any, nightlab: Any) -> None:
    measure = SEEDED.replace("import os, random", "import os, random\nwork = int(os.environ['NIGHTLAB_BUDGET'])")
    lab = make_lab(GENOME, measure.replace("+ noise", "+ noise / work"))
    contract = (lab.folder / "lab.toml").read_text().replace("[budget]\namount = 20\n", WORK)
    lab.commit(lab_toml=contract)
    ideas(lab, "A = 2.0")
    lab.run(experiments=1)[1].close()
    same = nightlab("replay", "1", "--times", "2", "--json", cwd=lab)
    assert same.code == 0 and same.json["identical"] and len(same.json["metrics"]) == 3
    assert same.json["metrics"][0] == nightlab("show", "1", "--json", cwd=lab).json["metric"]
    other = nightlab("replay", "1", "--seed", "5", "--json", cwd=lab)
    assert other.code == 0 and other.json["metrics"][0] != same.json["metrics"][0]
    less = nightlab("replay", "1", "--work", "10", "--times", "2", "--json", cwd=lab)
    assert less.code == 0 and less.json["identical"] and less.json["metrics"][0] != same.json["metrics"][0]
    assert look(lab).champion().number == 1 and len(lab.table()) == 3, "a replay is no experiment"


def test_replay_tells_when_numbers_differ(make_lab: Any, nightlab: Any) -> None:
    lab = make_lab(GENOME, "import os, time\nprint(f'METRIC loss={time.time_ns()}')\n")
    lab.commit(lab_toml=(lab.folder / "lab.toml").read_text().replace("[budget]\namount = 20\n", WORK))
    lab.run(experiments=1)[1].close()
    differs = nightlab("replay", "0", cwd=lab)
    assert differs.code == 3 and "not identical" in differs.out


def test_confirm_on_fresh_seeds(make_lab: Any, nightlab: Any) -> None:
    lab = make_lab(GENOME, SEEDED)
    lab.run(experiments=1)[1].close()
    early = nightlab("confirm", cwd=lab)
    assert early.code == 3 and "no gain to confirm" in early.out

    ideas(lab, "A = 2.0")
    lab.run()[1].close()
    done = nightlab("confirm", "--seeds", "3", "--json", cwd=lab)
    assert done.code == 0, done.err
    facts = done.json
    assert facts["confirmed"] and facts["gain"]["low"] > 0 and facts["gain"]["mean"] == pytest.approx(8.0)
    searched = {trial.seed for trial, _ in look(lab).trials() if trial.purpose == "search"}
    assert len(facts["seeds"]) == 3 and not searched & set(facts["seeds"])
    assert len(set(facts["baseline"])) == 3, "the seeds differ"
    before = len(look(lab).trials())
    words = nightlab("confirm", "--seeds", "3", cwd=lab)
    assert words.code == 0 and "confirmed:" in words.out and "95% interval" in words.out
    assert len(look(lab).trials()) == before, "what was measured is not measured again"


def test_a_gain_that_was_luck_is_not_confirmed(make_lab: Any, nightlab: Any) -> None:
    measure = "import os, random\nfrom genome import C\nseed = int(os.environ['NIGHTLAB_SEED'])\n"
    measure += "print(f'METRIC loss={1 - 0.5 * C if seed == 1 else random.Random(seed * 7 + C).random():.6f}')\n"
    lab = make_lab(GENOME, measure)
    ideas(lab, "")
    lab.run()[1].close()
    done = nightlab("confirm", "--seeds", "2", cwd=lab)
    assert done.code == 3 and "not confirmed" in done.out and "does not exclude that nothing was gained" in done.out


@pytest.fixture
def ran(finished: TinyLab, tmp_path: Path) -> TinyLab:
    return finished.copied(tmp_path / "lab")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> TinyLab:
    lab = lab_in(tmp_path_factory.mktemp("finished"), GENOME)
    lab.idea("01", changed("A = 4.0", "A = 2.0"), "nearer")
    lab.idea("02", changed("B = 8", "raise ValueError('\\x1b[31mred')"), "broken")
    lab.idea("03", changed("B = 8", "B = 4"), "nearer still")
    lab.run()[1].close()
    return lab


def test_log_show_diff_and_plot(ran: TinyLab, nightlab: Any, tmp_path: Path) -> None:
    log = nightlab("log", cwd=ran)
    assert log.code == 0 and "nearer still" in log.out and "\x1b" not in log.out
    facts = nightlab("log", "--json", cwd=ran).json
    assert [(e["number"], e["status"]) for e in facts] == [(0, "keep"), (1, "keep"), (2, "crash"), (3, "keep")]
    assert [e["number"] for e in nightlab("log", "--json", "--kept", cwd=ran).json] == [0, 1, 3]
    assert "3 earlier ones" in nightlab("log", "-n", "1", cwd=ran).out

    shown = nightlab("show", "2", cwd=ran)
    assert shown.code == 0 and "ValueError" in shown.out and "crash: crashed" in shown.out
    assert "untrusted" in shown.out and "\x1b" not in shown.out
    detail = nightlab("show", "3", "--json", cwd=ran).json
    assert detail["changes"] == ["B 8 → 4"] and detail["trials"][0]["measurement"]["outcome"] == "measured"
    none = nightlab("show", "9", cwd=ran)
    assert none.code == 1 and "this session has 0 to 3" in none.err

    own, best = nightlab("diff", "3", cwd=ran).out, nightlab("diff", "best", cwd=ran).out
    assert "+B = 4" in own and "A = 2.0" not in own.replace(" A = 2.0", "")
    assert "+B = 4" in best and "+A = 2.0" in best
    assert nightlab("diff", cwd=ran).out == best == nightlab("diff", "0", "3", cwd=ran).out
    assert nightlab("diff", "worst", cwd=ran).code == 2

    plotted = nightlab("plot", "--out", str(tmp_path / "p.svg"), cwd=ran)
    assert plotted.code == 0 and "<svg" in (tmp_path / "p.svg").read_text() and "p.svg" in plotted.out
    assert nightlab("plot", cwd=ran).code == 0
    assert (ran.folder / ".nightlab/t/progress.png").read_bytes().startswith(b"\x89PNG")


def test_looking_works_from_elsewhere_and_changes_nothing(ran: TinyLab, nightlab: Any, tmp_path: Path) -> None:
    before = (ran.folder / ".nightlab/t/results.tsv").read_bytes(), ran.git("for-each-ref")
    for command in (["log"], ["show", "1"], ["diff", "1"]):
        assert nightlab(*command, "-C", str(ran.folder), cwd=tmp_path).code == 0
    assert before == ((ran.folder / ".nightlab/t/results.tsv").read_bytes(), ran.git("for-each-ref"))
    assert ran.git("status", "--porcelain") == "?? ideas/"


def test_run_from_beginning_to_end(make_lab: Any, nightlab: Any) -> None:
    lab = make_lab(GENOME)
    lab.idea("01", changed("A = 4.0", "A = 2.0"), "nearer to [one]")
    checked = nightlab("check", "--json", cwd=lab)
    assert checked.code == 0 and checked.json["ok"]
    done = nightlab("run", "--tag", "mine", "-n", "3", cwd=lab)
    assert done.code == 0, done.err
    assert "#1" in done.out and "nearer to [one]" in done.out and "11.500000 → 3.500000" in done.out
    for place in ("results.tsv", "progress.png", "nightlab/mine"):
        assert place in done.out
    assert "not a result yet" in done.out
    assert lab.git("branch", "--list", "nightlab/mine") and lab.git("status", "--porcelain") == "?? ideas/"


def test_new_makes_a_lab_that_checks(nightlab: Any, tmp_path: Path) -> None:
    made = nightlab("new", "mine", "--from", "speed", cwd=tmp_path)
    assert made.code == 0 and "committed" in made.out
    assert nightlab("check", "--allow-missing", "all", cwd=tmp_path / "mine").code == 0
    again = nightlab("new", "mine", cwd=tmp_path)
    assert again.code == 1 and "mine exists already" in again.err
    unknown = nightlab("new", "x", "--from", "nothing", cwd=tmp_path)
    assert unknown.code == 1 and "speed" in unknown.err and not (tmp_path / "x").exists()


@pytest.mark.machine  # `.ci/wheel` runs the same lab for one experiment
def test_the_speed_lab_gets_faster(nightlab: Any, tmp_path: Path) -> None:
    assert nightlab("new", "mine", "--from", "speed", cwd=tmp_path).code == 0
    done = nightlab("run", "-n", "4", "--allow-missing", "all", cwd=tmp_path / "mine")
    assert done.code == 0, done.err
    found = nightlab("log", "--json", cwd=tmp_path / "mine").json
    best = [e["metric"] for e in found if e["status"] == "keep"][-1]
    assert best < found[0]["metric"] / 2
    wrong = [e["detail"] for e in found if e["status"] == "crash"]  # one of the ideas has a mistake in it
    assert len(wrong) == 1 and wrong[0].startswith("a wrong answer"), json.dumps(found, indent=1)
