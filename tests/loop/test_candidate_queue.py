"""Where experiments come from: thought of while trials run, made ready, and never out of date."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from support.labs import GENOME, SLOW_MEASURE, changed
from support.processes import wait

from nightlab.core.config import StopRules
from nightlab.core.events import ProposalRefused, TrialFinished, TrialStarted
from nightlab.core.observer import Observer
from nightlab.core.types import Experiment, NightlabError
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.proposer_turns import MOMENT, ProposerTurns
from nightlab.loop.scheduler import Scheduler
from nightlab.proposers import Briefing, Mixture, Proposal


class Scripted:
    """A proposer that says what it is told to, and remembers when it was asked and what about."""

    name = "scripted"

    def __init__(self, *files: dict[str, str], think: float = 0.0) -> None:
        self.files, self.think = list(files), think
        self.asked: list[tuple[float, int, str]] = []
        self.outcome_summary: list[str | None] = []
        self.champions: list[Experiment] = []
        self.lock = threading.Lock()

    def propose(self, briefing: Briefing) -> Proposal | None:
        assert self.lock.acquire(blocking=False), "one thought at a time"
        try:
            self.asked.append((time.time(), len(briefing.history), briefing.genome["genome.py"]))
            self.champions.append(briefing.champion)
            time.sleep(self.think)
            assert len(self.outcome_summary) == len(self.asked) - 1 or not self.files, (
                "told of the last before it is asked again"
            )
            usage = {"seconds": self.think} if self.think else {}
            turn = f"turn {len(self.asked)}"
            return Proposal(self.name, turn, self.files.pop(0), usage=usage) if self.files else None
        finally:
            self.lock.release()

    def tell(self, proposal: Proposal, refusal: str | None) -> None:
        self.outcome_summary.append(refusal)


@pytest.fixture
def session_night(make_lab: Any) -> Any:
    def make(proposer: Any, genome: str = GENOME, measure: str = SLOW_MEASURE, **stop: Any) -> ExperimentLoop:
        session = make_lab(genome, measure).session()
        night = ExperimentLoop(session, StopRules(**stop), Scheduler(session, Observer()))
        night.candidates.turns.proposers = Mixture({proposer.name: (proposer, 1.0)}, {})
        return night

    return make


def spans(night: ExperimentLoop) -> dict[int, tuple[float, float]]:
    """When each experiment's trial began and ended, by the ledger."""
    begun = {note.trial.experiment: note.at for note in night.ledger.events(TrialStarted)}
    ended = {int(note.id.split("-")[0]): note.at for note in night.ledger.events(TrialFinished)}
    return {number: (begun[number], ended[number]) for number in begun}


def test_the_next_candidate_is_thought_of_while_a_trial_runs(session_night: Any) -> None:
    proposer = Scripted(changed(A=9), changed(A=8.5), changed(A=8.1), think=0.1)
    night = session_night(proposer, experiments=3)
    assert night.run() == "3 experiments are done"
    trials = spans(night)
    for turn in (0, 1, 2):  # the first while the baseline runs
        at, known, _ = proposer.asked[turn]
        assert trials[turn][0] <= at < trials[turn][1], "it thinks while the one before it trains"
        assert known == turn + 1, "and knows of the one that runs"
    assert [champion.number for champion in proposer.champions] == [0, 0, 0]
    assert [champion.verdict is None for champion in proposer.champions] == [True, False, False]


def test_a_thought_for_a_baseline_that_crashes_is_written_down(session_night: Any) -> None:
    proposer = Scripted(changed(A=9), think=0.1)
    night = session_night(proposer, measure=SLOW_MEASURE + "raise SystemExit(3)\n")
    with pytest.raises(NightlabError, match="the baseline can't be measured"):
        night.run()
    assert night.ledger.next_number() == 1 and len(proposer.asked) == 1
    (lost,) = night.ledger.events(ProposalRefused)
    assert lost.hypothesis == "turn 1" and lost.usage == {"seconds": 0.1}


def test_what_waits_is_made_anew_on_a_new_champion(session_night: Any) -> None:
    # Thought of while the first one ran, which became the champion; the two changes lie apart.
    genome = GENOME + "# one\n# two\n# three\n# four\nC = 1\n"
    first, second = genome.replace("A = 4.0", "A = 2.0"), genome.replace("C = 1", "C = 2")
    proposer = Scripted({"genome.py": first}, {"genome.py": second})
    night = session_night(proposer, genome=genome)
    night.run()
    one, two = night.ledger.experiments()[1:]
    assert one.kept and two.candidate.parent == one.candidate.commit
    assert night.session.genome(two.candidate.commit)["genome.py"] == first.replace("C = 1", "C = 2")
    assert two.candidate.changes == ("C 1 → 2",) and proposer.outcome_summary == [None, None]


def test_constants_are_moved_on_a_new_champion_by_their_names(session_night: Any) -> None:
    # Neighbours conflict as texts. What the champion says beside them stays.
    genome = GENOME.replace("[1..16]", "[1..16]\nC = 1")
    first = genome.replace("A = 4.0", "A = 2.0").replace("[1..16]", "[2..9]")
    proposer = Scripted({"genome.py": first}, {"genome.py": genome.replace("B = 8", "B = 5").replace("C = 1", "C = 2")})
    night = session_night(proposer, genome=genome)
    night.run()
    one, two = night.ledger.experiments()[1:]
    assert one.kept and two.kept and two.candidate.parent == one.candidate.commit
    text = night.session.genome(two.candidate.commit)["genome.py"]
    assert text == first.replace("B = 8", "B = 5").replace("C = 1", "C = 2")
    assert two.candidate.changes == ("B 8 → 5", "C 1 → 2") and two.candidate.constants == {"A": 2.0, "B": 5, "C": 2}
    assert two.candidate.hypothesis == "turn 2" and night.ledger.events(ProposalRefused) == []


def test_a_loser_of_a_race_moves_its_constants_on_the_winner(make_lab: Any) -> None:
    session = make_lab(GENOME, SLOW_MEASURE).session()
    night = ExperimentLoop(session, StopRules(), Scheduler(session, Observer(), 2))
    night.candidates.turns.proposers = Mixture({"scripted": (Scripted(changed(A=2.0), changed(B=5)), 1.0)}, {})
    night.run()
    one, two, again = session.ledger.experiments()[1:]
    assert one.kept and one.candidate.parent == two.candidate.parent == session.base
    assert again.kept and again.candidate.parent == one.candidate.commit and again.candidate.hypothesis == "turn 2"
    assert again.candidate.changes == ("B 8 → 5",) and again.candidate.constants == {"A": 2.0, "B": 5}


def test_whole_files_that_no_longer_fit_the_champion_are_tried_on_the_parent_they_were_written_for(
    session_night: Any,
) -> None:
    night = session_night(Scripted(changed(A=2.0), changed(A=3.0)))
    night.run()
    base, one, two = night.ledger.experiments()
    assert one.kept and two.candidate.parent == base.candidate.commit and not two.kept
    assert two.candidate.hypothesis == "turn 2" and two.measurement.metric == pytest.approx(6.5)
    assert not night.ledger.events(ProposalRefused)


def test_a_patch_dropped_in_while_the_last_one_runs_is_tried(make_lab: Any) -> None:
    lab = make_lab(GENOME, SLOW_MEASURE + "time.sleep(3 if A == 9 else 0)\n")  # long enough on a busy machine
    lab.idea("01", changed(A=9)["genome.py"])
    session = lab.session()
    night = ExperimentLoop(session, StopRules(), Scheduler(session, Observer()))

    def drop() -> None:
        while not any(t.experiment == 1 for t in [r.trial for r in list(night.scheduler.running.values())]):
            time.sleep(0.01)
        time.sleep(4 * MOMENT)  # the queue has said by now that it is empty
        lab.idea("02", changed(A=8)["genome.py"])

    late = threading.Thread(target=drop, daemon=True)
    late.start()
    assert night.run() == "the proposers have nothing left to propose"
    assert session.ledger.next_number() == 3


def test_what_a_proposer_raises_is_told_where_it_is_waited_for(session_night: Any) -> None:
    class Broken(Scripted):
        def propose(self, briefing: Briefing) -> Proposal | None:
            raise RuntimeError("no idea")

    with pytest.raises(RuntimeError, match="no idea"):
        session_night(Broken()).run()


def test_a_stopping_session_thinks_of_nothing_more(session_night: Any) -> None:
    proposer = Scripted(changed(A=9), changed(A=8.5), changed(A=8.1))
    assert session_night(proposer, experiments=1).run() == "1 experiment is done"
    assert len(proposer.asked) == 1


def test_a_patch_that_stands_on_the_one_that_runs_waits_for_it(make_lab: Any) -> None:
    lab = make_lab(GENOME, SLOW_MEASURE)
    session = lab.session()
    repo, at = session.repo, session.base
    for n, (old, new) in enumerate((("A = 4.0", "A = 3.0"), ("A = 3.0", "A = 2.0"), ("A = 2.0", "A = 1.5")), 1):
        text = (repo.read(at, "genome.py") or "").replace(old, new)
        made = repo.commit_files(at, {"genome.py": text}, "x")
        lab.write(f"ideas/{n:02}.patch", repo.diff(at, made))
        at = made
    ExperimentLoop(session, StopRules(), Scheduler(session, Observer())).run()
    assert [e.kept for e in session.ledger.experiments()] == [True] * 4
    assert session.ledger.events(ProposalRefused) == []


def test_one_who_had_nothing_before_the_baseline_was_measured_is_asked_again(make_lab: Any) -> None:
    session = make_lab().session()
    night = ExperimentLoop(session, StopRules(), Scheduler(session, Observer()))
    ended, on_result = threading.Event(), night.candidates.turns.on_result

    def outcome_summary(seconds: float) -> None:
        on_result(seconds)
        ended.set()

    class Waits:
        name, left = "waits", 1

        def propose(self, briefing: Briefing) -> Proposal | None:
            if briefing.champion.verdict is None:
                ended.wait(60)  # the thought began before the trial ended, and ends after it
                return None
            self.left -= 1
            return Proposal(self.name, "now", changed(A=2)) if self.left >= 0 else None

        def tell(self, proposal: Proposal, refusal: str | None) -> None: ...

    night.candidates.turns.on_result = outcome_summary  # type: ignore[method-assign]
    night.candidates.turns.proposers = Mixture({"waits": (Waits(), 1.0)}, {})
    night.run()
    assert session.ledger.next_number() == 2


def test_next_comes_what_is_about_nothing_that_runs(make_lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    session = make_lab().session()
    queue = ExperimentLoop(session, StopRules(), Scheduler(session, Observer(), 2)).candidates
    base = queue.making.baseline()
    queue.making.admit(base)

    def about(*parts: str) -> Any:
        return replace(base, proposer="model", theme=parts)

    running = [Experiment(1, about("lr", "width"), 0.0)]
    monkeypatch.setattr(session.ledger, "unjudged", lambda: running)
    monkeypatch.setattr(session, "champion", session.champion_to_be)  # no trial runs here
    for parts in (("lr",), ("depth", "width"), ("mask",), ("depth",)):
        queue._ready.append(queue._waiting(Proposal("model", "x"), about(*parts), session.base, None))
    assert queue._choice() is queue._ready[2], "the first of those about something else"
    del queue._ready[2]
    running.append(Experiment(2, about("mask"), 0.0))
    assert queue._choice() is queue._ready[2] and queue._ready[2].theme == {"depth"}
    del queue._ready[2]
    assert queue._choice() is queue._ready[0], "the one that waited longest, where all are about what runs"


def test_turns_that_ended_together_are_taken_in_the_order_in_which_they_began() -> None:
    ends, began = [threading.Event() for _ in range(4)], list[int]()

    def turn(briefing: Any) -> Any:
        began.append(number := len(began))
        ends[number].wait(60)
        return SimpleNamespace(proposer="slow", number=number)

    proposers: Any = SimpleNamespace(
        propose=turn, think=turn, slow=True, another_ready=True, wakes=math.inf, lanes=4, is_slow=lambda name: True
    )
    turns = ProposerTurns(proposers, 4, lambda left: SimpleNamespace(left=None))  # type: ignore[arg-type]
    for number in range(4):
        assert turns.main(0.0) is None
        wait(lambda number=number: len(began) > number)
    tasks = [turns._main, *turns._more]
    for number in (2, 0, 3, 1):
        ends[number].set()
        tasks[number].join()
    assert [task.proposal.number for task in turns.ended()] == [1, 2, 3], "and in this order they are numbered"
    last = turns.main(0.0)
    assert last is not None and last.proposal.number == 0


def test_a_loop_without_a_trial_goes_on_once_the_proposal_is_there() -> None:
    """No blind sleep: a slot that is free takes the proposal when it comes."""
    there, asked = threading.Event(), threading.Event()

    def propose(briefing: Any) -> None:
        asked.set()
        there.wait(20)

    proposers: Any = SimpleNamespace(propose=propose, wakes=math.inf, slow=False, overtaken=False, lanes=1)
    brief: Any = SimpleNamespace
    turns = ProposerTurns(proposers, 1, lambda left: brief(left=None))
    turns.main(0.0)
    assert asked.wait(20) and turns.under_way
    threading.Timer(0.05, there.set).start()
    begun = time.monotonic()
    turns.rest(30)
    assert time.monotonic() - begun < 20
    assert turns.main(20) is not None
