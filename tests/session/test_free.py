"""A session learns from its baseline what may be done beside training, and holds its candidates to that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.labs import CONTRACT, TinyLab

from nightlab.core.config import StopRules
from nightlab.core.observer import Observer
from nightlab.core.overhead import words
from nightlab.engines.local import read_result
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.scheduler import Scheduler
from nightlab.session.free import free_of_charge

MEASURE = """\
import time
import nightlab_guest
from genome import A
trial = nightlab_guest.trial()
trial.start()
print(f"METRIC loss={A}")
"""
LEARNS_FIRST = "import time\nwhile time.process_time() < 3: pass\nA = 1.0\n"


def cpu_seconds(budget: float) -> str:
    """A contract on the CPU's clock; on a busy machine a start may take a while."""
    contract = CONTRACT.format(proposer="patches").replace("startup = 20", "startup = 200")
    return contract.replace("amount = 20", f'clock = "cpu"\namount = {budget}')


@pytest.fixture
def lab(make_lab: Any) -> TinyLab:
    contract = cpu_seconds(0.5)
    made: TinyLab = make_lab("A = 4.0\n", MEASURE, contract=contract)
    made.idea("1-honest", "A = 2.0\n")
    made.idea("2-learns-first", LEARNS_FIRST)
    return made


def test_a_candidate_that_learns_before_its_start_is_over_budget_also_after_a_resume(
    lab: TinyLab, nightlab: Any
) -> None:
    _, session = lab.run(experiments=1)
    budget = session.budget.record()
    free = free_of_charge(session.ledger, budget)
    assert free is not None and free["signals"] == 1 and 0 < free["start"] < 1, free
    assert "start" in words(free, budget.clock)
    session.close()

    _, session = lab.run(stall=1)
    reasons = {e.number: e.verdict and e.verdict.reason for e in session.ledger.experiments()}
    assert reasons == {0: "baseline", 1: "improved", 2: "over budget"}, reasons
    trials = {trial.experiment: (trial, measured) for trial, measured in reversed(session.ledger.trials())}
    assert trials[0][0].free is None and trials[1][0].free == trials[2][0].free == free
    measured = trials[2][1]
    assert measured is not None and "before its start signal" in measured.detail
    session.close()
    for command in ("check", "log"):
        assert "beside training the baseline takes: start " in nightlab(command, cwd=lab).out


SLOW = """\
import os, time
import nightlab_guest
from genome import A, SLOWER
until = time.process_time() + SLOWER * float(open("data/seconds").read())
while time.process_time() < until: pass
trial = nightlab_guest.trial()
trial.start()
print(f"METRIC loss={A}")
"""


def seconds_of(lab: TinyLab) -> Path:
    """The file from which the lab's programs read how long they take; not one of the lab's."""
    lab.write(".gitignore", "/data\n/.nightlab\n")
    lab.commit()
    (lab.folder / "data").mkdir()
    return lab.folder / "data" / "seconds"


@pytest.mark.parametrize(("slower", "verdict", "trials"), [(1, "improved", 1), (3.5, "over budget", 2)])
def test_who_is_over_budget_on_a_busy_machine_runs_again_beside_the_baseline(
    make_lab: Any, monkeypatch: pytest.MonkeyPatch, slower: float, verdict: str, trials: int
) -> None:
    """Only what the machine made slower for the baseline, too, is forgiven."""
    contract = cpu_seconds(0.05)
    lab: TinyLab = make_lab("A, SLOWER = 4.0, 1\n", SLOW, contract=contract + '[data]\nopen = ["data"]\n')
    seconds = seconds_of(lab)
    seconds.write_text("0")
    lab.idea("1", f"A, SLOWER = 2.0, {slower}\n")
    session = lab.session()
    ExperimentLoop(session, StopRules(), Scheduler(session, Observer())).answer()  # the baseline
    session.close()
    seconds.write_text("1.2")
    monkeypatch.setattr(read_result, "slow_machine", lambda facts: "other programs used all of it" if facts else "")

    _, session = lab.run(stall=1)
    found = session.ledger.experiment(1).verdict
    assert found is not None and found.reason == verdict
    ran = [(trial.experiment, m.outcome if m else "") for trial, m in session.ledger.trials()]
    again = [(1, "over budget"), (0, "measured")]
    last = [(1, "measured")] if verdict == "improved" else [(1, "over budget")]
    assert ran[-len(again) * trials - 1 :] == again * trials + last, ran
    session.close()


def test_who_takes_too_long_on_a_busy_machine_runs_again(make_lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A starved process spends no CPU time, and the wall-clock limit ends it: here a sleep stands for that."""
    contract = CONTRACT.format(proposer="patches").replace("amount = 20", 'clock = "cpu"\namount = 0.3\nwall_limit = 2')
    measure = (
        "import time, nightlab_guest\nfrom genome import A\nnightlab_guest.trial().start()\n"
        "time.sleep(0 if A == 4 else float(open('data/seconds').read()))\nprint(f'METRIC loss={A}')\n"
    )
    lab: TinyLab = make_lab("A = 4.0\n", measure, contract=contract + '[data]\nopen = ["data"]\n')
    seconds = seconds_of(lab)
    seconds.write_text("60")
    lab.idea("1", "A = 2.0\n")

    def calm_again(facts: Any) -> str:
        seconds.write_text("0")
        return "other programs used all of it" if facts else ""

    monkeypatch.setattr(read_result, "slow_machine", calm_again)
    _, session = lab.run(stall=1)
    ran = [m.outcome for _, m in session.ledger.trials(1) if m]
    assert ran[:2] == ["timed out", "measured"] and session.ledger.experiment(1).kept
    session.close()


def test_an_evaluator_is_told_the_baseline_s_numbers(make_lab: Any) -> None:
    """What the baseline's repeats differ by, for example. Nobody tells a candidate."""
    evaluate = (
        "import json, os\nfrom genome import A\nknown = os.environ.get('NIGHTLAB_BASELINE')\n"
        "told = json.loads(known)['rounding'] if known else 0\n"
        "print(f'METRIC loss={A}\\nMETRIC rounding=0.5\\nMETRIC told={told}')\n"
    )
    contract = CONTRACT.format(proposer="patches") + '[evaluator]\ncommand = "python evaluate.py"\n'
    candidate = "import os\nassert 'NIGHTLAB_BASELINE' not in os.environ\n"
    lab: TinyLab = make_lab("A = 4.0\n", candidate, contract=contract, files={"evaluate.py": evaluate})
    lab.idea("1", "A = 2.0\n")
    _, session = lab.run(stall=1)
    told = [measured.secondary["told"] for _, measured in session.ledger.trials() if measured]
    assert told == [0, 0.5]
    session.close()
