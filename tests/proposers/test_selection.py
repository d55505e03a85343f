"""Search: where the next proposal starts, who gets a whole trial, and what the slots are about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.labs import GENOME, TinyLab
from support.processes import wait

from nightlab.core.config import StopRules
from nightlab.core.observer import Observer
from nightlab.core.types import Candidate, Experiment, Measurement, Metric, Verdict
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.scheduler import Scheduler
from nightlab.proposers import Briefing, Mixture, Proposal
from nightlab.proposers.selection import Cascade, Climb, Evolution, Rung, Tree, node_value, theme
from nightlab.proposers.selection.evolution import POPULATION
from nightlab.proposers.selection.tree import NODES
from nightlab.storage.ledger import Ledger

LOSS, SCORE = Metric("loss"), Metric("score", "maximise")
numbers = st.floats(-1e6, 1e6)


def judged(number: int, value: float | None, parent: int = 0, *, reason: str = "regressed") -> Experiment:
    """An experiment with its verdict; the baseline and what ``improved`` are kept."""
    status: Any = "crash" if value is None else "keep" if reason in ("baseline", "improved") else "discard"
    verdict = Verdict(status, reason, bar=value if status == "keep" else None)
    candidate = Candidate(f"c{number}", f"c{parent}", f"t{number}", "tuner", "an idea")
    return Experiment(number, candidate, 0.0, Measurement("measured", value), verdict, float(number), verdict.bar)


# -- strategies ----------------------------------------------------------------------------------------


def test_what_nobody_should_start_from_is_worth_nothing() -> None:
    assert node_value(judged(1, 2.0)) == 2.0
    assert node_value(replace(judged(1, 2.0, reason="improved"), bar=2.5)) == 2.5, "a kept one counts without its luck"
    for reason in ("over limit", "tampered", "not promoted"):
        assert node_value(judged(1, 2.0, reason=reason)) is None
    assert (
        node_value(judged(1, None))
        is node_value(judged(1, float("nan")))
        is node_value(replace(judged(1, 2.0), verdict=None))
        is None
    )


def test_the_climb_starts_from_the_champion_whoever_that_is() -> None:
    climb = Climb()
    climb.tell(judged(0, 1.0, reason="baseline"))
    assert climb.ask() is None


@pytest.mark.parametrize("make", [lambda: Evolution(LOSS), lambda: Tree(LOSS)])
def test_before_anything_was_told_there_is_only_the_champion(make: Any) -> None:
    search = make()
    assert search.ask() is None
    search.tell(judged(0, None))
    assert search.ask() is None, "and a crash is no place to start from"


@given(st.lists(numbers, min_size=1, max_size=3 * POPULATION), st.sampled_from([LOSS, SCORE]))
def test_evolution_asks_the_youngest_and_prefers_the_better(values: list[float], metric: Metric) -> None:
    evolution = Evolution(metric)
    for number, value in enumerate(values):
        evolution.tell(judged(number, value))
    young = range(max(len(values) - POPULATION, 0), len(values))
    asked = [evolution.ask() for _ in range(40)]
    assert all(one is not None and one.number in young for one in asked), "however good it was, the old has left"
    middle = sorted((values[n] for n in young), reverse=metric.goal == "maximise")[len(young) // 2]
    better = sum(not metric.better(middle, values[one.number]) for one in asked if one)
    assert better > len(asked) / 2


def test_evolution_asks_for_others_after_it_was_told_more() -> None:
    def asked(told: int) -> list[int]:
        evolution = Evolution(LOSS)
        for number in range(told):
            evolution.tell(judged(number, 1.0))
        return [one.number for _ in range(6) if (one := evolution.ask())]

    assert asked(12) == asked(12) != asked(13)


def test_the_tree_expands_the_best_and_then_what_was_rarely_expanded() -> None:
    tree = Tree(LOSS)
    for number, value in enumerate((1.0, 0.5, 3.0)):
        tree.tell(judged(number, value, reason="improved" if number == 1 else "regressed"))
    asked = [one.number for _ in range(60) if (one := tree.ask())]
    assert asked[0] == 1 and asked.count(1) > asked.count(2) > 0, "the worst has a turn too"
    assert asked.count(0) == 0, "but not one whose heirs have them all"


def test_the_tree_believes_one_measurement_half_way() -> None:
    tree = Tree(LOSS)
    tree.tell(judged(0, 1.0, reason="baseline"))
    tree.tell(judged(1, 0.9, reason="improved"))
    tree.tell(judged(2, 0.7, parent=0))  # half of it is luck: 0.85
    tree.tell(judged(3, 0.72, parent=1))  # 0.81
    first = tree.ask()
    assert first and first.number == 3


def test_a_resumed_tree_knows_how_often_a_node_was_expanded() -> None:
    told = [judged(0, 1.0, reason="baseline")]
    live = Tree(LOSS)
    live.tell(told[0])
    for number in range(1, 30):
        parent = live.ask()
        assert parent
        told.append(judged(number, 1 + 0.1 * number if number % 3 else None, parent.number))
        live.tell(told[-1])
    again = Tree(LOSS)
    for experiment in told:
        again.tell(experiment)
    assert {name: node.visits for name, node in again.nodes.items()} == {n: o.visits for n, o in live.nodes.items()}


def test_a_tree_stays_small() -> None:
    tree = Tree(SCORE)
    for number in range(NODES + 50):
        tree.tell(judged(number, float(number), reason="improved"))
    assert set(tree.nodes) == {f"c{number}" for number in range(50, NODES + 50)}


# -- the cascade -----------------------------------------------------------------------------------------


@given(st.lists(numbers, max_size=60), numbers, st.floats(1.01, 10), st.sampled_from([LOSS, SCORE]))
def test_the_best_of_the_pilots_so_far_are_promoted(
    before: list[float], value: float, eta: float, metric: Metric
) -> None:
    rung = Rung()
    for each in (*before, value):
        rung.add(each)
    better = sum(metric.better(each, value) for each in before)
    refused = Cascade(metric, eta).refusal(value, rung, None)
    assert bool(refused) == (better >= max(int((len(before) + 1) / eta), 1))
    for champions in (value, value + 1, value - 1):
        held = Cascade(metric, eta).refusal(value, rung, champions)
        assert held == ("" if metric.better(value, champions) else refused), "who beats the champion's is promoted"


@given(st.permutations(range(30)), st.sampled_from([2.0, 3.0, 4.0]))
def test_the_cascade_saves_trials_and_never_loses_the_best(order: list[int], eta: float) -> None:
    rung, cascade, promoted = Rung(), Cascade(LOSS, eta), []
    for value in order:
        rung.add(value)
        if not cascade.refusal(value, rung, None):
            promoted.append(value)
    assert order[0] in promoted and 0 in promoted, "the first has no rival, the best has none ever"
    assert {n for n in order if n < 30 // eta} & set(promoted)


# -- themes ----------------------------------------------------------------------------------------------

PROGRAM = """\
import math
A = 1
B: int = 2
def f(x):
    return x
class Model(object):
    WIDTH = 3
    def forward(self):
        return 1
print(A)
"""


@pytest.mark.parametrize(
    ("old", "new", "about"),
    [
        ("A = 1", "A = 5  # more", {"g.py:A"}),
        ("B: int = 2", "B: int = 3", {"g.py:B"}),
        ("return x", "return x + 1", {"g.py:f"}),
        ("return 1", "return 2", {"g.py:Model.forward"}),
        ("WIDTH = 3", "WIDTH = 4", {"g.py:Model.WIDTH"}),
        ("(object)", "(dict)", {"g.py:Model"}),
        ("print(A)", "print(B)", {"g.py"}),
        ("import math", "import cmath", {"g.py"}),
        ("A = 1", "A = 1  # only a comment", set()),
        ("A = 1", "A = (", None),
    ],
)
def test_a_theme_is_what_a_change_touches(old: str, new: str, about: set[str] | None) -> None:
    found = theme({"g.py": PROGRAM, "x.c": "int a;"}, {"g.py": PROGRAM.replace(old, new), "x.c": "int a;"})
    assert found == about if about is not None else "g.py" in found


def test_files_of_other_languages_are_one_theme_each() -> None:
    assert theme({"a.c": "1", "b.c": "2"}, {"a.c": "1", "b.c": "3", "new.c": ""}) == {"b.c", "new.c"}


@given(st.text(), st.text())
def test_any_text_has_a_theme(before: str, after: str) -> None:
    assert theme({"g.py": before}, {"g.py": before}) == frozenset()
    assert all(name.startswith("g.py") for name in theme({"g.py": before}, {"g.py": after}))


# -- in a session ----------------------------------------------------------------------------------------


class Steps:
    """A proposer that moves a constant of the genome that it is given to the next of its values."""

    name = "steps"

    def __init__(self, name: str, *values: float) -> None:
        self.constant, self.values = name, list(values)
        self.briefings: list[Briefing] = []

    def propose(self, briefing: Briefing) -> Proposal | None:
        self.briefings.append(briefing)
        if not self.values:
            return None
        lines = briefing.genome["genome.py"].splitlines(keepends=True)
        at = next(i for i, line in enumerate(lines) if line.startswith(f"{self.constant} ="))
        lines[at] = f"{self.constant} = {self.values.pop(0)}\n"
        return Proposal(self.name, "a step", {"genome.py": "".join(lines)})

    def tell(self, proposal: Proposal, refusal: str | None) -> None: ...


def searching(lab: TinyLab, table: str) -> TinyLab:
    contract = (lab.folder / "lab.toml").read_text()
    lab.commit(lab_toml=f"{contract}\n[search]\n{table}\n")
    return lab


def night(lab: TinyLab, proposer: Any, slots: int = 1, **stop: Any) -> ExperimentLoop:
    session = lab.session()
    made = ExperimentLoop(session, StopRules(**stop), Scheduler(session, Observer(), slots))
    made.candidates.turns.proposers = Mixture({proposer.name: (proposer, 1.0)}, {})
    return made


def test_evolution_builds_on_what_was_discarded_too(make_lab: Any) -> None:
    steps = Steps("A", *(5 + n / 10 for n in range(12)))  # each worse than the baseline's 4
    searched = night(searching(make_lab(), 'strategy = "evolution"'), steps, experiments=9)
    searched.run()
    experiments = searched.ledger.experiments()
    assert [e.kept for e in experiments] == [True] + [False] * 9
    numbers = {e.candidate.commit: e.number for e in experiments}
    parents = [numbers[e.candidate.parent] for e in experiments[1:]]
    assert any(parents), "a discarded genome had an heir"
    told = [b.start.number for b in steps.briefings[:9]]
    assert told == parents, "and its proposer was told whose genome it is"


def test_independent_tries_all_start_from_the_baseline(make_lab: Any) -> None:
    lab = searching(make_lab(), 'strategy = "independent"')
    for number, value in enumerate(("3.0", "2.0", "2.5")):
        lab.idea(f"0{number}", GENOME.replace("4.0", value))
    _, session = lab.run()
    experiments = session.ledger.experiments()
    assert {e.candidate.parent for e in experiments} == {session.base}
    assert [e.kept for e in experiments] == [True, True, True, False], "by the champion's bar all the same"
    session.close()


def test_a_queued_patch_goes_on_the_champion_whatever_the_search_asks_for(make_lab: Any) -> None:
    lab = searching(make_lab(), 'strategy = "tree"')
    far = GENOME + "# one\n# two\n# three\nC = 1\n"
    lab.commit(genome_py=far)
    lab.idea("01", far.replace("A = 4.0", "A = 2.0"))
    lab.idea("02", far.replace("C = 1", "C = 2"))
    lab.idea("03", far.replace("C = 1", "C = 3"))
    _, session = lab.run()
    one = session.ledger.experiment(1)
    assert one.kept and [e.candidate.parent for e in session.ledger.experiments()[2:]] == [one.candidate.commit] * 2


SLOW = "import time\nfrom genome import A, B\ntime.sleep({})\nprint(f'METRIC loss={{(A - 1) ** 2 + (B - 3) ** 2}}')\n"
APART = "A = 4.0\n# one\n# two\n# three\nB = 8\n"


class Both(Steps):
    """Moves A and B in turn, each once or more."""

    def __init__(self, *moves: tuple[str, float]) -> None:
        super().__init__("A", *(value for _, value in moves))
        self.names = [name for name, _ in moves]

    def propose(self, briefing: Briefing) -> Proposal | None:
        self.constant = self.names.pop(0) if self.names else self.constant
        return super().propose(briefing)


def test_with_two_slots_two_are_ready_and_the_proposer_knows_of_both(make_lab: Any) -> None:
    moves = Both(*[("A", 5.0 + n) for n in range(8)])
    searched = night(make_lab(APART, SLOW.format(0.3)), moves, slots=2, experiments=6)
    searched.run()
    known = [len(briefing.history) for briefing in moves.briefings]
    assert known == list(range(1, len(known) + 1)), "what runs and what waits included"
    assert len(moves.briefings) >= 6 and not any(b.history[-1].verdict for b in moves.briefings[1:])


def test_a_free_slot_prefers_what_is_about_something_else(make_lab: Any) -> None:
    # A runs first. Of those that wait by the time a slot is free, the first is about A too.
    searched = night(make_lab(APART, SLOW.format(0.5)), Both(("A", 5.0), ("A", 6.0), ("B", 9.0)), slots=2)
    candidates = searched.candidates
    searched.resume()
    while (wanted := searched.next_request()) is None or wanted.number == 0:
        if wanted:
            searched.scheduler.start(wanted.number, wanted.purpose, wanted.seed)
        searched.scheduler.drain()
    assert wanted.number == 1
    while len(candidates._ready) < 2:
        candidates.propose_ahead(wait=1)
    number = candidates.next(idle=False)
    assert number is not None
    assert searched.ledger.experiment(number).candidate.changes == ("B 8 → 9",)


@pytest.mark.parametrize("second", [7.5, 6.0])
def test_of_two_good_changes_that_ran_at_once_the_loser_is_made_again_on_the_winner(
    make_lab: Any, second: float
) -> None:
    # Both are better than the baseline's 34. The first is judged first: 25. The second has 29.25, or 18 and takes over.
    lab = make_lab(APART, SLOW.format("0.2 if A < 4 else 0.8"))
    searched = night(lab, Both(("A", 1.0), ("B", second)), slots=2)
    searched.run()
    base, one, two, again = searched.ledger.experiments()
    assert one.candidate.parent == two.candidate.parent == base.candidate.commit
    winner, loser = (two, one) if second == 6.0 else (one, two)
    assert one.kept and two.kept == (winner is two)
    assert again.candidate.parent == winner.candidate.commit and again.candidate.changes == loser.candidate.changes
    assert again.kept and again.measurement.metric == pytest.approx((second - 3) ** 2)


PILOTED = """\
import json, os
from genome import A
budget = float(os.environ["NIGHTLAB_BUDGET"])
print(f"METRIC loss={abs(A - 1) + 20 / budget}")
"""


def ran(searched: ExperimentLoop) -> list[list[tuple[str, int, float]]]:
    """Purpose, seed and budget of each experiment's trials."""
    return [
        [(t.purpose, t.seed, t.budget.amount) for t, _ in searched.ledger.trials(e.number)]
        for e in searched.ledger.experiments()
    ]


def test_only_what_does_well_in_a_pilot_gets_a_whole_trial(make_lab: Any) -> None:
    lab = searching(make_lab(measure=PILOTED), "pilot = 0.25\neta = 3")
    searched = night(lab, Steps("A", 9.0, 8.0, 7.0, 6.0, 5.0, 3.0))
    searched.run()
    experiments = searched.ledger.experiments()
    pilot = ("pilot", 401, 5.0)
    # Pilots measure 7 (the baseline's), 12, 11, 10, 9, and then 8: the second of six, of whom two are promoted.
    assert [e.verdict.reason for e in experiments[1:]] == ["not promoted"] * 4 + ["regressed", "improved"]
    trials = ran(searched)
    assert trials[0] == [("search", 1, 20.0), pilot], "the baseline has one as soon as it is needed"
    assert trials[1:5] == [[pilot]] * 4
    assert [(purpose, amount) for purpose, _, amount in trials[5]] == [("pilot", 5.0), ("search", 20.0)]
    assert searched.pilots and searched.pilots.judge(experiments[5], experiments[6]) is None, "promoted once is enough"
    cut = experiments[1]
    assert cut.verdict.status == "discard" and cut.measurement.metric is None, "a pilot's number is no whole trial's"
    assert "its pilot measured 12.0" in cut.verdict.detail


def test_a_pilot_that_crashes_is_a_crash(make_lab: Any) -> None:
    lab = searching(make_lab(measure=PILOTED + "assert A < 9\n"), "pilot = 0.5")
    searched = night(lab, Steps("A", 9.0))
    searched.run()
    assert searched.ledger.experiment(1).verdict.status == "crash"
    assert [purpose for purpose, _, _ in ran(searched)[1]] == ["pilot"]


def test_a_session_that_is_killed_goes_on_with_its_pilots(make_lab: Any, start_nightlab: Any) -> None:
    slow = PILOTED + "import time; time.sleep(0.3)\n"
    lab = searching(make_lab(GENOME, slow, proposer="tuner"), "pilot = 0.25\neta = 2")
    for trials in (2, 5, 8):
        process = start_nightlab("run", "--tag", "t", "--experiments", "6", cwd=lab)
        wait(lambda process=process, trials=trials: process.poll() is not None or ended(lab) >= trials)
        process.kill()
        process.wait()
    _, session = lab.run(experiments=6)
    for experiment in session.ledger.experiments():
        trials = [(t, m) for t, m in session.ledger.trials(experiment.number) if m and m.outcome != "lost"]
        searched = [t for t, _ in trials if t.purpose == "search"]
        assert experiment.verdict and bool(searched) == (experiment.verdict.reason != "not promoted")
        assert len({(t.purpose, t.seed) for t, _ in trials}) == len(trials), "nothing ran twice"


def ended(lab: TinyLab) -> int:
    """How many trials the session's ledger says have ended."""
    path = lab.folder / ".nightlab" / "t" / "ledger.db"
    return sum(measured is not None for _, measured in Ledger(path, read_only=True).trials()) if path.exists() else 0
