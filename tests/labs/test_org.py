"""The org lab: a strategy is data, is played on stored tables by nightlab's own parts, and named where it is wrong."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from support.shipped import lab_module

from nightlab.core.config import parse
from nightlab.session.create import SHIPPED

STRATEGY = (SHIPPED / "org" / "strategy.toml").read_text()
LEAST = 'name = "x"\ngenome = ["a.py"]\ncommand = "c"\n[metric]\nname = "m"\n'


@pytest.fixture
def inner(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(SHIPPED / "org")
    return lab_module("org", "inner")


@pytest.fixture
def table() -> dict[str, Any]:
    """Losses of three settings with a best row in a corner, two runs of each."""
    draw = random.Random(0)
    rows = {}
    for code in itertools.product(range(4), repeat=3):
        loss = sum((level - 3) ** 2 for level in code)
        rows["".join(map(str, code))] = [loss + draw.gauss(0, 0.2) for _ in range(2)]
    return {"rows": rows, "goal": "minimise", "settings": [[4, True], [4, True], [4, False]]}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"climb" ', '"best"  ', "SEARCH is 'best': it must be one of climb, evolution, tree"),
        ("TUNER_NUDGE = 0.05", "TUNER_NUDGE = 5", "TUNER_NUDGE is 5: it must be a number from 0 to 0.2"),
        ("TUNER_BEST", "TUNER_REST", "TUNER_BEST is None"),
        ("PATCHES_SHARE = 1.0", "PATCHES_SHARE = true", "PATCHES_SHARE is True"),
        ("TUNER_SHARE = 2.0", "TUNER_SHARE = 0\n# ", "no proposer has a share"),
    ],
)
def test_a_bad_strategy_is_named(inner: Any, old: str, new: str, said: str) -> None:
    text = STRATEGY.replace("PATCHES_SHARE = 1.0", "PATCHES_SHARE = 0") if "no proposer" in said else STRATEGY
    assert old in text
    with pytest.raises(ValueError, match=r".") as raised:
        inner.strategy(text.replace(old, new))
    assert said in str(raised.value)


@pytest.mark.parametrize(("rule", "search", "shares"), [("shrunk", "climb", "fixed"), ("strict", "tree", "earned")])
def test_a_session_spends_its_trials_and_is_the_same_again(
    inner: Any, table: dict[str, Any], rule: str, search: str, shares: str
) -> None:
    settings = inner.strategy(STRATEGY) | {"RULE": rule, "SEARCH": search, "SHARES": shares, "CONTROLLER_SHARE": 1}
    session = inner.Session(settings, table, 3)
    reached = session.play()
    assert 0 < reached <= 1.2, "of the mean of two runs the best is about 1"
    assert inner.TRIALS <= session.spent < inner.TRIALS + 8 and len(set(session.codes)) == len(session.codes)
    assert {one.candidate.proposer for one in session.history} == {"baseline", "tuner", "patches", "controller"}
    assert inner.Session(settings, table, 3).play() == reached
    assert inner.Session(settings, table, 4).codes != session.codes


def test_no_table_of_the_search_is_held_out(inner: Any) -> None:
    assert not set(inner.SEARCH) & set(inner.HELD_OUT)


def test_a_strategy_is_shown_as_a_part_of_a_contract(inner: Any, capsys: pytest.CaptureFixture[str]) -> None:
    inner.show(inner.strategy(STRATEGY.replace('"climb" ', '"tree"  ')))
    lab = parse(LEAST + capsys.readouterr().out)
    assert (lab.judge.rule, lab.search.strategy) == ("shrunk", "tree")
    assert [(one.kind, one.share) for one in lab.proposers] == [("tuner", 2), ("patches", 1)]
