"""A session whose folder is removed while it runs, as ``git clean -fdx`` does: that is told, and its results stay."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from nightlab.core.config import StopRules
from nightlab.core.events import RunStopped
from nightlab.core.observer import Observer
from nightlab.core.types import NightlabError
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.scheduler import Scheduler
from nightlab.storage.ledger import LEDGER, Ledger, require_kept


def opened(lab: Path) -> Ledger:
    (lab / ".nightlab" / "t").mkdir(parents=True)
    ledger = Ledger(lab / ".nightlab" / "t" / LEDGER)
    ledger.append(RunStopped("one"))
    require_kept(ledger, lab)
    return ledger


def test_the_open_ledger_is_written_back(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    shutil.rmtree(tmp_path / ".nightlab")
    ledger.append(RunStopped("two"))
    with pytest.raises(NightlabError, match=r"was removed while session t ran .*written back \(0 experiments\)"):
        require_kept(ledger, tmp_path)
    ledger.close()
    assert (tmp_path / ".nightlab" / ".gitignore").read_text() == "*\n"
    again = Ledger(tmp_path / ".nightlab" / "t" / LEDGER)
    assert [event.reason for event in again.events(RunStopped)] == ["one", "two"]
    require_kept(again, tmp_path)
    again.close()


def test_another_ledger_in_its_place_is_left_alone(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    (tmp_path / ".nightlab" / "t" / LEDGER).unlink()
    (tmp_path / ".nightlab" / "t" / LEDGER).write_text("another")
    with pytest.raises(NightlabError, match="was replaced while session t ran"):
        require_kept(ledger, tmp_path)
    assert (tmp_path / ".nightlab" / "t" / LEDGER).read_text() == "another"
    ledger.close()


def test_what_can_not_be_written_back_does_not_claim_to_resume(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    shutil.rmtree(tmp_path / ".nightlab")
    (tmp_path / ".nightlab").write_text("in the way")
    with pytest.raises(NightlabError, match="can't be written back") as error:
        require_kept(ledger, tmp_path)
    assert "can't go on" in error.value.hint and "refs/nightlab/t/" in str(error.value)
    ledger.close()


def test_git_clean_in_a_session(make_lab: Any) -> None:
    lab = make_lab()
    lab.idea("1", "A = 2.0\nB = 8\n")
    lab.git("add", "-A")
    lab.git("commit", "-q", "-m", "an idea")

    class Cleaner(Observer):
        def judged(self, *_: Any) -> None:
            lab.git("clean", "-fdxq")

    session = lab.session()
    with pytest.raises(NightlabError, match=r"written back \(\d experiments?\)"):
        ExperimentLoop(session, StopRules(experiments=2), Scheduler(session, Cleaner())).run()
    session.close()
    assert lab.git("status", "--porcelain") == ""
    _, session = lab.run(experiments=1)
    assert [row[3] for row in lab.table()[1:]] == ["keep", "keep"], "the baseline was not measured again"
    session.close()
