"""Studies: which arm is better, at a stated rate of error, and whole sessions that are not run twice."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from support.labs import GENOME

from nightlab import Lab, NightlabError
from nightlab.analysis.study import LEAST, StudyConfig, StudySession, compare, decided, read_study, run_study

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
    assert decided(plan, compare(plan, results[:6])) == "", "two rounds are too few"
    assert compare(plan, results[:3]) == []


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
        ("name = ", "is no TOML"),
    ],
)
def test_a_file_that_is_wrong_is_named_with_its_key(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "study.toml"
    file.write_text(text)
    with pytest.raises(NightlabError, match=words) as refusal:
        read_study(file)
    assert str(file) in str(refusal.value) and refusal.value.hint
    with pytest.raises(NightlabError, match="No such file"):
        read_study(tmp_path / "none.toml")


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
    sessions, said = lab.folder / ".nightlab", list[str]()

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
    assert "good is shown to be the best after 3 of 3 rounds" in said[-1]
    before = measured()
    assert first and first.items() <= before.items(), "what had ended before the kill did not run again"
    again = nightlab("study", "study.toml", "--json", cwd=lab)
    assert again.code == 0 and again.json["best"] == "good", again.err
    assert before == measured(), "nothing ran again"
    with Lab(lab.folder).session(allow_missing="all") as session:
        assert not session.tag.startswith("study."), "the next run goes on with no session of a study"
