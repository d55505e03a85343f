"""kill -9 at random points of a running session: nothing finished is lost, nothing is there twice, nothing stays."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.labs import TinyLab, users_own
from support.processes import living, wait

from nightlab.storage.ledger import Ledger
from nightlab.storage.ledger.tables import rebuild

pytestmark = pytest.mark.integration

GENOME = "#\n#\n#\nC = 0\n#\n#\n#\n"
MEASURE = """\
import subprocess, sys, time
from genome import C
subprocess.Popen([sys.executable, "-c", "import os, time; os.setsid(); time.sleep(999)"])
time.sleep(0.1)
print("METRIC loss=" + str(1000 - C if C % 3 == 1 else 2000 + C))
"""
IDEAS = 400


@pytest.fixture
def lab(make_lab: Any) -> TinyLab:
    """Ideas for a long session, and a user who is in the middle of other work."""
    lab = make_lab(GENOME, MEASURE, files={"program.md": "the strategy\n", "README.md": "read me\n"})
    lab.idea("0", GENOME.replace("C = 0", "C = 12345"))
    pattern = (lab.folder / "ideas" / "0.patch").read_text()
    (lab.folder / "ideas" / "0.patch").unlink()
    for n in range(1, IDEAS):
        lab.write(f"ideas/{n:03}.patch", pattern.replace("C = 12345", f"C = {n}"))
    lab.write("program.md", "the strategy, being rewritten\n")
    lab.write("README.md", "staged\n")
    lab.git("add", "README.md")
    lab.write("README.md", "staged, and edited again\n")
    lab.write("untracked/notes.txt", "not for git\n")
    return lab


def examined(lab: TinyLab, scratch: Path) -> dict[int, tuple[Any, ...]]:
    """What the ledger holds, read from a copy as a crash left it; its own consistency is checked here."""
    source = lab.folder / ".nightlab" / "t" / "ledger.db"
    if not source.exists():
        return {}
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    for path in source.parent.glob("ledger.db*"):
        if not path.name.endswith("-shm"):
            shutil.copy(path, scratch / path.name)
    with sqlite3.connect(scratch / "ledger.db") as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        once = (
            "SELECT json_extract(data, '$.{}'), count(*) FROM events WHERE kind = '{}' GROUP BY 1 HAVING count(*) > 1"
        )
        for key, kind in (("number", "proposed"), ("number", "judged"), ("id", "started"), ("id", "finished")):
            assert db.execute(once.format(key, kind)).fetchall() == []
    ledger = Ledger(scratch / "ledger.db")
    before, trials = ledger.experiments(), ledger.trials()
    rebuild(ledger._db)
    assert (ledger.experiments(), ledger.trials()) == (before, trials)
    ledger.close()
    assert [e.number for e in before] == list(range(len(before)))
    trees = [e.candidate.tree for e in before]
    assert len(trees) == len(set(trees))
    for experiment in before:
        assert lab.git("rev-parse", f"refs/nightlab/t/{experiment.number:06d}") == experiment.candidate.commit
    head = lab.git("for-each-ref", "--format=%(objectname)", "refs/heads/nightlab/t")
    assert head == "" or head in {e.candidate.commit for e in before if e.kept}
    return {e.number: (e.candidate, e.measurement, e.verdict) for e in before if e.verdict}


def victims(lab: TinyLab) -> tuple[list[int], list[int]]:
    """The supervisors, and the processes of candidates, that live now."""
    supervisors, others = [], []
    for pid in living(lab.folder):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        (supervisors if b"nightlab.engines.local." in words else others).append(pid)
    return supervisors, others


def strike(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


@pytest.mark.parametrize("kills", [6, pytest.param(120, marks=[pytest.mark.machine, pytest.mark.timeout(1800)])])
def test_whatever_is_killed_the_session_goes_on(
    lab: TinyLab, start_nightlab: Any, nightlab: Any, tmp_path: Path, kills: int
) -> None:
    draw, mine = random.Random(kills), users_own(lab)
    known: dict[int, tuple[Any, ...]] = {}
    struck = {"orchestrator": 0, "supervisor": 0, "candidate": 0, "all": 0}
    while sum(struck.values()) < kills:
        process = start_nightlab("run", "--tag", "t", "--slots", str(draw.choice([1, 1, 2])), cwd=lab)
        time.sleep(draw.choice([draw.uniform(0, 0.6), draw.uniform(0.4, 1.6)]))
        supervisors, others = victims(lab)
        who = draw.choice(["orchestrator", "orchestrator", "supervisor", "candidate", "all"])
        if 0 not in known or not supervisors:
            who = "orchestrator"  # a baseline that is killed again and again is rightly given up
        if who != "orchestrator":
            strike(others if who == "candidate" else supervisors if who == "supervisor" else others + supervisors)
            struck[who] += 1
            time.sleep(0 if who == "all" else draw.uniform(0, 0.5))
        assert process.poll() is None, process.communicate()
        process.kill()
        process.wait()
        struck["orchestrator"] += 1

        now = examined(lab, tmp_path / "copy")
        assert {number: now.get(number) for number in known} == known, "what was judged stays as it was"
        known = now
        assert users_own(lab) == mine

    more = max(known, default=0) + 3
    done = nightlab("run", "--tag", "t", "-n", str(more), cwd=lab)
    assert done.code == 0, done.err
    now = examined(lab, tmp_path / "copy")
    assert {number: now[number] for number in known} == known
    assert set(now) == set(range(len(now))) and len(now) >= more + 1
    assert living(lab.folder) == []
    assert users_own(lab) == mine

    ledger = Ledger(lab.folder / ".nightlab" / "t" / "ledger.db", read_only=True)
    champion = ledger.champion()
    assert champion and lab.git("rev-parse", "nightlab/t") == champion.candidate.commit
    assert ledger.open_trials() == [] and ledger.unjudged() == []
    _, *rows = lab.table()
    verdicts = [experiment.number for experiment in ledger.judged()]  # of two slots the second may end first
    assert [int(row[5]) for row in rows] == verdicts and sorted(verdicts) == sorted(now)
    assert [row[3] for row in rows] == [now[n][2].status for n in sorted(now)]
    measured = [m for _, m, _ in now.values() if m and m.metric is not None]
    assert champion.measurement.metric == min(m.metric for m in measured)


def test_a_trial_outlives_its_orchestrator_and_counts(
    lab: TinyLab, start_nightlab: Any, nightlab: Any, tmp_path: Path
) -> None:
    process = start_nightlab("run", "--tag", "t", cwd=lab)
    wait(lambda: any(lab.folder.glob(".nightlab/t/trials/0001-*/candidate.log")))
    process.kill()
    process.wait()
    wait(lambda: not living(lab.folder))
    assert nightlab("run", "--tag", "t", "-n", "4", cwd=lab).code == 0
    ledger = Ledger(lab.folder / ".nightlab" / "t" / "ledger.db", read_only=True)
    assert {measured.outcome for _, measured in ledger.trials()} <= {"measured", "lost"}
    assert all(e.measurement.metric is not None for e in ledger.experiments())


STEPS = """\
import os, signal, sys
from pathlib import Path
from nightlab.storage.ledger import Ledger
from nightlab.storage.git import Repo
from nightlab.core.config import StopRules
from nightlab.loop.scheduler import Scheduler
from nightlab.loop.loop import ExperimentLoop
from nightlab.session.session import Session
from nightlab.engines.local.engine import LocalEngine
from nightlab.core.observer import Observer
lab, target, when = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
room, name = target.split(".")
owner = {"ledger": Ledger, "repo": Repo, "box": LocalEngine, "session": Session}[room]
real, left = getattr(owner, name), [int(sys.argv[4])]
def struck(*args, **more):
    left[0] -= 1
    if left[0] == 0 and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    done = real(*args, **more)
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return done
setattr(owner, name, struck)
repo = Repo(lab)
exists = (lab / ".nightlab" / "t" / "ledger.db").exists()
session = Session(repo, "t", writer=True) if exists else Session.create(repo, "t")
ExperimentLoop(session, StopRules(experiments=2), Scheduler(session, Observer())).run()
"""


def also(*step: Any) -> Any:
    """A step for the machine tier: each takes 4 s of CPU, and the default run tries a step next to it."""
    return pytest.param(*step, marks=pytest.mark.machine)


@pytest.mark.parametrize(
    ("when", "step", "nth"),
    [
        also("after", "ledger.propose", 1),  # the baseline is known, nothing runs
        also("after", "ledger.judge", 1),  # it is judged, the branch is not made
        also("after", "repo.keep_reachable", 2),
        also("after", "ledger.propose", 2),
        also("after", "ledger.start", 2),
        ("after", "box.start", 2),
        also("after", "box.collect", 2),
        also("after", "ledger.finish", 2),
        also("after", "ledger.judge", 2),  # kept, and the branch still at the champion before
        ("after", "repo.move_branch", 2),
    ],
)
def test_a_kill_between_any_two_writes_is_completed_or_redone(
    lab: TinyLab, nightlab: Any, tmp_path: Path, step: str, nth: int, when: str
) -> None:
    died = subprocess.run(
        [sys.executable, "-c", STEPS, str(lab.folder), step, when, str(nth)], capture_output=True, text=True
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    known = examined(lab, tmp_path / "copy")
    assert nightlab("run", "--tag", "t", "-n", "2", cwd=lab).code == 0
    now = examined(lab, tmp_path / "copy")
    assert {n: now[n] for n in known} == known
    assert [(n, now[n][1].metric) for n in sorted(now)] == [(0, 2000), (1, 999), (2, 2002)]
    assert lab.git("rev-parse", "nightlab/t") == now[1][0].commit
    assert [int(row[5]) for row in lab.table()[1:]] == [0, 1, 2]
    assert living(lab.folder) == []
