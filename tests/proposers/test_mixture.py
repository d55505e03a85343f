"""Shares that are earned, a turn for a quick one while a slow one thinks, and near misses made together."""

from __future__ import annotations

import random
import threading
from dataclasses import replace
from typing import Any

import pytest
from support.labs import GENOME, SLOW_MEASURE, changed
from support.processes import wait

import nightlab.proposers.backoff
from nightlab.core.config import StopRules
from nightlab.core.events import SharesMoved
from nightlab.core.observer import Observer
from nightlab.core.types import Candidate, Experiment, Metric, ProposerUsage
from nightlab.loop.candidate_queue import CandidateQueue
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.proposal_task import ProposalPace
from nightlab.loop.scheduler import Scheduler
from nightlab.proposers import Briefing, Mixture, NoProposal, Proposal
from nightlab.proposers.backoff import Backoff
from nightlab.proposers.crossover import Crossover
from nightlab.proposers.shares import DOLLAR, FLOOR, ProposerCredit, cost_of
from nightlab.proposers.tuner import Tuner

# -- earnings --------------------------------------------------------------------------------------------


def played(rates: dict[str, float], costs: dict[str, float], turns: int = 400) -> dict[str, int]:
    """Who has how many turns, each a keep with its chance and at its cost."""
    earnings, draw, had = ProposerCredit(rates), random.Random(1), dict.fromkeys(rates, 0)
    for _ in range(turns):
        name = earnings.order()[0]
        had[name] += 1
        earnings.turn(name)
        earnings.add(name, 1.0 if draw.random() < rates[name] else 0.0, costs[name])
    return had


def test_who_gains_more_for_its_cost_has_more_turns_and_nobody_none() -> None:
    had = played({"good": 0.5, "poor": 0.05}, {"good": 1, "poor": 1})
    assert had["good"] > 3 * had["poor"] and had["poor"] >= 0.8 * FLOOR / 2 * 400
    dear = played({"good": 0.5, "cheap": 0.4}, {"good": 10, "cheap": 1})
    assert dear["cheap"] > 3 * dear["good"]


def test_what_was_good_once_fades() -> None:
    earnings = ProposerCredit(["once", "now"])
    for name, others in (("once", "now"), ("now", "once")):
        for _ in range(200):
            for who, gain in ((name, 1.0), (others, 0.0)):
                earnings.turn(who)
                earnings.add(who, gain, 1.0)
    assert sum(earnings.order()[0] == "now" for _ in range(100)) > 90


def test_before_anything_is_known_all_are_alike_and_strangers_do_not_count() -> None:
    earnings = ProposerCredit(["a", "b"])
    assert 20 < sum(earnings.order()[0] == "a" for _ in range(100)) < 80
    earnings.turn("human")
    earnings.add("human", 5.0, 1.0)
    assert set(earnings.accounts) == {"a", "b"} and not any(one.gain for one in earnings.accounts.values())
    assert cost_of({"waited": 5.0, "cost_usd": 0.5, "model": "m"}, 20.0) == 25.0 + 0.5 * DOLLAR


def test_a_session_counts_what_its_proposers_earned_and_again_when_it_resumes(make_lab: Any) -> None:
    lab = make_lab(more='[search]\nshares = "earned"\n')
    lab.idea("1", changed(A=2.0)["genome.py"])
    lab.idea("2", changed(A=9.0)["genome.py"])
    session = lab.session()
    night = ExperimentLoop(session, StopRules(), Scheduler(session, Observer()))
    night.run()
    earnings = night.candidates.earnings
    assert earnings is not None
    account = earnings.accounts["patches"]
    # from 9 to 1, of the loss; it fades a little where the second turn begins after the first was judged
    assert (account.keeps, account.gain) == pytest.approx((1.0, 8.0), rel=0.1) and account.cost > 0
    again = CandidateQueue(session, Observer()).earnings
    assert again and again.accounts["patches"].gain == pytest.approx(account.gain, rel=0.1)
    assert again.accounts["patches"].cost == pytest.approx(account.cost, rel=0.1)


# -- a quick one meanwhile -------------------------------------------------------------------------------


class Slow:
    """A thinker that thinks until it is let go."""

    name = "slow"

    def __init__(self) -> None:
        self.go, self.asked = threading.Event(), 0

    def propose(self, briefing: Briefing) -> Proposal:
        self.asked += 1
        assert self.go.wait(60)
        self.go.clear()
        return Proposal(self.name, "at last", changed(A=3.5))

    def stop(self) -> None:
        self.go.set()


class Quick:
    name = "quick"

    def __init__(self, *values: float) -> None:
        self.values = list(values)
        self.during: list[int] = []

    def propose(self, briefing: Briefing) -> Proposal | None:
        self.during.append(threading.active_count())
        return Proposal(self.name, f"{self.values[0]}", changed(A=self.values.pop(0))) if self.values else None

    def tell(self, proposal: Proposal, refusal: str | None) -> None: ...


def test_a_free_slot_does_not_wait_for_a_slow_one(make_lab: Any) -> None:
    session = make_lab(GENOME, SLOW_MEASURE).session()
    night = ExperimentLoop(session, StopRules(experiments=4), Scheduler(session, Observer()))
    slow, quick = Slow(), Quick(9, 8, 7)
    night.candidates.turns.proposers = Mixture({"slow": (Backoff(slow), 1000.0), "quick": (quick, 1.0)}, {})

    def let_go() -> None:
        wait(lambda: len(quick.values) == 0)
        slow.go.set()

    helper = threading.Thread(target=let_go, daemon=True)
    helper.start()
    assert night.run() == "4 experiments are done"
    who = [e.candidate.proposer for e in session.ledger.experiments()[1:]]
    assert who == ["quick", "quick", "quick", "slow"] and slow.asked <= 2
    last = session.ledger.experiments()[-1].candidate
    assert last.usage["waited"] > 0, "what a slot waited for it is written down"


def test_a_slow_one_alone_is_waited_for_and_quick_ones_are_not_asked_at_once(make_lab: Any) -> None:
    slow, quick = Slow(), Quick(9)
    mixture = Mixture({"slow": (Backoff(slow), 1000.0), "quick": (quick, 1.0)}, {})
    briefing: Any = None
    assert mixture.quick(briefing) is None and not mixture.slow, "nobody thinks"
    found: list[Proposal | None] = []
    thinks = threading.Thread(target=lambda: found.append(mixture.propose(briefing)))
    thinks.start()
    wait(lambda: mixture.slow)
    proposal = mixture.quick(briefing)
    assert proposal and proposal.proposer == "quick" and mixture.quick(briefing) is None
    slow.go.set()
    thinks.join()
    assert found[0] and found[0].proposer == "slow" and not mixture.slow and mixture.overtaken


def test_a_turn_that_quick_ones_had_is_not_theirs_again_when_the_slow_one_fails() -> None:
    class Fails(Slow):
        def propose(self, briefing: Briefing) -> Proposal:
            super().propose(briefing)
            raise NoProposal("no idea")

    slow, quick = Fails(), Quick(9, 8)
    mixture = Mixture({"slow": (Backoff(slow), 1000.0), "quick": (quick, 1.0)}, {})
    found: list[Proposal | None] = []
    briefing: Any = None
    thinks = threading.Thread(target=lambda: found.append(mixture.propose(briefing)))
    thinks.start()
    wait(lambda: mixture.slow)
    assert mixture.quick(briefing)
    slow.go.set()
    thinks.join()
    assert found == [None] and quick.values == [8] and [f.reason for f in mixture.failed()] == ["no idea"]


class Together:
    """A thinker whose only turn ends when all of the ``barrier`` think at once."""

    def __init__(self, name: str, value: float, barrier: threading.Barrier, told: list[tuple[str, ...]]) -> None:
        self.name, self.value, self.barrier, self.told = name, value, barrier, told
        self.turns = 0

    def propose(self, briefing: Briefing) -> Proposal | None:
        self.told.append(tuple(briefing.thinking))
        if self.turns:
            return None
        self.turns += 1
        self.barrier.wait(60)
        return Proposal(self.name, "together", changed(A=self.value))

    def stop(self) -> None: ...


@pytest.mark.parametrize("names", [("a", "b"), ("a", "a")])
def test_as_many_think_at_once_as_there_are_slots_and_each_is_told_of_the_others(
    make_lab: Any, names: tuple[str, ...]
) -> None:
    session = make_lab(GENOME, SLOW_MEASURE).session()
    night = ExperimentLoop(session, StopRules(experiments=2), Scheduler(session, Observer(), 2))
    told: list[tuple[str, ...]] = []
    barrier = threading.Barrier(2)  # broken, and the test fails, unless both think at once
    made = [Together(name, 10.0 + n, barrier, told) for n, name in enumerate(names)]
    parts = {name: (Backoff(*(one for one in made if one.name == name)), 1.0) for name in names}
    night.candidates.turns.proposers = Mixture(parts, {})
    night.run()
    assert sorted(e.candidate.proposer for e in session.ledger.experiments()[1:]) == sorted(names)
    assert [len(each) for each in told[:2]] == [0, 1]


def test_no_other_turn_begins_that_would_pass_a_cap(make_lab: Any) -> None:
    session = make_lab().session()
    queue = ExperimentLoop(session, StopRules(money=1.0), Scheduler(session, Observer(), 2)).candidates
    thinkers = [Together("a", 1.0, threading.Barrier(1), []) for _ in range(2)]
    queue.turns.proposers = Mixture({"a": (Backoff(*thinkers), 1.0)}, {})
    queue.turns.spent = ProposerUsage(turns=3, money=0.6)
    assert queue.turns._room_for_another(), "0.60 and 0.20 of the turn under way"
    queue.turns.spent = ProposerUsage(turns=3, money=0.78)
    assert not queue.turns._room_for_another()


def test_turns_at_once_follow_what_turns_and_trials_take() -> None:
    pace = ProposalPace(8)
    assert pace.turns == 8, "nothing is known yet"
    pace.proposed(60)
    pace.measured(60)
    assert pace.turns == 10
    for _ in range(20):
        pace.proposed(20)
    assert pace.turns == 4
    alone = ProposalPace(1)
    alone.proposed(20)
    alone.measured(60)
    assert alone.turns == 1


@pytest.mark.parametrize("earned", [False, True])
def test_one_that_always_fails_starves_nobody(earned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nightlab.proposers.backoff, "FIRST", 0.0)  # as 15 minutes are when a trial takes an hour
    asked: list[str] = []

    class Thinks:
        def __init__(self, name: str) -> None:
            self.name = name

        def propose(self, briefing: Briefing) -> Proposal:
            asked.append(self.name)
            assert mixture.quick(briefing), "and so nobody else is asked when it fails"
            if self.name == "fails":
                raise NoProposal("no idea")
            return Proposal(self.name, "x")

        def stop(self) -> None: ...

    names = ("fails", "works", "quick")
    parts: Any = {name: (Backoff(Thinks(name)), 1.0) for name in names[:2]} | {"quick": (Quick(*range(99)), 0.01)}
    mixture = Mixture(parts, {}, ProposerCredit(names) if earned else None)
    briefing: Any = None
    for _ in range(40):
        if proposal := mixture.propose(briefing):
            mixture.tell(proposal, None)
    thought = asked.count("works") / len(asked)
    assert 0.2 < thought < 0.9 if earned else thought == 0.5
    later = Mixture(parts, {"works": 20}, failed={"fails": 20, "quick": 7})
    assert later.had == {"fails": 20, "works": 20, "quick": 0}, "and what fails costs a quick one nothing"


# -- recombination ---------------------------------------------------------------------------------------

MORE = GENOME + "# one\n# two\n# three\n# four\nC = 1.0\n# five\n# six\n# seven\n# eight\nD = 1.0\n"
SUM = "from genome import A, B, C, D\nprint(f'METRIC loss={10 + A + B + C + D}')\n"


def test_near_misses_are_made_together_best_pairs_first_and_never_twice(make_lab: Any) -> None:
    lab = make_lab(MORE, SUM, more='[[proposers]]\nkind = "recombine"\nshare = 0.001\n')
    for name, (old, new) in {
        "1": ("C = 1.0", "C = 1.1"),
        "2": ("D = 1.0", "D = 1.2"),
        "3": ("A = 4.0", "A = 9.0"),
    }.items():
        lab.idea(name, MORE.replace(old, new), f"idea {name}")
    session = lab.session()
    night = ExperimentLoop(session, StopRules(), Scheduler(session, Observer()))
    brief = night.candidates.brief
    night.candidates.turns.brief = lambda left: replace(brief(left), sigma=0.5)
    night.run()
    experiments = session.ledger.experiments()
    made = [e.candidate for e in experiments if e.candidate.proposer == "recombine"]
    assert [c.source for c in made] == ["1+2"], "the third is no near miss"
    assert made[0].changes == ("C 1 → 1.1", "D 1 → 1.2") and "idea 1; idea 2" in made[0].hypothesis
    again = Crossover(session.repo, session.ledger.sources())
    assert again.propose(brief()) is None, "it is written down which pairs had their turn"


def test_before_the_baseline_is_measured_there_are_no_near_misses(make_lab: Any) -> None:
    session = make_lab(MORE, SUM).session()
    candidates = ExperimentLoop(session, StopRules(), Scheduler(session, Observer())).candidates
    candidates.making.admit(candidates.making.baseline())
    briefing = candidates.brief()
    assert briefing.champion.number == 0 and briefing.champion.verdict is None
    assert Crossover(session.repo, set()).propose(briefing) is None
    assert Tuner().propose(briefing) is not None, "which needs no number to move a constant"


def test_a_miss_of_an_earlier_champion_is_made_on_this_one(make_lab: Any) -> None:
    lab = make_lab(MORE, SUM)
    for name, (old, new) in {
        "1": ("C = 1.0", "C = 1.1"),
        "2": ("A = 4.0", "A = 2.0"),
        "3": ("C = 1.0", "C = 0.9999"),
    }.items():
        lab.idea(name, MORE.replace(old, new), f"idea {name}")
    _, session = lab.run(experiments=2)
    night = ExperimentLoop(session, StopRules(), Scheduler(session, Observer()))
    briefing = replace(night.candidates.brief(), sigma=0.5)
    recombination = Crossover(session.repo, set())
    proposal = recombination.propose(briefing)
    assert proposal and proposal.source == "1+2"
    assert proposal.files["genome.py"] == MORE.replace("C = 1.0", "C = 1.1").replace("A = 4.0", "A = 2.0")
    assert recombination.propose(briefing) is None


def test_one_that_waits_for_a_plateau_takes_part_in_one_and_does_not_catch_up() -> None:
    base = Experiment(0, Candidate("c0", "", "t0", "baseline", ""), 0.0)
    always, later = Quick(*range(100)), Quick(*range(100))
    always.name, later.name = "always", "later"
    mixture = Mixture({"always": (always, 1.0), "later": (later, 1.0)}, {"always": 30}, plateaus={"later": 5})
    told = Briefing(Metric("loss"), "cpu", {}, base, [base])

    def turns(number: int) -> list[str]:
        made = [mixture.propose(told) for _ in range(number)]
        for one in filter(None, made):
            mixture.tell(one, None)
        return [one.proposer for one in made if one]

    assert mixture.move_shares(4) is None and turns(2) == ["always", "always"]
    assert mixture.move_shares(5) == ("later",) and mixture.move_shares(9) is None
    assert sorted(turns(1) + turns(1) + turns(1) + turns(1)) == ["always", "always", "later", "later"]
    assert mixture.move_shares(0) == () and turns(1) == ["always"]
    always.values = []
    assert turns(1) == ["later"], "it has its turn if no other has anything"


def test_a_session_says_when_its_shares_moved(make_lab: Any) -> None:
    parts = '[[proposers]]\nkind = "patches"\n[[proposers]]\nkind = "tuner"\nplateau = 2\n'
    lab = make_lab(more=parts)
    for n in (1, 2, 3):
        lab.idea(str(n), changed(A=9.0 + n)["genome.py"])
    session = lab.session()
    said: list[str] = []
    view = Observer()
    view.say = said.append  # type: ignore[method-assign]
    ExperimentLoop(session, StopRules(experiments=4), Scheduler(session, view)).run()
    moved = session.ledger.events(SharesMoved)
    assert moved[0].proposers == ("tuner",) and moved[0].since == 2
    assert any("2 experiments since the last keep: tuner may propose too" in words for words in said)
