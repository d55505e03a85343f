"""Populations: who goes on from whom, what a member's history is, and what survives a kill."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import pytest
from support.population import SAVE, population_lab

from nightlab.core.events import PopulationEnded, PopulationStarted
from nightlab.core.types import Budget, Measurement, Metric, Segment, Trial
from nightlab.loop.population import Training
from nightlab.storage.ledger import Ledger

STARTED = PopulationStarted(1, 0, members=3, parts=3, constants=("LR",))


class Played:
    """A population without processes: trials that end as a test says."""

    def __init__(self, **facts: Any) -> None:
        self.training = Training(STARTED, Metric("loss"))
        self.facts, self.count = facts, 0

    def start(self, member: int) -> Trial:
        source, part = self.training.source(member, random.Random(0)), self.training.done(member) + 1
        after, checkpoint = (source[0].id, source[1].checkpoint) if source else ("", "")
        self.count += 1
        segment = Segment(1, member, part, 3, checkpoint, after)
        trial = Trial(f"t{self.count}", 0, "c", 1, "population", Budget("work", 1), segment=segment)
        self.training.add(trial, None)
        return trial

    def end(self, trial: Trial, loss: float | None, outcome: Any = "measured") -> None:
        self.training.add(trial, Measurement(outcome, loss, checkpoint=f"of {trial.id}", training_seconds=1.0))

    def part(self, *losses: float | None) -> list[Trial]:
        """The next part of every member."""
        trials = [self.start(member) for member in self.training.waiting()]
        for trial in trials:
            loss = losses[trial.segment.member if trial.segment else 0]
            self.end(trial, loss, "crashed" if loss is None else "measured")
        return trials


def test_the_worst_goes_on_from_the_best_and_the_history_says_so() -> None:
    played = Played()
    first = played.part(1.0, 2.0, 3.0)
    second = played.part(1.0, 2.0, 0.5)
    assert [one.segment and one.segment.after for one in second] == ["t1", "t2", "t1"]
    assert second[2].segment and second[2].segment.checkpoint == "of t1"
    last = played.part(1.0, 2.0, 3.0)
    assert [one.id for one in played.training.lineage(last[2])] == [first[0].id, second[2].id, last[2].id]
    assert played.training.histories() == {"0": ["t1", "t4", "t7"], "1": ["t1", "t6", "t8"], "2": ["t1", "t6", "t9"]}
    assert played.training.complete
    assert (played.training.trained, played.training.budgets) == (9.0, pytest.approx(3.0))


def test_no_member_waits_for_another_and_those_behind_come_first() -> None:
    played = Played()
    running = played.start(1)
    played.end(played.start(0), 1.0)
    assert played.training.waiting() == [2, 0], "member 1 runs"
    ahead = played.start(0)
    assert ahead.segment and (ahead.segment.part, ahead.segment.after) == (2, "t2"), "alone it goes on from itself"
    assert played.training.needed() == {"of t2"}, "those behind may yet go on from it"
    played.end(running, 0.5)
    played.end(played.start(2), 2.0)
    played.end(ahead, 1.0)
    played.part(1.0, 1.0, 1.0)
    assert "of t2" not in played.training.needed()


def test_a_member_that_dies_goes_on_from_one_that_lives() -> None:
    played = Played()
    played.part(1.0, None, 3.0)
    assert played.training.died == {(1, 1): "crashed: "}
    second = played.part(1.0, 1.0, 1.0)
    assert [one.segment and one.segment.after for one in second] == ["t1", "t1", "t1"]
    assert played.training.scores(1) == {0: 1.0, 2: 3.0}, "what died has no score"


def test_all_dead_is_an_end_and_a_lost_trial_none() -> None:
    played = Played()
    played.part(None, None, None)
    assert played.training.waiting() == []
    assert not played.training.complete
    played = Played()
    for _ in range(2):
        played.end(played.start(0), None, "lost")
    played.end(played.start(0), None, "interrupted")
    assert (played.training.done(0), played.training.waiting()) == (0, [0, 1, 2])
    played.end(played.start(0), None, "lost")
    assert played.training.done(0) == 1, "three times is no accident"


# -- real sessions -----------------------------------------------------------------------------------


@pytest.fixture
def make_population(make_lab: Any) -> Any:
    return partial(population_lab, make_lab)


def test_the_schedule_yields_from_nothing_what_the_winner_had_and_a_kill_loses_nothing(
    make_population: Any, nightlab: Any, killed: Any
) -> None:
    lab = make_population()
    folder = lab.folder / ".nightlab"
    words = ("pbt", "--tag", "t", "--members", "3", "--parts", "4", "--seeds", "0", "--slots", "2")
    ledger_path = folder / "t" / "ledger.db"

    def population() -> list[tuple[Trial, Measurement | None]]:
        if not ledger_path.exists():
            return []
        ledger = Ledger(ledger_path, read_only=True)
        found = ledger.trials(purpose="population")
        ledger.close()
        return found

    killed(*words, cwd=lab, until=lambda: sum(one is not None for _, one in population()) >= 4)
    before = [trial.id for trial, one in population() if one]
    other = nightlab("pbt", "--tag", "t", "--members", "5", cwd=lab)
    assert other.code == 1
    assert "population 1 of 3 members in 4 parts has not ended" in other.err
    done = nightlab("pbt", "--tag", "t", "--seeds", "0", "--json", cwd=lab)
    facts = done.json
    found = population()
    assert {trial.id for trial, one in found if one and one.measured} >= set(before), "what had ended counts"
    parts = [(t.segment.member, t.segment.part) for t, one in found if t.segment and one and one.measured]
    assert sorted(parts) == [(member, part) for member in range(3) for part in range(1, 5)], "each part once"
    assert len({trial.given_seed for trial, _ in found}) == 1, "members differ in their constants, not in their luck"
    ledger = Ledger(ledger_path, read_only=True)
    assert (ledger.count(PopulationStarted), ledger.count(PopulationEnded)) == (1, 1)
    by_id = {trial.id: (trial, one) for trial, one in found}
    for trial, _ in found:
        if trial.segment and trial.segment.after:
            source = by_id[trial.segment.after][1]
            assert source and source.checkpoint == trial.segment.checkpoint
    winner = by_id[facts["winner"]][1]
    assert winner and winner.metric is not None
    assert facts["experiment"]["metric"] == winner.metric, "no noise here: its schedule is its whole history"
    assert facts["experiment"]["proposer"] == "pbt"
    lost = sum(one.outcome == "lost" for _, one in found if one)  # what the kill ended may have trained: it counts
    assert facts["budgets"] == pytest.approx(3.0 + lost / 4)
    assert list(facts["schedule"]) == ["LR"]
    assert done.code == (0 if facts["experiment"]["status"] == "keep" else 3)
    assert [by_id[one][0].segment.part for one in facts["history"]] == [1, 2, 3, 4]
    assert facts["histories"][str(facts["member"])] == facts["history"] and len(facts["histories"]) == 3
    assert all([by_id[one][0].segment.part for one in line] == [1, 2, 3, 4] for line in facts["histories"].values())
    assert not (folder / "t" / "trials" / "checkpoints" / "1").exists(), "nothing goes on from them any more"
    assert facts["experiment"]["status"] == "keep"
    killed("pbt", "--tag", "t", cwd=lab, until=lambda: ledger.trials(purpose="confirm"))
    assert not ledger.experiment(facts["experiment"]["number"]).evidence, "killed while it was confirmed"
    confirmed = nightlab("pbt", "--tag", "t", "--json", cwd=lab)
    assert confirmed.json["evidence"]["gain"]["low"] > 0
    assert (confirmed.json["winner"], ledger.count(PopulationStarted)) == (facts["winner"], 1), "no new population"
    ledger.close()


@pytest.mark.parametrize(
    ("lab", "words"),
    [
        ({"more": ""}, "lab.toml does not say that training can go on from a checkpoint"),
        ({"genome": "LR = 0.05  # [0.001..1.5 log]\n"}, "no constant of the genome is marked to move"),
        ({"save": "pass"}, "died out in part 1: member 0 crashed: its checkpoint: nothing was handed over"),
        ({"save": 'trial.save({"x": array("d", [float("nan")])})'}, "its checkpoint: the array 'x' is not finite"),
        ({"save": 'trial.save({"x": array("d", [x] * 400_000)})'}, "over limit: its checkpoint has 3.1 MB"),
    ],
)
def test_what_can_train_no_population_is_named(
    make_population: Any, nightlab: Any, lab: dict[str, str], words: str
) -> None:
    done = nightlab("pbt", "--members", "2", "--parts", "2", cwd=make_population(**lab))
    assert done.code == 1
    assert words in done.err
    assert "hint: " in done.err


def test_a_member_with_other_arrays_dies_and_the_others_go_on(make_population: Any, nightlab: Any) -> None:
    """Members 1 and 2 draw a rate below 0.05 or above it: those above hand over two values."""
    save = SAVE.replace("[x]", "[x] * (2 if LR != 0.05 else 1)")
    done = nightlab("pbt", "--members", "3", "--parts", "2", "--seeds", "0", cwd=make_population(save))
    assert "its checkpoint: the array 'x' is d[2], that of other members d[1]" in done.out
    assert "population 1: " in done.out
