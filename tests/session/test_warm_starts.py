"""Warm starts: which answer a trial starts from, what it is told, and what a score with a start may claim."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from support.labs import TinyLab
from support.processes import wait
from support.warm_starts import CONTRACT, GENOME, SEARCH, step, warm_lab

from nightlab.analysis.confirm import Confirmer
from nightlab.commons.finding import finding_body
from nightlab.core.config import StopRules, parse
from nightlab.core.observer import Observer
from nightlab.core.types import Measurement, Metric, NightlabError, Verdict, WarmStart
from nightlab.engines.local.artefacts import leave_only_files, take_answer
from nightlab.judge import Contestant, Judge, make_rule
from nightlab.judge.noise import Noise
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.scheduler import Scheduler
from nightlab.session.preflight import inspect
from nightlab.session.warm_starts import bar_with
from nightlab.storage.checkpoints import FileStore
from nightlab.storage.git import Repo
from nightlab.storage.ledger import Ledger

# -- the parts ---------------------------------------------------------------------------------------


def test_the_contract_says_where_a_warm_start_is_not_fair() -> None:
    served = CONTRACT.replace('command = "python judge.py"', 'command = "python judge.py"\nserved = true')
    for text, why in (
        (CONTRACT.replace('[evaluator]\ncommand = "python judge.py"\n', ""), "an evaluator that judges it"),
        (served, "not served"),
        (CONTRACT.replace('"greedy"', '"replicate"'), 'judge.rule = "replicate"'),
        (CONTRACT + "[search]\npilot = 0.5\n", "search.pilot"),
        (CONTRACT + "[population]\n", "population"),
        (CONTRACT + "[commons]\n", "commons"),
        (CONTRACT.replace('"height"', '"seconds"'), "a time"),
        (CONTRACT.replace('"answer.json"', '"../answer.json"'), "by its path in the lab's folder"),
    ):
        with pytest.raises(NightlabError, match=why):
            parse(text, "lab.toml")


@pytest.mark.parametrize("left", ["nothing", "folder", "link", "large", "deep link"])
def test_only_a_plain_file_within_its_size_is_an_answer(tmp_path: Path, left: str) -> None:
    work, secret = tmp_path / "work", tmp_path / "secret"
    work.mkdir()
    (secret / "a").mkdir(parents=True)
    (secret / "answer.json").write_text("sealed")
    name = "answer.json"
    if left == "folder":
        (work / name).mkdir()
    elif left == "link":
        (work / name).symlink_to(secret / name)
    elif left == "large":
        (work / name).write_bytes(b"x" * 11)
    elif left == "deep link":
        (work / "out").symlink_to(secret)
        name = "out/answer.json"
    leave_only_files(work)
    assert take_answer(work / name, 10, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()
    (work / "sound").write_bytes(b"x" * 10)
    assert not take_answer(work / "sound", 10, tmp_path / "kept")
    assert (tmp_path / "kept").read_bytes() == b"x" * 10


def test_an_answer_that_was_changed_or_removed_is_noticed(tmp_path: Path) -> None:
    store, file = FileStore(tmp_path / "answers"), tmp_path / "answer"
    file.write_text("good")
    digest = store.adopt(file)
    assert store.sound(digest) and not file.exists()
    assert store.adopt(file) == digest, "a kill after the file was taken in"
    store.path(digest).write_text("other")
    assert not store.sound(digest) and not store.sound("0" * 64)


def test_a_program_that_only_returns_its_start_ties() -> None:
    metric = Metric("height", "maximise")
    assert bar_with(5.0, metric, WarmStart(3, "a", 7.0)) == 7.0 and bar_with(8.0, metric, WarmStart(3, "a", 7.0)) == 8.0
    champion = Contestant({1: Measurement("measured", 7.0)}, 40, bar=7.0)
    for rule in ("greedy", "shrunk"):
        judge, noise = Judge(metric, {}, make_rule(rule)), Noise(0.5, 10)
        cold = Contestant({1: Measurement("measured", 7.0)}, 3)
        warm = Contestant({1: Measurement("measured", 7.0)}, 3, warm=True)
        assert "simpler" in str(judge.judge(champion, cold, noise)), "fewer lines win a tie"
        polished = Contestant({1: Measurement("measured", 7.0 + 1e-12)}, 3, warm=True)
        for candidate in (warm, polished):
            verdict = judge.judge(champion, candidate, noise)
            assert "as good as the answer that it started from" in str(verdict), verdict
        worse = Contestant({1: Measurement("measured", 6.9)}, 3, warm=True)
        verdict = judge.judge(champion, worse, noise)
        assert isinstance(verdict, Verdict) and verdict.status == "discard", verdict
        better = Contestant({1: Measurement("measured", 9.0)}, 50, warm=True)
        assert "improved" in str(judge.judge(champion, better, noise))


# -- sessions ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> TinyLab:
    """A session of five: a better step, one that returns its start, one that crashes, one that leaves no answer."""
    from support.labs import lab_in

    lab = warm_lab(lambda *args, **more: lab_in(tmp_path_factory.mktemp("warm"), *args, **more))
    lab.idea("1", step("2"))
    lab.idea("2", GENOME.replace("value + STEP", "value").replace("STEP = 1\n\n\n", ""))
    lab.idea("3", step("3"))
    lab.idea("4", step("4").replace("return value + STEP", "import os\n    os.mkdir('answer.json')"))
    lab.idea("5", step("-1"))
    _, session = lab.run(experiments=5)
    session.close()
    return lab


@pytest.mark.integration
@pytest.mark.xdist_group("warm starts")
def test_a_night_of_programs_accumulates(ran: TinyLab) -> None:
    ledger = Ledger(ran.folder / ".nightlab" / "t" / "ledger.db", read_only=True)
    found = [(e.measurement and e.measurement.metric, e.verdict and e.verdict.status) for e in ledger.experiments()]
    assert found == [(1, "keep"), (3, "keep"), (3, "discard"), (6, "keep"), (None, "crash"), (5, "discard")]
    starts = [trial.warm_start and trial.warm_start.number for trial, _ in ledger.trials()]
    assert starts == [None, 0, 1, 1, 3, 3]
    details = [e.verdict.detail for e in ledger.experiments() if e.verdict]
    assert "started from the answer of #1" in details[3] and "started" not in details[0]
    assert details[2].startswith("as good as the answer that it started from")
    assert "answer.json" in details[4]
    kept = {path.name: json.loads(path.read_text()) for path in (ran.folder / ".nightlab/t/trials/answers").iterdir()}
    assert sorted(kept.values()) == [1, 3, 6], "what was discarded is gone, what others started from stays"
    [(_, last)] = ledger.trials(3)
    assert last and kept[last.answer] == 6


@pytest.mark.integration
def test_a_gain_that_is_exact_says_so_of_the_program_alone_too(make_lab: Any, nightlab: Any) -> None:
    lab = warm_lab(make_lab, contract=CONTRACT.replace('rule = "greedy"\n', ""))
    lab.idea("1", step("2"))
    lab.idea("2", step("3"))
    lab.run(experiments=2)[1].close()
    said = " ".join(nightlab("confirm", cwd=lab).out.split())
    assert "height is 6 times, 5 better, exact" in said, said
    assert "started from the answer of #1; from nothing its program is 3 times, 2 better, exact" in said, said


@pytest.mark.integration
@pytest.mark.xdist_group("warm starts")
def test_whatever_measures_the_champion_again_starts_from_what_it_had(
    ran: TinyLab, tmp_path: Path, nightlab: Any
) -> None:
    lab = ran.copied(tmp_path / "lab")
    shown = nightlab("show", "3", cwd=lab).out
    assert "started from the answer of #1" in shown and "best answer" in shown
    again = nightlab("confirm", cwd=lab).out
    assert "5" in again and "started from the answer of #1" in again, again
    session = lab.session()
    scheduler = Scheduler(session, Observer())
    [evidence] = session.champion().evidence
    assert (evidence.warm_start, evidence.gain.mean, evidence.alone and evidence.alone.mean) == (1, 5.0, 2.0)
    with scheduler.on_duty():
        for purpose, starts in (("upkeep", 1), ("replay", 1), ("ablate", 1), ("transfer", None), ("arena", None)):
            trial = scheduler.start(3, purpose, 1)  # type: ignore[arg-type]
            assert (trial.warm_start and trial.warm_start.number) == starts, purpose
            assert scheduler.drain()[trial.id].metric == (6 if starts else 3), purpose
    assert Confirmer(scheduler).unconfirmed() is False
    with pytest.raises(NightlabError, match="started from the answer of #1"):
        finding_body(session, session.champion(), None, ())  # type: ignore[arg-type]
    report = nightlab("report", "--show", cwd=lab).out
    session.close()
    assert "It started from the answer of #1; from nothing its program is" in report


@pytest.mark.integration
def test_a_start_survives_kill_9(make_lab: Any, start_nightlab: Any, nightlab: Any) -> None:
    lab = warm_lab(make_lab, SEARCH.replace("sleep(0)", "sleep(value == 3)"))
    for n in range(1, 4):
        lab.idea(str(n), step(str(n + 1)))
    process = start_nightlab("run", "--tag", "t", "-n", "3", cwd=lab)
    place = lab.folder / ".nightlab" / "t" / "ledger.db"

    def third_runs() -> bool:
        if not place.exists():
            return False
        ledger = Ledger(place)
        try:
            return bool(ledger.open_trials()) and ledger.open_trials()[0].experiment == 2
        finally:
            ledger.close()

    wait(third_runs)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    nightlab("run", "--tag", "t", "-n", "3", cwd=lab)
    ledger = Ledger(place)
    assert [e.measurement and e.measurement.metric for e in ledger.experiments()] == [1, 3, 6, 10]
    starts = {(trial.experiment, trial.warm_start and trial.warm_start.number) for trial, _ in ledger.trials()}
    assert starts == {(0, None), (1, 0), (2, 1), (3, 2)}, "also of a trial that ran again"


@pytest.mark.integration
def test_check_says_what_a_start_means_and_what_is_wrong_with_it(make_lab: Any, nightlab: Any) -> None:
    lab = warm_lab(make_lab)
    assert "its score is that of program and start" in nightlab("check", cwd=lab).out
    lab.commit(search_py=SEARCH.replace('"answer.json"', '"other.json"'))
    said = nightlab("check", cwd=lab)
    assert "its answer answer.json is missing" in said.out + said.err
    lab.write("answer.json", "9")
    lab.commit()
    _, _, checks = inspect(Repo(lab.folder))
    assert any("a file of the lab's own" in check.what and not check.ok for check in checks)


@pytest.mark.integration
def test_an_answer_that_is_gone_is_named(make_lab: Any) -> None:
    lab = warm_lab(make_lab)
    session = lab.session()
    ExperimentLoop(session, StopRules(), Scheduler(session, Observer())).answer()
    session.close()
    [answer] = (lab.folder / ".nightlab/t/trials/answers").iterdir()
    answer.write_text("1000")
    lab.idea("1", step("2"))
    with pytest.raises(NightlabError, match="answer of experiment 0, is missing or was changed"):
        lab.run(experiments=1)
