"""The controller: a policy over constants and patches that lives off the ledger."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from nightlab.core.config import StopRules
from nightlab.core.events import ProposalRefused
from nightlab.core.observer import Observer
from nightlab.core.program.constants import find_constants
from nightlab.core.types import Candidate, Experiment, Measurement, Metric, Verdict
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.scheduler import Scheduler
from nightlab.proposers import Briefing
from nightlab.proposers.controller import Controller
from nightlab.proposers.policy import Choice, Policy, softmax

LOSS = Metric("loss")
TEXT = "".join(f"{name} = 0  # [0..3]\n" for name in "ABCDEF") + 'KIND = "x"  # [x | y]\nSEED = 3\n'


def values(text: str) -> dict[str, Any]:
    return {name: constant.value for name, constant in find_constants(text, "cpu").items()}


def told(history: list[Experiment]) -> Briefing:
    return Briefing(LOSS, "cpu", {"g.py": TEXT}, history[0], history)


def play(seed: int, rounds: int, fresh: bool = False, crash: bool = False) -> list[dict[str, Any]]:
    """The constants that a session tries where the loss is 18 minus their sum; ``fresh``: restarted before each."""

    def experiment(number: int, at: dict[str, Any]) -> Experiment:
        candidate = Candidate(f"{number}", "", "", "controller" if number else "baseline", "", constants=at)
        value = 18.0 - sum(at[name] for name in "ABCDEF")
        bad = crash and at["A"] == 3
        verdict = Verdict("crash" if bad else "discard", "")
        measured = Measurement("crashed") if bad else Measurement("measured", value)
        return Experiment(number, candidate, 0.0, measured, verdict)

    history, controller = [experiment(0, values(TEXT))], Controller(seed)
    for number in range(1, rounds + 1):
        proposal = (Controller(seed) if fresh else controller).propose(told(history))
        assert proposal
        history.append(experiment(number, values(proposal.files["g.py"])))
    return [one.candidate.constants for one in history[1:]]


def test_the_controller_learns_what_scores_and_repeats_nothing() -> None:
    tried = play(0, 150)
    sums = [sum(at[name] for name in "ABCDEF") for at in tried]
    assert sum(sums[:20]) / 20 < 8 and sum(sums[-20:]) / 20 > 14, "the best is 18"
    assert len({tuple(at.values()) for at in tried}) == 150
    assert {at["SEED"] for at in tried} == {3} and {at["KIND"] for at in tried} == {"x", "y"}


def test_its_state_is_the_ledger_and_its_seed() -> None:
    assert play(1, 12) == play(1, 12, fresh=True) != play(2, 12)


def test_crashes_are_avoided() -> None:
    late = play(0, 100, crash=True)[-20:]
    assert sum(at["A"] == 3 for at in late) < 5


def test_what_others_tried_trains_no_policy_but_is_not_repeated() -> None:
    one = Experiment(0, Candidate("0", "", "", "baseline", "", constants=values(TEXT)), 0.0, Measurement("measured", 9))
    first = Controller().propose(told([one]))
    assert first
    same = Candidate("1", "", "", "human", "", constants=values(first.files["g.py"]))
    other = Controller().propose(told([one, Experiment(0, same, 0.0, Measurement("measured", 1.0))]))
    assert other and other != first
    assert Controller().propose(replace(told([one]), genome={"g.py": "x = 1\n"})) is None


def test_a_small_space_is_searched_through_and_then_given_up() -> None:
    text, history = "FLAG = True\nWAY = 1  # [1..2]\n", list[Experiment]()
    controller = Controller()
    history.append(Experiment(0, Candidate("0", "", "", "baseline", "", constants=values(text)), 0.0))
    while proposal := controller.propose(replace(told(history), genome={"g.py": text})):
        made = Candidate("x", "", "", "controller", "", constants=values(proposal.files["g.py"]))
        history.append(Experiment(len(history), made, 0.0))
    assert len(history) == 4 and "tried before" in controller.nothing


def test_a_policy_follows_the_reward() -> None:
    policy = Policy({"one": Choice(("a", "b", "c"), 0)})
    before = softmax(policy.logits["one"])
    assert before[0] == pytest.approx(0.5) and before[1] == before[2]
    policy.learn({"one": 0}, 0.0)
    assert softmax(policy.logits["one"]) == before, "no distance from the moving baseline, no step"
    policy.learn({"one": 2}, 1.0)
    policy.learn({"one": 1}, -1.0)
    after = softmax(policy.logits["one"])
    assert after[2] > before[2] and after[1] < before[1]
    hot = softmax(policy.logits["one"], 1000.0)
    assert max(hot) - min(hot) < 0.01
    assert policy.sample(random.Random(3)) == policy.sample(random.Random(3))


GENOME = "a = 1\n\n\n\nb = 1\n\n\n\nRATE = 4  # [4..5]\n"
PATCH = "--- a/genome.py\n+++ b/genome.py\n@@ -{line} +{line} @@\n-{name} = 1\n+{name} = {value}\n"


MEASURE = "from genome import A, B, RATE\nprint(f'METRIC loss={100 - 20 * A - B - RATE}')\n"


def test_patches_are_taken_or_not_in_a_real_session(make_lab: Any) -> None:
    spare = "\n# one\n# two\n# three\n"
    genome = f"A = 1  # [fixed]{spare}B = 1  # [fixed]{spare}RATE = 4  # [4..5]\n"
    lab = make_lab(genome, MEASURE, proposer="controller", more='patches = "ideas"\n')
    for name, old, new in (("a2", "A = 1", "A = 2"), ("a3", "A = 1", "A = 3"), ("b", "B = 1", "B = 9")):
        lab.idea(name, genome.replace(old, new), name)
    (lab.folder / "ideas" / "frozen.patch").write_text("--- a/measure.py\n+++ b/measure.py\n@@ -1 +0,0 @@\n-" + MEASURE)
    session = lab.session()
    ExperimentLoop(session, StopRules(), Scheduler(session, Observer())).run()
    made = [e.candidate for e in session.ledger.experiments()[1:]]
    at = {(c.constants["A"], c.constants["B"], c.constants["RATE"]) for c in made}
    assert at == {(a, b, rate) for a in (1, 2, 3) for b in (1, 9) for rate in (4, 5)} - {(1, 1, 4)}, "all there is"
    assert {c.parent for c in made} == {session.base}
    took = {c.source for c in made if c.constants["A"] == 2 and c.constants["B"] == 9}
    assert took == {"controller: a2.patch + b.patch"}, "of two that conflict the first is taken"
    refused = session.ledger.events(ProposalRefused)
    assert [one.hypothesis for one in refused if "measure.py" in one.reason] == ["frozen.patch"]


def test_a_session_that_is_killed_goes_on_and_repeats_nothing(make_lab: Any, nightlab: Any, killed: Any) -> None:
    genome = "".join(f"{name} = 0  # [0..3]\n" for name in "ABC")
    lab = make_lab(genome, "from genome import A, B, C\nprint(f'METRIC loss={9 - A - B - C}')\n", proposer="controller")

    def judged() -> list[list[str]]:
        return lab.table()[1:] if (lab.folder / ".nightlab" / "t" / "results.tsv").exists() else []

    killed("run", "--tag", "t", cwd=lab, until=lambda: len(judged()) > 3)
    before = judged()
    assert nightlab("run", "--tag", "t", "-n", "10", cwd=lab).code == 0
    assert judged()[: len(before)] == before
    session = lab.session()
    made = [one.candidate for one in session.ledger.experiments()]
    session.close()
    assert [one.proposer for one in made] == ["baseline"] + ["controller"] * 10
    assert len({tuple(one.constants.values()) for one in made}) == 11
