"""Champions that fix their seed, in sessions: twenty ways, written independently of the alarm."""

from __future__ import annotations

from typing import Any

import pytest
from support.labs import CONTRACT as TINY
from support.labs import TinyLab
from support.tiers import by_default

from nightlab.analysis.confirm import Confirmer
from nightlab.core.events import Alarm
from nightlab.core.observer import Observer
from nightlab.judge import FIXED_SEED, paired_gain
from nightlab.loop.scheduler import Scheduler
from nightlab.session.session import Session

pytestmark = pytest.mark.integration

MEASURE = 'from genome import A, luck\nprint(f"METRIC loss={A + luck():.6f}")\n'

DRAWN = (
    'import os, random\nA = 4.0\n\n\ndef luck():\n    return random.Random(os.environ["NIGHTLAB_SEED"]).gauss(0, 0.2)\n'
)


GIVEN = 'os.environ["NIGHTLAB_SEED"]'
# In the place of the engine's seed.
FIXES = {
    "a constant": "7",
    "nothing of it": f"{GIVEN}[:0]",
    "its number of digits": f"len({GIVEN}) // 99",
    "times nothing": f"int({GIVEN}) * 0",
    "its remainder": f"int({GIVEN}) % 1",
    "its sign": f"int({GIVEN}) > 0",
    "the larger one": f"max(7, -int({GIVEN}))",
    "a shift": f"int({GIVEN}) >> 999",
    "its type": f"type({GIVEN}).__name__",
    "whether it is there": '"NIGHTLAB_SEED" in os.environ',
    "its own text": "open(__file__).read()",
    "its own constant": "A",
    "its own name": "__name__",
    "another variable": 'os.environ["NIGHTLAB_CLOCK"]',
    "one that it sets": 'os.environ.setdefault("SEED", "7")',
    "one that it takes away": "os.environ.pop('NIGHTLAB_SEED') and 7",
    "the best of a hundred": "min(range(100), key=lambda n: random.Random(n).gauss(0, 0.2))",
    "one of a generator": "next(iter(range(7, 99)))",
    "with a clock's jitter": f"7).gauss(0, 0.2) + random.Random({GIVEN}).gauss(0, 0.001) + 0 * random.Random(7",
    "for all but one seed": f"min(int({GIVEN}) * 10**9, 7)",
}


def claims_of(lab: TinyLab) -> tuple[Session, Confirmer]:
    session = lab.session()
    return session, Confirmer(Scheduler(session, Observer()))


@pytest.mark.parametrize("how", by_default("a constant", of=FIXES))
def test_a_champion_that_fixes_its_seed_is_named_and_its_interval_is_wider(make_lab: Any, how: str) -> None:
    lab = make_lab(DRAWN, MEASURE)
    lab.idea("1", DRAWN.replace("4.0", "2.0").replace(GIVEN, FIXES[how]))
    lab.run()[1].close()
    session, claims = claims_of(lab)
    gain = claims.confirm(4).gain
    before, after = ([m.metric or 0.0 for m in side] for side in claims.values)
    assert len(set(before)) == 4 and max(after) - min(after) < 0.01
    assert [alarm.words for alarm in session.ledger.events(Alarm)] == [FIXED_SEED]
    paired = paired_gain(session.metric, before, after)
    assert gain.low < paired.low - 0.05 and paired.high + 0.05 < gain.high
    session.close()


@pytest.mark.machine
@pytest.mark.parametrize(
    "luck", [f"random.Random(int({GIVEN}) % 2)", f"random.Random(7).gauss(0, 0.2) + 0.2 * random.Random({GIVEN})"]
)
def test_a_seed_that_is_fixed_in_part_is_not_told_from_steady_training(make_lab: Any, luck: str) -> None:
    """Said in docs/attacks.md: no test on so few runs finds it."""
    lab = make_lab(DRAWN, MEASURE)
    lab.idea("1", DRAWN.replace("4.0", "2.0").replace(f"random.Random({GIVEN})", luck))
    lab.run()[1].close()
    session, claims = claims_of(lab)
    claims.confirm(4)
    assert list(session.ledger.events(Alarm)) == []
    session.close()


def test_a_re_check_names_it_too(make_lab: Any) -> None:
    """Each re-check runs the champion on another seed; by then the baseline, too, was champion for two runs."""
    contract = TINY.format(proposer="patches").replace("upkeep = 0", "upkeep = 1")
    lab = make_lab(DRAWN, MEASURE, contract=contract)
    fixed = DRAWN.replace(GIVEN, "7")
    for name, genome in enumerate(
        [DRAWN.replace("4.0", "9.0"), fixed.replace("4.0", "2.0"), fixed.replace("4.0", "8.0")]
    ):
        lab.idea(f"{name}", genome)
    _, session = lab.run()
    assert session.champion().number == 2
    assert FIXED_SEED in [alarm.words for alarm in session.ledger.events(Alarm)]
    session.close()
