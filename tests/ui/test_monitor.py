"""What a window sees of a session from outside: all of it, cheaply, whatever state its ledger is in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.labs import TinyLab

from nightlab.core.config import StopRules
from nightlab.core.events import Alarm, ContractChanged, EvidenceShown, ProposalRefused
from nightlab.core.observer import Observer
from nightlab.core.types import Evidence, PairedGain
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.scheduler import Scheduler
from nightlab.storage.ledger import LEDGER, write_order
from nightlab.ui.monitor import Follower
from nightlab.ui.snapshot import SessionSnapshot, as_json

IDEAS = {
    "1": ("A = 2.0  # [0.25..8 log]\nB = 8  # [1..16]\n", "less of A"),
    "2": ("A = 9.0  # [0.25..8 log]\nB = 8  # [1..16]\n", "more of A"),
    "3": ("A = 2.0  # [0.25..8 log]\nB = nothing\n", "a name that is not there"),
    "4": ("A = 2.0  # [0.25..8 log]\nB = 4  # [1..16]\n", "less of B"),
}
# What depends on the moment of a look, and not on the ledger.
OF_THE_MOMENT = {"duty": None, "duty_hour": None, "rate": None, "rules": (), "alive": False, "free_mb": 0.0}


def settled(picture: SessionSnapshot) -> SessionSnapshot:
    return replace(picture, **OF_THE_MOMENT)  # type: ignore[arg-type]


@pytest.fixture
def lab(make_lab: Callable[..., TinyLab]) -> TinyLab:
    made = make_lab()
    for name, (genome, words) in IDEAS.items():
        made.idea(name, genome, words)
    return made


def test_following_step_by_step_ends_where_a_fresh_look_does(lab: TinyLab) -> None:
    session = lab.session()
    ExperimentLoop(session, StopRules(experiments=1), Scheduler(session, Observer())).run()
    follower, again = Follower(session.folder), lab.folder / "copy.db"
    follower.look()
    shutil.copy(session.folder / LEDGER, again)

    class Looking(Observer):
        """Looks after everything that happens."""

        def tick(self, *args: object) -> None:
            follower.look()

        def judged(self, *args: object) -> None:
            assert settled(follower.look()) == settled(Follower(session.folder).look())

    write_order(session.folder, "pin 1")
    write_order(session.folder, "skip 77")
    ExperimentLoop(session, StopRules(experiments=4, hours=1), Scheduler(session, Looking())).run()
    gain = PairedGain(1.0, 0.5, 1.5, 0.95, 4)
    session.ledger.append(EvidenceShown(session.champion().number, Evidence("confirmed", 0, (1001,), gain)))
    usage = {"cost_usd": 0.25, "input_tokens": 10}
    session.ledger.append(ProposalRefused("p", reason="no", usage=usage))
    session.ledger.append(Alarm("the noise has changed"))
    seen = follower.look()
    assert settled(seen) == settled(Follower(session.folder).look())
    assert [(p.number, p.status) for p in seen.points] == [
        (0, "keep"), (1, "keep"), (2, "discard"), (3, "crash"), (4, "keep"),
    ]  # fmt: skip
    assert [p.parent for p in seen.points] == [None, 0, 0, 0, 0]
    assert session.ledger.experiment(1).candidate.theme == ("genome.py:A",), "what a change is about is written down"
    assert seen.tally == {"keep": 3, "discard": 1, "crash": 1} and seen.done == 4
    assert seen.champion and seen.champion.number == 4 and seen.champion.level == "confirmed"
    assert seen.champion.interval == (0.5, 1.5)
    assert [step.number for step in seen.steps] == [0, 1, 4]
    assert seen.spent.money == 0.25 and seen.spent.tokens == 10 and seen.refused == 1
    assert seen.alarms[-1].words == "the noise has changed" and "skip 77" in seen.troubles[-1].words
    assert seen.pinned == 1 and not seen.paused and seen.alive
    assert seen.stopped == "4 experiments are done"
    assert [rule.name for rule in seen.rules] == ["experiments", "hours"]
    session.close()
    assert not Follower(session.folder).look().alive


def test_a_session_that_joins_a_commons_shows_it_from_then_on(
    lab: TinyLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    session = lab.run(experiments=1)[1]
    follower = Follower(session.folder)
    assert follower.look().commons is None
    session.ledger.append(ContractChanged({"commons": {"remote": "../commons.git"}}, 2))
    assert follower.look().commons is not None and follower.lab.commons
    session.ledger.append(ContractChanged({}, 2))
    assert follower.look().commons is None, "and none where it left"
    session.close()
    follower.close()


def test_gains_are_better_upwards_whatever_the_goal(lab: TinyLab) -> None:
    _, session = lab.run(experiments=2)
    seen = Follower(session.folder).look()
    better, worse = seen.points[1], seen.points[2]
    assert better.gain == pytest.approx(9 - 1) and worse.gain and worse.gain < 0
    assert seen.sigmas(better) == pytest.approx(8 / seen.sigma)
    told = json.loads(json.dumps(as_json(seen), allow_nan=False))
    assert told["points"][1]["sigmas"] == pytest.approx(8 / seen.sigma) and told["done"] == 2
    session.close()
