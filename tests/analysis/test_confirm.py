"""What a session claims: on fresh seeds, beside the baseline, with an interval, and on data that no search reads."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from support.labs import CONTRACT as TINY
from support.labs import TinyLab, lab_in
from support.processes import PATIENCE, wait
from support.tiers import by_default

from nightlab.analysis.confirm import Confirmer
from nightlab.core.config import StopRules
from nightlab.core.events import Alarm, Rechecked
from nightlab.core.observer import Observer, RunningTrialStatus
from nightlab.core.types import HeldOutCheck, Measurement, NightlabError, Trial
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.scheduler import Scheduler
from nightlab.session.session import Session
from nightlab.storage.git import Repo
from nightlab.storage.ledger import Ledger
from nightlab.ui.terminal.log import confirmed_words

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("confirm")]  # one worker makes ``finished``

EVALUATOR = '[evaluator]\ncommand = "python evaluate.py"\nheld_out = true\n\n[budget]'
CONTRACT = TINY.format(proposer="patches").replace('"tiny"', '"noisy"').replace("[budget]", EVALUATOR)

GENOME = """\
A = 4.0
B = 8
C = 0
FAKE = 0


def extra():
    return 1.0


# a line
# and another
# that keep
# two changes
# apart


def bonus():
    return 0.0
"""

MEASURE = """\
import os
import genome
assert "NIGHTLAB_HELD_OUT" not in os.environ, "a candidate sees it"
assert genome.CRASHES_AT != int(os.environ["NIGHTLAB_SEED"]) if hasattr(genome, "CRASHES_AT") else True
"""

# C is worth nothing but luck on the first seed of the search; FAKE gains on the search's data alone.
EVALUATE = """\
import os, random
from genome import A, B, C, FAKE, bonus, extra
seed, budget = int(os.environ["NIGHTLAB_SEED"]), float(os.environ["NIGHTLAB_BUDGET"])
true = (A - 1) ** 2 + 0.1 * (B - 3) ** 2 + extra() - bonus() + 10 / budget
draw = random.Random(f"{seed} {A} {B} {C} {FAKE} {extra()} {bonus()}")
luck = 0.3 * C if seed == 1 else 0
print(f"METRIC loss={true - FAKE - luck + draw.gauss(0, 0.01):.6f}")
if os.environ.get("NIGHTLAB_HELD_OUT") == "1":
    print(f"METRIC held_out={true + draw.gauss(0, 0.01):.6f} ± 0.01")
"""

# What a search did one after the other, each step on top of the one before.
STEPS = [
    ("nearer", "A = 4.0", "A = 2.0"),
    ("nearer still", "A = 2.0", "A = 1.5"),
    ("the neighbour", "B = 8", "B = 3"),
    ("less of it", "return 1.0", "return 0.5"),
    ("hardly any", "return 0.5", "return 0.1"),
    ("a bonus", "return 0.0", "return 0.7"),
    ("luck", "C = 0", "C = 2"),
]


def chain(lab: TinyLab, *steps: tuple[str, str, str]) -> None:
    """Ideas of which each is a patch on what the one before made."""
    repo, text = Repo(lab.folder), (lab.folder / "genome.py").read_text()
    at = repo.resolve() or ""
    for n, (hypothesis, old, new) in enumerate(steps, 1):
        assert old in text
        text = text.replace(old, new)
        made = repo.commit_files(at, {"genome.py": text}, "x")
        lab.write(f"ideas/{n:02}.patch", f"Hypothesis: {hypothesis}\n{repo.diff(at, made)}")
        at = made


@pytest.fixture
def noisy(make_lab: Any) -> Any:
    def make(*steps: tuple[str, str, str], genome: str = GENOME, contract: str = CONTRACT, **more: str) -> TinyLab:
        lab = make_lab(genome, MEASURE, contract=contract, files={"evaluate.py": EVALUATE, **more})
        chain(lab, *steps)
        return lab

    return make


@pytest.fixture(scope="module")
def finished(tmp_path_factory: Any) -> TinyLab:
    """A session that kept every step. Work on a copy: ``won``."""
    place = tmp_path_factory.mktemp("finished")
    lab = lab_in(place, GENOME, MEASURE, contract=CONTRACT, files={"evaluate.py": EVALUATE})
    chain(lab, *STEPS)
    _, session = lab.run()
    assert [e.kept for e in session.ledger.experiments()] == [True] * 8
    session.close()
    return lab


@pytest.fixture
def won(finished: TinyLab, tmp_path: Path) -> TinyLab:
    return finished.copied(tmp_path / "won")


class Beside(Observer):
    """How many flew at once."""

    most = 0

    def tick(self, flights: Sequence[RunningTrialStatus]) -> None:
        self.most = max(self.most, len(flights))


@pytest.mark.parametrize("slots", by_default(2, of=[1, 2]))
def test_a_confirmation_uses_all_slots(won: TinyLab, slots: int) -> None:
    session, view = won.session(), Beside()
    scheduler = Scheduler(session, view, slots)
    evidence = Confirmer(scheduler).confirm(3)
    assert evidence and evidence.gain.pairs == 3 and evidence.shown
    assert measured(session.ledger, "confirm") == [
        (n, 1001 + i) for i in range(3) for n in (0, session.champion().number)
    ]
    assert view.most == slots


def read(lab: TinyLab) -> Ledger:
    return Ledger(lab.folder / ".nightlab" / "t" / "ledger.db", read_only=True)


def claims_of(lab: TinyLab) -> tuple[Session, Confirmer]:
    session = lab.session()
    return session, Confirmer(Scheduler(session, Observer()))


def measured(ledger: Ledger, purpose: Any) -> list[tuple[int, int]]:
    """Experiment and seed of each trial of a purpose that yielded a number."""
    return [(t.experiment, t.seed) for t, m in ledger.trials(purpose=purpose) if m and m.metric is not None]


# -- confirming ----------------------------------------------------------------------------------------


def test_a_gain_is_confirmed_and_looking_again_costs_certainty(won: TinyLab, nightlab: Any) -> None:
    session, claims = claims_of(won)
    searched = {t.seed for t, _ in session.ledger.trials()}
    first = claims.confirm(2)
    assert first and first.shown and first.level == "held out" and first.held_out and first.held_out.low > 0
    assert first.gain.mean == pytest.approx(12.85, abs=0.05) and first.held_out.mean == pytest.approx(12.85, abs=0.05)
    assert not searched & set(first.seeds) and first.gain.level == 0.95 == first.held_out.level
    values = {(t.experiment, t.seed): m for t, m in session.ledger.trials(purpose="confirm") if m}
    pairs = [(values[0, seed], values[7, seed]) for seed in first.seeds]
    assert first.gain.mean == pytest.approx(fmean(a.metric - b.metric for a, b in pairs))
    assert all(run.held_out_error == 0.01 for pair in pairs for run in pair)
    assert first.held_out.mean == pytest.approx(fmean(a.held_out - b.held_out for a, b in pairs))

    second = claims.confirm(3)
    assert second and second.gain.level == 0.975 and second.seeds[:2] == first.seeds
    assert sorted(measured(session.ledger, "confirm")) == sorted((n, s) for n in (0, 7) for s in second.seeds)
    trials = len(session.ledger.trials())
    assert claims.confirm(2) == first and claims.confirm(3) == second
    assert len(session.ledger.trials()) == trials, "what was measured is not measured again"
    assert session.ledger.experiment(7).evidence == (first, second)
    session.close()

    words = nightlab("confirm", "--seeds", "3", cwd=won)
    assert words.code == 0 and "97.5% interval" in words.out and "confirmed:" in words.out, words.err
    assert "held out:" in words.out and "on data that no decision has read" in words.out
    assert len(read(won).trials()) == trials
    for facts in (nightlab("show", "7", "--json", cwd=won).json, nightlab("log", "--json", cwd=won).json[7]):
        assert [e["level"] for e in facts["evidence"]] == ["held out", "held out"]
        assert facts["evidence"][0]["gain"]["mean"] == first.gain.mean
    assert nightlab("show", "6", "--json", cwd=won).json["evidence"] == []


def test_a_gain_on_the_search_s_data_alone_is_told_from_one_on_held_out_data(noisy: Any, nightlab: Any) -> None:
    contract = CONTRACT.replace("upkeep = 0", "upkeep = 1")
    lab = noisy(("too good", "FAKE = 0", "FAKE = 2"), contract=contract)
    lab.run()[1].close()
    ledger = read(lab)
    assert ledger.champion().number == 1
    alarms = [note.words for note in ledger.events(Alarm)]
    assert len(alarms) == 1 and "larger than the gain on held-out data" in alarms[0]
    seen = {(t.purpose, t.experiment): m.held_out is not None for t, m in ledger.trials() if m}
    assert seen == {("search", 0): True, ("search", 1): False, ("upkeep", 1): True}, "the search does not read it"

    done = nightlab("confirm", "--seeds", "2", cwd=lab)
    assert done.code == 0 and "not shown on held-out data:" in done.out, done.out
    [evidence] = read(lab).experiment(1).evidence
    assert evidence.level == "confirmed" and evidence.shown and evidence.held_out.low < 0.1


def test_an_honest_gain_raises_no_alarm(noisy: Any) -> None:
    lab = noisy(STEPS[0], contract=CONTRACT.replace("upkeep = 0", "upkeep = 1"))
    _, session = lab.run()
    [note] = session.ledger.events(Rechecked)
    assert note.look == HeldOutCheck(False) and session.ledger.events(Alarm) == []


def test_there_is_nothing_to_claim_of_a_baseline(noisy: Any, nightlab: Any) -> None:
    lab = noisy(("worse", "A = 4.0", "A = 5.0"))
    lab.run()[1].close()
    for command in (["confirm"], ["confirm", "--simplify"], ["transfer", "--scale", "2"]):
        done = nightlab(*command, cwd=lab)
        assert done.code == 3 and "no gain to confirm" in done.out
    assert nightlab("confirm", "--json", cwd=lab).json["confirmed"] is False
    assert {t.purpose for t, _ in read(lab).trials()} == {"search"}


def test_a_champion_that_fails_on_a_fresh_seed_is_named(noisy: Any) -> None:
    lab = noisy(("fails", "C = 0", "C = 1\nCRASHES_AT = 1002"))
    lab.run()[1].close()
    session, claims = claims_of(lab)
    with pytest.raises(NightlabError, match=r"experiment 1 can't be measured: with seed 1002 it crashed.*Assert") as e:
        claims.confirm(2)
    assert "nightlab show 1" in e.value.hint
    assert session.ledger.experiment(1).evidence == () and session.ledger.open_trials() == []
    assert [s for _, s in measured(session.ledger, "confirm")] == [1001, 1001, 1002]


def test_a_trial_that_failed_once_by_accident_does_not_forbid_the_claim(won: TinyLab) -> None:
    session, claims = claims_of(won)
    commit, budget = session.champion().candidate.commit, session.budget.record()
    accident = Trial("0007-confirm-s1001-1", 7, commit, 1001, "confirm", budget)
    session.ledger.start(accident)
    session.ledger.finish(accident, Measurement("crashed", detail="out of memory"))
    evidence = claims.confirm(2)
    assert evidence and evidence.shown
    assert Counter(t.seed for t, _ in session.ledger.trials(7, "confirm")) == {1001: 2, 1002: 1}


def test_ctrl_c_in_a_confirmation_loses_nothing(noisy: Any, start_nightlab: Any, nightlab: Any) -> None:
    slow = GENOME + "\n\nimport time; time.sleep(0.4)\n"
    lab = noisy(STEPS[0], genome=slow)
    lab.run()[1].close()
    process = start_nightlab("confirm", "--seeds", "3", cwd=lab)

    def third_flies() -> bool:
        ledger = read(lab)
        running, landed = ledger.open_trials(), measured(ledger, "confirm")
        ledger.close()
        return len(landed) == 2 and bool(running)

    wait(third_flies)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130 and "Traceback" not in out, out
    before = read(lab).trials(purpose="confirm")
    assert 2 <= len(before) < 6 and read(lab).experiment(1).evidence == ()

    again = nightlab("confirm", "--seeds", "3", cwd=lab)
    assert again.code == 0, again.out + again.err
    after = read(lab).trials(purpose="confirm")
    assert after[: len(before)] == before and read(lab).experiment(1).evidence
    assert sorted(measured(read(lab), "confirm")) == [(n, s) for n in (0, 1) for s in (1001, 1002, 1003)]


@pytest.mark.parametrize("share", [0.1, 0])
def test_a_run_confirms_what_it_gained_if_the_contract_leaves_room(noisy: Any, nightlab: Any, share: float) -> None:
    lab = noisy(STEPS[0], contract=CONTRACT.replace("confirm = 0", f"confirm = {share}"))
    done = nightlab("run", "--tag", "t", cwd=lab)
    assert done.code == 0, done.err
    assert ("is it real?" in done.out) == ("confirmed:" in done.out) == bool(share)
    confirmed = [(n, s) for s in (1001, 1002, 1003) for n in (0, 1)] if share else []
    assert measured(read(lab), "confirm") == confirmed
    assert [e.level for e in read(lab).experiment(1).evidence] == (["held out"] if share else [])
    if share:
        assert "is it real?" not in nightlab("run", cwd=lab).out, "it has been looked at"


def test_evidence_at_another_scale_does_not_replace_a_confirmation(won: TinyLab) -> None:
    _, claims = claims_of(won)
    assert claims.unconfirmed()
    assert claims.transfer(2, 2.0, {})
    assert claims.unconfirmed()


# -- taking changes out again --------------------------------------------------------------------------


def test_each_change_is_taken_out_and_what_earns_nothing_goes(won: TinyLab, nightlab: Any) -> None:
    done = nightlab("confirm", "--seeds", "2", "--ablate", "--json", cwd=won)
    assert done.code == 0, done.err
    found = {row["number"]: row for row in done.json["ablation"]}
    assert list(found) == [1, 2, 3, 4, 5, 6, 7]
    assert "later changes set the same constants" in found[1]["why"]
    assert "later changes depend on it" in found[4]["why"]
    assert found[1]["gain"] is None is found[4]["gain"]
    worth = {n: row["gain"] for n, row in found.items() if row["gain"]}
    assert {n: gain["mean"] for n, gain in worth.items()} == pytest.approx(
        {2: 0.75, 3: 2.5, 5: 0.4, 6: 0.7, 7: 0.0}, abs=0.05
    )
    assert all((gain["low"] > 0) == (n != 7) for n, gain in worth.items())
    ledger = read(won)
    for n in worth:
        assert [e.what for e in ledger.experiment(n).evidence if e.against == n] == ["taken out of #7"]
    without = {t.experiment: t.commit for t, _ in ledger.trials(purpose="ablate") if t.experiment != 7}
    assert "A = 2.0\nB = 3\nC = 2" in won.git("show", f"{without[2]}:genome.py"), "a neighbour stays as it is"
    assert "A = 1.5\nB = 8\nC = 2" in won.git("show", f"{without[3]}:genome.py")
    assert "return 0.5" in won.git("show", f"{without[5]}:genome.py")
    assert won.git("rev-parse", "refs/nightlab/t/without-000003") == without[3]
    trials = len(ledger.trials())

    simpler = nightlab("confirm", "--seeds", "2", "--simplify", cwd=won)
    assert simpler.code == 0, simpler.err
    assert "#7" in simpler.out and "earns nothing" in simpler.out
    ledger = read(won)
    assert len(ledger.trials()) == trials + 5, "two pairs, one run with the checks, and nothing twice"
    made = ledger.champion()
    assert (made.number, made.verdict.status, made.verdict.reason) == (8, "keep", "simpler")
    assert made.candidate.changes == ("C 2 → 0",) and "#7" in made.candidate.hypothesis
    assert won.git("rev-parse", "nightlab/t") == made.candidate.commit
    best, reverted = (won.git("show", f"{e.candidate.commit}:genome.py") for e in (ledger.experiment(7), made))
    assert reverted == best.replace("C = 2", "C = 0")
    assert made.bar == ledger.experiment(7).bar and made.evidence == (), "a new genome has to show it anew"
    ledger.close()

    # The search goes on from there, and so do the claims.
    chain(won, ("further", "A = 4.0", "A = 1.2"))
    (won.folder / "ideas" / "01.patch").rename(won.folder / "ideas" / "20.patch")
    won.run()[1].close()
    assert [e.number for e in read(won).experiments() if e.verdict][-1] == 9


def test_nothing_to_simplify_is_said_to_people_only(noisy: Any, nightlab: Any) -> None:
    lab = noisy(STEPS[0])
    lab.run()[1].close()
    words = nightlab("confirm", "--seeds", "2", "--simplify", cwd=lab)
    assert words.code == 0 and "nothing to simplify" in words.out, words.err
    facts = nightlab("confirm", "--seeds", "2", "--simplify", "--json", cwd=lab)
    assert facts.code == 0 and facts.json["confirmed"] and facts.json["ablation"][0]["gain"]["low"] > 0
    assert read(lab).champion().number == 1


# -- elsewhere -----------------------------------------------------------------------------------------


def test_a_gain_is_measured_at_another_budget_and_another_size(won: TinyLab, nightlab: Any) -> None:
    wider = nightlab("transfer", "--scale", "2", "--seeds", "2", "--json", cwd=won)
    assert wider.code == 0, wider.err
    other = nightlab("transfer", "--scale", "2", "--set", "B=6", "--seeds", "2", cwd=won)
    assert other.code == 0 and "transferred:" in other.out and "B = 6" in other.out, other.err
    facts = nightlab("transfer", "--scale", "2", "--set", "B=6", "--seeds", "2", "--json", cwd=won).json
    assert wider.json["level"] == facts["level"] == "transferred"
    assert "40 s" in wider.json["what"] and "B = 6" in facts["what"]
    assert wider.json["gain"]["mean"] == pytest.approx(12.85, abs=0.05)
    assert facts["gain"]["mean"] == pytest.approx(12.85 - 2.5, abs=0.05)
    for each in (wider.json, facts):
        shown = [a - b for a, b in zip(each["baseline"], each["champion"], strict=True)]
        assert fmean(shown) == pytest.approx(each["gain"]["mean"]), "the numbers shown are those of the claim"
        assert each["held_out"]["low"] > 0
    ledger = read(won)
    assert fmean(wider.json["baseline"]) == pytest.approx(ledger.experiment(0).measurement.metric - 0.25, abs=0.05)
    used = {t.seed for t, _ in ledger.trials(purpose="search")}
    assert not used & {t.seed for t, _ in ledger.trials(purpose="transfer")} and len(ledger.trials(0, "transfer")) == 4
    assert [e.level for e in ledger.champion().evidence] == ["transferred", "transferred"]
    assert ledger.next_number() == 8 and ledger.champion().number == 7


def test_a_transfer_that_can_not_be_says_why(won: TinyLab, nightlab: Any) -> None:
    before = len(read(won).trials())
    unknown = nightlab("transfer", "--set", "DEPTH=4", cwd=won)
    assert unknown.code == 1 and "DEPTH" in unknown.err and "no such constant" in unknown.err
    nothing = nightlab("transfer", cwd=won)
    assert nothing.code == 2 and "name a change" in nothing.err
    assert nightlab("transfer", "--set", "DEPTH", cwd=won).code == 2
    assert len(read(won).trials()) == before


def test_a_gain_that_does_not_transfer_is_not_claimed(won: TinyLab) -> None:
    session, claims = claims_of(won)
    code = {"A": 4.0, "B": 8, "C": 0}
    evidence = claims.transfer(2, 1.0, code)
    assert evidence and evidence.gain.mean == pytest.approx(0.9 + 0.7, abs=0.05), "what the code gained is left"
    worse = claims.transfer(2, 1.0, {**code, "FAKE": 3})
    assert worse and worse.what.endswith("FAKE = 3") and worse != evidence
    assert [e.level for e in session.champion().evidence] == ["transferred"] * 2
    assert "97.5" not in confirmed_words(session.metric, worse, [], [])


def test_a_search_after_a_claim_is_judged_as_before(won: TinyLab) -> None:
    """A claim's trials are no trials of the search: the same ideas get the same verdicts."""
    session, claims = claims_of(won)
    before = [(e.number, e.measurement, e.verdict, e.bar) for e in session.ledger.experiments()]
    claims.confirm(2)
    ExperimentLoop(session, StopRules(), Scheduler(session, Observer())).run()
    assert [(e.number, e.measurement, e.verdict, e.bar) for e in session.ledger.experiments()] == before
