"""What nightlab.testing tells the authors of plug-ins: sound ones pass, and each fault is named in a sentence."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nightlab.core.types import SEED, Measurement, Verdict
from nightlab.engines.local.engine import LocalEngine
from nightlab.engines.platform import this_platform
from nightlab.judge import NeedsTrial, make_rule
from nightlab.proposers import NoProposal, Proposal
from nightlab.proposers.tuner import Tuner
from nightlab.testing import briefing, check_engine, check_proposer, check_rule

EXAMPLE = Path(__file__).parents[1] / "examples" / "plugin"


@pytest.mark.integration
def test_the_example_package_passes_its_own_tests() -> None:
    env = {**os.environ, "PYTHONPATH": str(EXAMPLE / "src")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "tests"]
    done = subprocess.run(command, cwd=EXAMPLE, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout + done.stderr


# -- proposers -----------------------------------------------------------------------------------------


class Says:
    """A proposer that gives what it was made with, turn by turn."""

    name = "says"

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def propose(self, briefing: Any) -> Any:
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        if answer == "spoils":
            briefing.genome.clear()
            return None
        return answer


NEW = {"genome.py": "RATE = 0.2\nLAYERS = 4\n"}


def test_a_sound_proposer_passes() -> None:
    assert len(check_proposer(Tuner(), turns=2)) == 2
    assert len(check_proposer(Says(NoProposal("no idea"), Proposal("says", "more", files=NEW), None))) == 1


@pytest.mark.parametrize(
    ("proposer", "words"),
    [
        (Says, "is a class"),
        (object(), "has no propose, name"),
        (Says(), "proposed nothing in 3 turns"),
        (Says("RATE = 2"), "returned str, not a Proposal"),
        (Says("spoils"), "changed its briefing"),
        (Says(Proposal("says", " ", files=NEW)), "no hypothesis"),
        (Says(Proposal("says", "why")), "either files or a patch"),
        (Says(Proposal("says", "why", files=NEW, patch="diff")), "either files or a patch"),
        (Says(Proposal("says", "why", files={"measure.py": ""})), "measure.py, outside the genome"),
        (Says(Proposal("says", "why", files=dict(briefing().genome))), "changes nothing"),
    ],
)
def test_each_fault_of_a_proposer_is_named(proposer: Any, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        check_proposer(proposer)


# -- rules ---------------------------------------------------------------------------------------------


COUNT = itertools.count(10**6)


class Bent:
    """The greedy rule, with its verdicts bent."""

    baseline_runs: Any = 1
    same_seeds = True

    def __init__(self, bend: Any) -> None:
        self.bend, self.rule = bend, make_rule("greedy")

    def compare(self, *told: Any) -> Any:
        return self.bend(self.rule.compare(*told))

    def remeasured(self, bar: float, weight: int, value: float) -> float:
        return bar


@pytest.mark.parametrize("name", ["shrunk", "greedy", "strict", "replicate"])
def test_the_built_in_rules_pass(name: str) -> None:
    check_rule(make_rule(name))


@pytest.mark.parametrize(
    ("bend", "words"),
    [
        (lambda v: Verdict("keep", "improved", bar=1.0), "keeps a candidate that is 10 sigma worse"),
        (lambda v: Verdict("discard", "regressed"), "discards a candidate that is 10 sigma better"),
        (lambda v: replace(v, bar=None), "no finite bar"),
        (lambda v: replace(v, status="crash"), "neither keep nor discard"),
        (lambda v: v.status, "returned str"),
        (lambda v: NeedsTrial("candidate", SEED), "which it has"),
        (lambda v: NeedsTrial("candidate", next(COUNT)), "no verdict after 100"),
        (lambda v: replace(v, detail=str(next(COUNT))), "two verdicts"),
    ],
)
def test_each_fault_of_a_rule_is_named(bend: Any, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        check_rule(Bent(bend))


def test_a_rule_that_lacks_something_is_named() -> None:
    bent = Bent(lambda v: v)
    check_rule(bent)
    bent.baseline_runs = 0
    with pytest.raises(AssertionError, match="baseline_runs is no number from 1"):
        check_rule(bent)
    with pytest.raises(AssertionError, match="has no compare, remeasured, baseline_runs, same_seeds"):
        check_rule(object())


# -- engines -------------------------------------------------------------------------------------------


def test_the_engine_of_this_machine_passes_and_broken_ones_are_named(make_lab: Any, monkeypatch: Any) -> None:
    session = make_lab().session()
    measurement = check_engine(session.local_engine, session.base)
    assert measurement.metric == pytest.approx(11.5) and session.local_engine.platform == this_platform("cpu")
    for name, wrong, words in (
        ("slots", lambda self, count: [], r"slots\(1\) are 0 slots"),
        ("slot_failure", lambda self, slot: "burnt", "burnt"),
        ("collect", lambda self, handle: None, "collect returned NoneType"),
        ("collect", lambda self, handle: Measurement("crashed", detail="no luck"), "was not measured: crashed no luck"),
    ):
        with monkeypatch.context() as patch, pytest.raises(AssertionError, match=words):
            patch.setattr(LocalEngine, name, wrong)
            check_engine(session.local_engine, session.base)
    session.close()
    with pytest.raises(AssertionError, match="has no slots"):
        check_engine(object(), session.base)
