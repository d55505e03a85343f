"""The trading lab: tomorrow is nowhere to be found, trading costs, and later years are held out."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.shipped import lab_module, trials_of

from nightlab.session.create import SHIPPED, make_lab


@pytest.fixture
def walk(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SHIPPED / "trading"))
    module = lab_module("trading", "walk")
    monkeypatch.delitem(sys.modules, "prepare")
    return module


def test_a_position_earns_from_the_day_after_it_was_answered(walk: Any) -> None:
    rows = [[100.0, 100.0], [110.0, 100.0], [110.0, 50.0]]
    told: list[list[float]] = []
    held = walk.walk(rows, lambda today: told.append(today) or [1.0, -1.0])
    assert told == rows[:2], "the last day's position earns nothing, so it is not asked for"
    assert held == pytest.approx([(0.1 - 2 * walk.COST) / 2, 0.5 / 2]), "trading costs, holding does not"


@pytest.mark.parametrize("answer", [[1.1, 0.0], [float("nan"), 0.0], [float("inf"), 0.0], [0.0], []])
def test_what_is_no_position_is_no_metric(walk: Any, answer: list[float]) -> None:
    with pytest.raises(ValueError, match="2 numbers from -1 to 1"):
        walk.walk([[1.0, 1.0], [1.0, 1.0]], lambda today: answer)


def test_an_account_that_never_moves_has_no_sharpe_ratio_to_show(walk: Any) -> None:
    assert walk.sharpe([0.0] * 10) == walk.sharpe([1e-12] * 10) == 0.0
    assert walk.sharpe([0.02, 0.0] * 125) == pytest.approx(250**0.5)


@pytest.mark.integration
def test_years_held_out_are_read_only_where_nothing_is_decided(tmp_path: Path) -> None:
    folder = make_lab(tmp_path / "trading", "trading")
    (folder / "prepare.py").write_text(
        (folder / "prepare.py").read_text().replace("DAYS, YEARS = 8, 250", "DAYS, YEARS = 8, 9")
    )

    def printed(**more: str) -> str:
        env = {"HOME": str(tmp_path), "PATH": "", **more}
        for script in ("prepare.py", "walk.py"):
            done = subprocess.run(
                [sys.executable, script], cwd=folder, env=env, capture_output=True, text=True, check=True
            )
        return done.stdout

    alone, both = printed(), printed(NIGHTLAB_HELD_OUT="1")
    assert alone.startswith("METRIC sharpe=") and both.startswith("METRIC held_out=")
    assert both.endswith(alone), "later years change nothing of what was before, and prices are drawn once"


@pytest.mark.integration
def test_who_looks_prices_up_or_borrows_has_no_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prices = tmp_path / "home" / ".cache" / "nightlab" / "trading" / "prices.json"
    prices.parent.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    prices.write_text(json.dumps(lab_module("trading", "prepare").drawn(random.Random(1))[:2010]))
    run = trials_of("trading", tmp_path)
    looks, borrows = run("03-look-it-up"), run("05-borrow")
    assert (looks.outcome, looks.metric) == ("crashed", None) and "prices.json" in looks.detail
    assert (borrows.outcome, borrows.metric) == ("crashed", None) and "from -1 to 1" in borrows.detail
