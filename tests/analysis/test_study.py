"""Studies: which arm is better, at a stated rate of error, and whole sessions that are not run twice."""

from __future__ import annotations

import random
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from support.labs import GENOME

from nightlab import Lab, NightlabError
from nightlab.analysis.study import (
    LEAST,
    StudyConfig,
    StudySession,
    _require_comparable,
    _run_arm,
    _setting,
    compare,
    decided,
    reached_plateau,
    read_study,
    run_study,
)
from nightlab.analysis.study_report import StudyReport
from nightlab.core.events import ContractOverridden
from nightlab.core.types import Candidate, Experiment, Metric, Verdict
from nightlab.session.session import open_session

ARMS: dict[str, Any] = {"one": {"proposers": ["tuner"]}, "two": {"proposers": ["patches"]}}


def study(**more: Any) -> StudyConfig:
    facts = {"name": "x", "experiments": 1, "rounds": 8, "best_of_n": False, "arms": ARMS}
    return StudyConfig.model_validate({**facts, **more})


def simulated(plan: StudyConfig, seed: int, better: float) -> str:
    """The arm that a study of random gains ends with, looked at after every round."""
    rng, results = random.Random(seed), list[StudySession]()
    for turn in range(1, plan.rounds + 1):
        for name in plan.all_arms():
            gain = rng.gauss(better if name == "two" else 0.0, 1.0)
            results.append(StudySession(turn, name, gain, 1.0, 0.0, ""))
        if turn >= LEAST and (best := decided(plan, compare(plan, results))):
            return best
    return ""


def test_equal_arms_are_called_equal_and_a_better_one_is_found() -> None:
    plan = study()
    equal = [simulated(plan, seed, 0.0) for seed in range(300)]
    assert sum(map(bool, equal)) <= 0.05 * 300, "over all looks"
    assert sum(simulated(plan, seed, 5.0) == "two" for seed in range(100)) >= 95


def test_between_two_looks_nothing_is_decided() -> None:
    plan, results = study(), list[StudySession]()
    assert plan.looks() == [3, 5, 8]
    for turn in range(1, 6):
        for name, gain in (("one", 0.0), ("two", turn % 2 if turn < 4 else 1e3)):
            results.append(StudySession(turn, name, gain, 1.0, 0.0, ""))
    at_three, between = compare(plan, results[:6]), compare(plan, results[:8])
    assert at_three == between and [one.rounds for one in at_three] == [3]
    assert [one.rounds for one in compare(plan, results)] == [5]


def test_a_difference_that_is_not_shown_says_how_many_rounds_it_needs() -> None:
    rng, plan, needed = random.Random(1), study(rounds=100), 0
    results = [StudySession(n, arm, rng.gauss(arm == "two", 1.5), 1.0, 0.0, "") for n in range(1, 101) for arm in ARMS]
    found = compare(plan, results[: 2 * 8])
    needed = found[0].needed
    assert not found[0].shown and 8 < needed < 100 and f"needs about {needed} rounds" in found[0].words
    assert decided(plan, compare(plan, results)) == "two"


def test_with_several_arms_the_best_is_better_than_each() -> None:
    plan = study(best_of_n=True, rounds=3)
    gains = {"one": 1.0, "two": 2.0, "independent": 0.0}
    results = [StudySession(n, name, gain + n, 1.0, 0.0, "") for n in (1, 2, 3) for name, gain in gains.items()]
    found = compare(plan, results)
    assert [(one.better, one.other, one.mean) for one in found] == [
        ("two", "one", 1.0),
        ("one", "independent", 1.0),
        ("two", "independent", 2.0),
    ]
    assert decided(plan, found) == "two"
    assert compare(plan, results[:8]) == [], "two rounds are too few"


def test_the_order_is_turned_round_each_time() -> None:
    assert list(study(rounds=2).schedule()) == [(1, "one"), (1, "two"), (2, "two"), (2, "one")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name = 1", "name: "),
        ('name = "x"\nexperiments = 0\n[arms.a]\n[arms.b]', "experiments: "),
        ('name = "x"\nexperiments = 1\nbest_of_n = false\n[arms.a]', "two arms at least"),
        ('name = "x"\nexperiments = 1\n[arms.independent]', "name of the built-in arm"),
        ('name = "x"\nexperiments = 1\n[arms."a b"]\n[arms.c]', "no name for an arm"),
        ('name = "x"\nexperiments = 1\n[arms.a]\nsearhc = "tree"', "searhc"),
        ('name = "x"\nexperiments = 1\n[arms.a]\nplateau = 3', "a switch needs both"),
        ('name = "x"\nexperiments = 1\n[arms.a]\nprogram = "bold.md"', "bold.md: No such file"),
        ("name = ", "is no TOML"),
    ],
)
def test_a_file_that_is_wrong_is_named_with_its_key(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "study.toml"
    file.write_text(text)
    with pytest.raises(NightlabError, match=words) as refusal:
        read_study(file)
    assert str(tmp_path) in str(refusal.value) and refusal.value.hint
    with pytest.raises(NightlabError, match="No such file"):
        read_study(tmp_path / "none.toml")


def test_a_plateau_is_found_whatever_came_after_it() -> None:
    def experiments(statuses: str) -> list[Experiment]:
        words: dict[str, Any] = {"k": Verdict("keep", ""), "d": Verdict("discard", ""), " ": None}
        made = Candidate("", "", "", "tuner", "")
        return [Experiment(n, made, 0.0, verdict=words[one]) for n, one in enumerate(statuses)]

    assert not reached_plateau(experiments("kddkdd"), 3)
    assert reached_plateau(experiments("kdddk"), 3)
    assert not reached_plateau(experiments("kdd "), 3), "what has no verdict yet may be kept"


def test_a_report_says_what_each_arm_found_and_what_it_cost() -> None:
    plan, results = study(), []
    for turn, gain in ((1, 1.0), (2, 3.0)):
        curve = ((0.0, 0.0), (0.5, gain), (2.0, gain))
        results.append(StudySession(turn, "one", gain, 2.0, 0.0, f"t{turn}", curve, ("A", "B|`")))
        results.append(StudySession(turn, "two", 0.0, 1.0, 0.5, f"u{turn}", ((0.0, 0.0), (1.0, 0.0)), ("A",)))
    report = StudyReport(plan, results)
    one, two = report.arms
    assert (one.gain, one.hours, one.alone, two.alone) == (2.0, 2.0, ("B|`",), ())
    # rates 0.5 and 1.5 an hour: mean 1, t of 1 degree of freedom 12.706, standard error 0.5
    assert one.per_hour and (one.per_hour.mean, one.per_hour.low) == (1.0, pytest.approx(1 - 12.706 * 0.5, abs=1e-3))
    assert one.per_dollar is None and two.per_dollar and two.per_dollar.mean == 0.0
    curve = dict(report.curves())["one"]
    assert [gain for at, gain in curve if at < 0.5][-1] == 0.0 and curve[-1] == (2.0, 2.0)
    text = report.markdown()
    assert "No arm is shown" in text and "- one: `B/'`\n- two: nothing" in text


@pytest.mark.integration
def test_an_arm_switches_on_a_plateau_and_tells_its_own_program(make_lab: Any) -> None:
    lab = make_lab(files={"program.md": "the lab's\n"})
    lab.idea("1", GENOME.replace("4.0", "1.0"))
    worse = (lab.folder / "ideas" / "1.patch").read_text()
    for value in (6, 7):
        lab.write(f"worse/{value}.patch", worse.replace("+A = 1.0", f"+A = {value}.0"))
    lab.write("bold.md", "be bold\n")
    lab.commit()
    file = lab.write(
        "study.toml",
        'name = "x"\nexperiments = 2\nrounds = 2\nconfirm = 2\nbest_of_n = false\n[arms.b]\n[arms.a]\nplateau = 1\n'
        'proposers = [{kind = "patches", folder = "worse"}]\nthen = { proposers = ["patches"], program = "bold.md", '
        'shares = "earned" }\n',
    )
    plan = read_study(file)

    def result() -> float:
        return _run_arm(plan, Lab(lab.folder), "s", plan.arms["a"], tuple, {"allow_missing": "all"})

    assert result() == 9.0, "the second strategy has the good idea"
    with closing(open_session(lab.folder, "s")) as session:
        assert [e.candidate.constants["A"] for e in session.ledger.experiments()] == [4.0, 6.0, 1.0]
        told = [(bool(one.proposers), one.program, one.search) for one in session.ledger.events(ContractOverridden)]
        trials = len(session.ledger.trials())
    assert told == [(True, None, None), (True, "be bold\n", {"shares": "earned"})]
    assert result() == 9.0
    with closing(open_session(lab.folder, "s")) as session:
        assert len(session.ledger.trials()) == trials, "nothing ran again"


def session_seeds(lab: Path, tag: str) -> set[int]:
    """The seeds that the programs of a session's search were given."""
    with closing(open_session(lab, tag)) as session:
        return {trial.given_seed for trial, _ in session.ledger.trials(purpose="search")}


def test_arms_of_equal_hours_end_by_what_their_trials_took(make_lab: Any) -> None:
    lab = make_lab()
    hours = 0.3 / 3600
    plan = study(
        experiments=None,
        hours=hours,
        rounds=2,
        confirm=2,
        arms={"one": {"proposers": ["tuner"]}, "two": {"proposers": ["tuner"]}},
    )

    def ran() -> dict[str, int]:
        found = {}
        for session in (
            Lab(lab.folder).session(plan.tag(turn, arm), allow_missing="all") for turn, arm in plan.schedule()
        ):
            with session:
                found[session.tag] = len(session.experiments())
        return found

    results = run_study(plan, Lab(lab.folder), allow_missing="all")
    assert len(results) == 4 and all(hours <= one.hours < 10 * hours for one in results)
    before = ran()
    assert run_study(plan, Lab(lab.folder), allow_missing="all") == results and ran() == before, "none runs again"
    with pytest.raises(ValidationError, match="name when a session ends"):
        study(experiments=None)


@pytest.mark.integration
def test_a_study_finds_the_better_arm_and_does_not_run_a_session_twice(
    make_lab: Any, nightlab: Any, killed: Any
) -> None:
    lab = make_lab()
    lab.idea("1", GENOME.replace("4.0", "1.0"))
    lab.write("worse/1.patch", (lab.folder / "ideas" / "1.patch").read_text().replace("+A = 1.0", "+A = 7.0"))
    lab.commit()
    file = lab.write(
        "study.toml",
        'name = "x"\nexperiments = 1\nrounds = 3\nconfirm = 2\nbest_of_n = false\n'
        '[arms.good]\nproposers = ["patches"]\n[arms.bad]\nproposers = [{kind = "patches", folder = "worse"}]\n',
    )
    sessions, said = lab.folder / ".nightlab", list[StudySession]()

    def measured(of: str = "study.*") -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in sessions.glob(f"{of}/trials/*/result.json")}

    killed("study", "study.toml", cwd=lab, until=lambda: measured("study.x.bad.2"))
    first = measured("study.*.1")
    results = run_study(read_study(file), Lab(lab.folder), said.append, allow_missing="all")
    assert [(one.turn, one.arm) for one in results] == [
        (1, "good"),
        (1, "bad"),
        (2, "bad"),
        (2, "good"),
        (3, "good"),
        (3, "bad"),
    ]
    assert {one.gain for one in results if one.arm == "good"} == {9.0}  # from 11.5 to 2.5, without noise
    assert {one.gain for one in results if one.arm == "bad"} == {0.0}
    assert said == results and {one.found for one in results if one.arm == "good"} == {("genome.py:A",)}
    good, bad, other = (session_seeds(lab.folder, f"study.x.{name}") for name in ("good.1", "bad.1", "good.2"))
    assert good == bad and not good & other, "the sessions of a round share their seeds"
    with closing(open_session(lab.folder, "study.x.bad.1")) as session:
        _require_comparable(read_study(file), _setting(session), session)
        with pytest.raises(NightlabError, match=r"study\.x\.bad\.1 does not compare .* another baseline"):
            _require_comparable(read_study(file), {**_setting(session), "baseline": {}}, session)
        with pytest.raises(NightlabError, match=r"another metric"):
            _require_comparable(read_study(file), {**_setting(session), "metric": Metric("other")}, session)
        other = replace(session.platform, processor="an abacus")
        with pytest.raises(NightlabError, match=r"its processor is .*, not an abacus"):
            _require_comparable(read_study(file), {**_setting(session), "machine": other}, session)
    before = measured()
    assert first and first.items() <= before.items(), "what had ended before the kill did not run again"
    again = nightlab("study", "study.toml", "--json", cwd=lab)
    assert again.code == 0 and again.json["best"] == "good", again.err
    assert "good is shown to be the best" in (sessions / "study.x.html").read_text()
    assert before == measured(), "nothing ran again"
    with Lab(lab.folder).session(allow_missing="all") as session:
        assert not session.tag.startswith("study."), "the next run goes on with no session of a study"
