"""``nightlab`` without a command: where things stand, and the next step."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def test_a_folder_without_a_lab(nightlab: Any, tmp_path: Path) -> None:
    done = nightlab(cwd=tmp_path)
    assert done.code == 0 and "No lab in this folder" in done.out
    assert all(step in done.out for step in ("nightlab demo", "nightlab new", "nightlab init", "nightlab --help"))


def test_a_lab_before_its_first_session(nightlab: Any, make_lab: Any) -> None:
    done = nightlab(cwd=make_lab())
    assert done.code == 0 and "no session yet" in done.out and "nightlab check" in done.out


def test_a_lab_with_a_session(nightlab: Any, make_lab: Any) -> None:
    lab = make_lab()
    assert nightlab("run", "--tag", "t", "-n", "1", cwd=lab).code == 0
    done = nightlab(cwd=lab)
    assert done.code == 0 and done.err == ""
    first, champion, step = done.out.splitlines()
    assert first.startswith("session t: not running, 0 experiments, 0 kept"), "the baseline is none"
    assert champion.startswith("champion: experiment ") and "loss" in champion
    assert step.startswith("next: nightlab run --tag t")
