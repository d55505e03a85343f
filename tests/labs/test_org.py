"""The org lab: a strategy is data, runs sessions of nightlab on stored tables, and named where it is wrong."""

from __future__ import annotations

import itertools
import json
import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.labs import TinyLab
from support.shipped import lab_module

from nightlab.core.config import parse
from nightlab.session.create import SHIPPED
from nightlab.storage.ledger import Ledger

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
        ("TUNER_ONE = 0.6", "TUNER_ONE = 5", "TUNER_ONE is 5: it must be a number from 0 to 1"),
        ("TUNER_WARM_UP", "TUNER_WARM", "TUNER_WARM_UP is None"),
        ("PATCHES_SHARE = 1.0", "PATCHES_SHARE = true", "PATCHES_SHARE is True"),
        ("PATCHES_SHARE = 1.0", "PATCHES_SHARE = 0", "no proposer has a share"),
    ],
)
def test_a_bad_strategy_is_named(inner: Any, old: str, new: str, said: str) -> None:
    assert old in STRATEGY
    with pytest.raises(ValueError, match=r".") as raised:
        inner.strategy(STRATEGY.replace(old, new))
    assert said in str(raised.value)


@pytest.mark.integration
@pytest.mark.parametrize(("rule", "search", "shares"), [("shrunk", "climb", "fixed"), ("strict", "tree", "earned")])
def test_a_session_spends_its_trials_and_is_the_same_again(
    inner: Any, table: dict[str, Any], rule: str, search: str, shares: str
) -> None:
    settings = inner.strategy(STRATEGY) | {
        "RULE": rule,
        "SEARCH": search,
        "SHARES": shares,
        "TUNER_SHARE": 2,
        "CONTROLLER_SHARE": 1,
    }
    tried = []

    class Session(inner.Session):
        def measured(self, code: str) -> Any:
            tried.append(code)
            return super().measured(code)

    session = Session(settings, table, 3)
    reached = session.play()
    assert 0 < reached <= 1.2, "of the mean of two runs the best is about 1"
    assert tried[0] == session.start and session.spent == len(tried) == inner.TRIALS
    first = tried.copy()
    assert Session(settings, table, 3).play() == reached and tried == first * 2
    assert Session(settings, table, 4).start != session.start


def test_a_trials_sessions_run_at_once_on_the_cores_that_it_has(
    inner: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, workers: int) -> None:
            asked.append(workers)
            super().__init__(workers)

    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_text(json.dumps(name))
    monkeypatch.setattr(inner, "FOLDER", tmp_path)
    monkeypatch.setattr(inner, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(inner, "usable_cores", lambda: 3)
    monkeypatch.setattr(inner, "played", lambda settings, table, number: number + (0.5 if table == "b" else 0))
    # seed 2: sessions 2000 to 2007 of both tables
    assert inner.reached({}, ("a", "b"), 2) == 2003.75 and asked == [3]


@pytest.mark.integration
def test_a_session_ignores_hooks_and_signing_of_the_user(
    inner: Any, table: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = tmp_path / "hooks" / "pre-commit"
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    settings = f"[commit]\ngpgSign = true\n[gpg]\nprogram = false\n[core]\nhooksPath = {hook.parent}\n"
    (tmp_path / "config").write_text(settings)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "config"))
    monkeypatch.setattr(inner, "TRIALS", 1)
    assert inner.Session(inner.strategy(STRATEGY), table, 3).play() == 0


def test_no_table_of_the_search_is_held_out(inner: Any) -> None:
    assert not set(inner.SEARCH) & set(inner.HELD_OUT)


def test_a_strategy_is_shown_as_a_part_of_a_contract(inner: Any) -> None:
    text = STRATEGY.replace('"climb" ', '"tree"  ').replace("TUNER_SHARE = 0", "TUNER_SHARE = 2")
    lab = parse(LEAST + inner.part_of_a_contract(inner.strategy(text)))
    assert (lab.judge.rule, lab.search.strategy) == ("greedy", "tree")
    assert [(one.kind, one.share) for one in lab.proposers] == [("tuner", 2), ("patches", 1)]


def test_a_share_that_is_far_below_zero_counts_as_the_worst(inner: Any, table: dict[str, Any]) -> None:
    """Where the start is the second best row, the worst one loses hundreds of times what there was to gain."""
    session = inner.Session(inner.strategy(STRATEGY), table, 3)
    rows = sorted(table["rows"], key=session.true)
    session.start = rows[1]
    assert session.share(rows[-1]) == inner.WORST
    assert session.share(rows[0]) == 1


@pytest.mark.machine
def test_a_session_of_it_that_is_killed_goes_on(
    inner: Any, table: dict[str, Any], nightlab: Any, killed: Any, tmp_path: Path
) -> None:
    assert nightlab("new", "org", cwd=tmp_path).code == 0
    lab = TinyLab(tmp_path / "org")
    for name in (*inner.SEARCH, *inner.HELD_OUT):
        lab.write(f"tables/{name.replace(':', '-')}.json", json.dumps(table))
    script = (lab.folder / "inner.py").read_text()
    lab.commit(inner_py=script.replace("TRIALS, SESSIONS = 40, 8 ", "TRIALS, SESSIONS = 4, 1 "))
    ledger = lab.folder / ".nightlab" / "t" / "ledger.db"

    def judged() -> list[tuple[int, str]]:
        with closing(Ledger(ledger, read_only=True)) as found:
            return [(e.number, e.candidate.commit) for e in found.experiments() if e.verdict]

    killed("run", "--tag", "t", "-n", "3", cwd=lab, until=lambda: ledger.exists() and len(judged()) > 1)
    before = judged()
    done = nightlab("run", "--tag", "t", "-n", "3", cwd=lab)
    assert done.code == 0, done.err
    assert judged()[: len(before)] == before and [number for number, _ in judged()] == [0, 1, 2, 3]
