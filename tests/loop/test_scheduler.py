"""When a trial may start: in a free slot, or beside the evaluation of the one before."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.bench import GUEST
from support.labs import TinyLab
from support.observers import Counting

from nightlab.core.config import StopRules
from nightlab.core.events import TrialFinished, TrialStarted
from nightlab.core.observer import RunningTrialStatus
from nightlab.engines import slots
from nightlab.loop import scheduler
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.scheduler import Scheduler

# Its start takes a while, as a compiler does, and its answer comes once it is let go.
GENOME = (
    GUEST + "import array, os, time\ntime.sleep(0.3)\ntrial.start()\n"
    "def answer(x):\n    while not os.path.exists('go'): time.sleep(0.02)\n    return array.array('f', [A])\n"
    "A = 9.0\n# 1\n# 2\n# 3\n# 4\n# 5\n# 6\nB = 1\ntrial.serve(answer)\n"
)
EVALUATE = """\
import array, os, nightlab_guest
print('METRIC nice=%d' % os.nice(0))
[answer] = nightlab_guest.Served().map([array.array('i', [1])], 'f', (1,))
print('METRIC loss=%g' % answer[0])
"""
ONE_CORE = "[resources]\ncpus = 1\n\n"
LAST = 3
LONG, SHORT = 900, 20  # looks at a trial that is evaluated alone


class NextTrains(Counting):
    """Lets a trial be answered once the next one trains, or has not begun after so many looks."""

    def __init__(self, trials: Path, looks: Mapping[int, int]) -> None:
        super().__init__()
        self.trials, self.looks, self.waited = trials, looks, Counter[int]()

    def tick(self, flights: Sequence[RunningTrialStatus]) -> None:
        super().tick(flights)
        begun = {flight.trial.experiment: flight.phase for flight in flights}
        self.waited.update(number for number in begun if list(begun.values()) == ["evaluating"])
        for trial in (flight.trial for flight in flights):
            after = begun.get(trial.experiment + 1)
            alone = after is None and self.waited[trial.experiment] >= self.looks.get(trial.experiment, 0)
            if after in ("training", "evaluating") or alone:
                with contextlib.suppress(OSError):  # its copy is not there yet, or not any more
                    (self.trials / trial.id / "work" / "go").touch()


def niceness(more: int) -> int:
    """That of a process which is so much nicer than this one."""
    return min(os.nice(0) + more, 19)


def night(
    make_lab: Any, more: str, looks: Mapping[int, int], evaluator: str = "", *, dies: bool = False
) -> tuple[TinyLab, Any, NextTrains]:
    """A session of three ideas, the first a gain, on a machine of two cores."""
    lab = make_lab(GENOME, files={"evaluate.py": EVALUATE})
    contract = (lab.folder / "lab.toml").read_text().replace("python measure.py", "python genome.py")
    part = f'[evaluator]\ncommand = "python evaluate.py"\nserved = true\n{evaluator}\n'
    contract = contract.replace("amount = 20", 'clock = "cpu"\namount = 20').replace("[metric]", f"{part}[metric]", 1)
    lab.commit(lab_toml=contract.replace("[judge]", f"{more}[judge]", 1))
    for number, (old, new) in enumerate((("A = 9.0", "A = 2.0"), ("B = 1", "B = 2"), ("A = 9.0", "A = 8.0")), 1):
        lab.idea(f"0{number}", GENOME.replace(old, new))
    return lab, *go_on(lab, looks, dies=dies)


def go_on(lab: TinyLab, looks: Mapping[int, int], *, dies: bool = False) -> tuple[Any, NextTrains]:
    """The session, run to its end, or until it ``dies`` as two trials run in its one slot."""
    session = lab.session(device="cpu")
    view = NextTrains(session.local_engine.folder, looks)
    loop = ExperimentLoop(session, StopRules(experiments=LAST), Scheduler(session, view))
    if dies:
        with loop.scheduler.on_duty():
            loop.resume()
            while not (loop.scheduler.overlapping or loop.step()):
                loop.scheduler.wait()
        session.close()  # as a kill would
    else:
        loop.run()
    return session, view


def test_the_next_trial_starts_while_one_is_evaluated_that_leaves_a_core(
    make_lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "_cores", lambda: [0, 1])
    monkeypatch.setattr(scheduler, "OFTEN", 2.0)
    _, session, view = night(make_lab, ONE_CORE, {1: LONG, 2: LONG})
    assert max(map(len, view.flights)) == 2, "never three"
    begun = {event.trial.experiment: event.at for event in session.ledger.events(TrialStarted)}
    ended = {int(event.id.split("-")[0]): event.at for event in session.ledger.events(TrialFinished)}
    assert begun[1] > ended[0], "what all are compared with is known first"
    assert begun[2] < ended[1] and begun[3] < ended[2]
    one, two, three = session.ledger.experiments()[1:]
    assert one.kept and two.candidate.parent == session.base, "which began before that was known"
    assert [e.measurement.metric for e in (one, two, three)] == [2.0, 9.0, 8.0]
    assert three.candidate.parent in (session.base, one.candidate.commit)
    assert one.measurement.secondary == {"nice": niceness(5)}, "its evaluator takes no core from the next one"
    assert not list(session.local_engine.folder.glob("ahead-*"))


def test_it_waits_while_the_champion_moves_often(make_lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "_cores", lambda: [0, 1])
    _, session, _ = night(make_lab, ONE_CORE, {1: LONG, 2: SHORT})
    begun = {event.trial.experiment: event.at for event in session.ledger.events(TrialStarted)}
    ended = {int(event.id.split("-")[0]): event.at for event in session.ledger.events(TrialFinished)}
    beside = {number for number in (0, 1, 2) if begun[number + 1] < ended[number]}
    assert beside == {1}, "the first moved the champion, and nothing is known of others"


def test_after_a_kill_both_trials_of_a_slot_are_gone_on_with(make_lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "_cores", lambda: [0, 1])
    lab, *_ = night(make_lab, ONE_CORE, {1: LONG, 2: LONG}, dies=True)
    session, view = go_on(lab, {})
    assert max(map(len, view.flights)) == 2
    one, two, three = session.ledger.experiments()[1:]
    assert [e.measurement.metric for e in (one, two, three)] == [2.0, 9.0, 8.0] and one.kept
    assert [len(session.ledger.trials(number)) for number in range(LAST + 1)] == [1, 1, 1, 1]
    assert not list(session.local_engine.folder.glob("ahead-*"))


@pytest.mark.parametrize(
    ("more", "evaluator"),
    [
        ("", ""),
        (ONE_CORE, "timed = true\n"),
        (ONE_CORE + '[limits]\nevaluation_seconds = "+900%"\n\n', ""),
        (ONE_CORE + '[limits]\nstartup_seconds = "+900%"\n\n', ""),
    ],
    ids=["no core is left", "a time", "a limit on its seconds", "a limit on those of a start"],
)
def test_where_that_would_tell_the_next_one_waits(
    make_lab: Any, monkeypatch: pytest.MonkeyPatch, more: str, evaluator: str
) -> None:
    monkeypatch.setattr(slots, "_cores", lambda: [0, 1])
    monkeypatch.setattr(scheduler, "OFTEN", 2.0)
    _, session, view = night(make_lab, more, {1: SHORT, 2: SHORT}, evaluator)
    assert max(map(len, view.flights)) == 1 and session.ledger.next_number() == LAST + 1
    yields = session.champion().measurement.secondary["nice"]
    assert yields == niceness(0), "the time that an evaluator keeps is nobody else's"
