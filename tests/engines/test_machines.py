"""Machines as people have them: clocks that differ or jump, worktrees, two sessions at once."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from support.bench import LEAST, Bench
from support.labs import TinyLab

from nightlab.core.config import StopRules
from nightlab.core.observer import Observer
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.scheduler import Scheduler

BEHIND = "import time\n_now = time.time\ntime.time = lambda: _now() - 5\n"
JUMPS = (
    "import time\n_now, _began = time.time, time.monotonic()\n"
    "time.time = lambda: _now() + 1e5 * (time.monotonic() - _began)\n"
)


@pytest.mark.parametrize("clock", [BEHIND, JUMPS])
def test_the_machines_clock_is_not_the_filesystems(
    make_lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: str
) -> None:
    """Shared folders of virtual machines have the host's clock, and clocks are set while a trial runs."""
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "sitecustomize.py").write_text(clock)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "start"))
    lab = make_lab(genome="", files={"evaluate.py": "print('METRIC loss=7')\n"})
    one = Bench(lab, LEAST + '[evaluator]\ncommand = "python evaluate.py"\n')
    measured = one.run()
    assert (measured.outcome, measured.metric) == ("measured", 7), measured.detail
    assert 0 < measured.wall_seconds < 30


def test_a_lab_in_a_subfolder_of_a_worktree(make_lab: Any, tmp_path: Path) -> None:
    lab = make_lab()
    (lab.folder / "labs" / "one").mkdir(parents=True)
    lab.git("mv", "lab.toml", "genome.py", "measure.py", "labs/one/")
    lab.commit()
    lab.git("worktree", "add", "-q", "-b", "mine", str(tmp_path / "tree"))
    inside = TinyLab(tmp_path / "tree" / "labs" / "one")
    inside.idea("1", "A = 2.0\nB = 8\n")
    _, session = inside.run(experiments=1)
    assert [row[3] for row in inside.table()[1:]] == ["keep", "keep"]
    assert session.repo.branch_head("nightlab/t") == session.champion().candidate.commit
    assert lab.git("show", "nightlab/t:labs/one/genome.py") == "A = 2.0\nB = 8"
    session.close()
    assert inside.git("status", "--porcelain", "--", ":!ideas") == ""


def test_two_sessions_of_one_lab_at_once(make_lab: Any) -> None:
    lab = make_lab()
    lab.idea("1", "A = 2.0\nB = 8\n")
    sessions = [lab.session(tag) for tag in ("one", "two")]
    loops = [ExperimentLoop(s, StopRules(experiments=1), Scheduler(s, Observer())) for s in sessions]
    threads = [threading.Thread(target=loop.run) for loop in loops]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for session in sessions:
        assert [row[3] for row in lab.table(session.tag)[1:]] == ["keep", "keep"]
        session.close()
    assert lab.git("branch", "--list", "nightlab/*").split() == ["nightlab/one", "nightlab/two"]
