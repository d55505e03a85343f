"""``kill -9`` at random instants, of each process that takes part in a served trial: nothing orphaned, nothing lost."""

from __future__ import annotations

import collections
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.arena import HONEST, Arena, open_arena

from nightlab.session.session import open_session

pytestmark = pytest.mark.integration

PROGRAM = str(Path(sys.executable).parent / "nightlab")
ROLES = {
    "orchestrator": "nightlab run",
    "supervisor": "-m nightlab.engines.local.fork_server",
    "evaluator": "python prepare.py evaluate",
    "candidate": "python train.py",
}
# Slow enough that each phase is hit now and then.
STEADY = HONEST.replace("table = train()", "table = train()\ntime.sleep(0.15)").replace(
    "    return [table", "    time.sleep(0.02)\n    return [table"
)


@pytest.fixture
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    for arena in open_arena(tmp_path_factory):
        arena.session.close()
        yield arena


class Matrix:
    def __init__(self, lab: Arena, seed: int) -> None:
        self.lab, self.chance = lab, random.Random(seed)
        self.killed: collections.Counter[str] = collections.Counter()
        self.output = (lab.folder.parent / "output").open("ab")

    def start(self, experiments: int) -> None:
        argv = [PROGRAM, "run", "--tag", "t", "--experiments", str(experiments), "-C", str(self.lab.folder)]
        self.orchestrator = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.output, stderr=self.output)

    def find(self, role: str) -> int | None:
        """The process that plays a role in this lab now. In the box it is the innermost that counts."""
        if role == "orchestrator":
            return self.orchestrator.pid
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    seen = (entry / "mountinfo").read_text() + line
                except OSError:
                    continue
                if ROLES[role] in line and str(self.lab.folder) in seen and "bwrap" not in line:
                    found.append(int(entry.name))
        return max(found, default=None)

    def kill(self, role: str) -> bool:
        """Kill a role at a random instant from now; False when the session ended before there was one."""
        time.sleep(self.chance.uniform(0, 0.25))
        until = time.monotonic() + 30
        while time.monotonic() < until:
            if self.orchestrator.poll() is not None:
                return False
            if (pid := self.find(role)) is not None:
                time.sleep(self.chance.uniform(0, 0.1))
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                self.killed[role] += 1
                return True
        return False

    def run(self, kills: int) -> None:
        roles = [role for _ in range(-(-kills // 4)) for role in self.chance.sample(sorted(ROLES), 4)][:kills]
        self.experiments = experiments = kills * 2 // 3 + 1
        for number in range(experiments):
            self.lab.idea(f"{STEADY}NUMBER = {number}\n", f"steady {number}")
        self.start(experiments)
        for role in roles:
            self.kill(role)
            if role == "orchestrator":
                self.orchestrator.wait(10)
                time.sleep(self.chance.choice([0, 0, 0.2, 0.8]))
            if self.orchestrator.poll() is not None:
                self.start(experiments)
        for _ in range(3):
            if self.orchestrator.wait(90) == 0:
                break
            self.start(experiments)
        assert self.orchestrator.returncode == 0, Path(self.output.name).read_text()[-2000:]

    def check(self) -> None:
        session = open_session(self.lab.folder, "t")
        experiments = session.ledger.experiments()
        assert [e.number for e in experiments] == list(range(self.experiments + 1)), (
            "none is missing, none is there twice"
        )
        crashes = 0
        for e in experiments[1:]:
            assert e.verdict and e.measurement
            if e.verdict.status == "crash":
                crashes += 1
                assert "137" in e.verdict.detail or "lost" in e.verdict.detail, e.verdict
            else:
                assert e.measurement.metric == self.lab.honest, "a kill changed a number"
                assert (e.verdict.status, e.verdict.reason) == ("discard", "inconclusive")
        assert crashes <= self.killed["candidate"] + (self.killed["evaluator"] + self.killed["supervisor"]) // 3
        trials = [pair for e in experiments for pair in session.ledger.trials(e.number)]
        assert all(measured for _, measured in trials), "every trial that began has an end"
        again = len(trials) - len(experiments)
        # An orchestrator that dies while it lays out a trial's folder leaves one that never ran.
        assert again <= sum(self.killed.values()) - self.killed["candidate"], "a finished trial was done again"
        table = session.results.read_text().splitlines()
        assert len(table) == len(experiments) + 1
        assert self.lab.repo.branch_head("nightlab/t") == experiments[0].candidate.commit
        session.close()
        self.lab.session = session
        self.lab.check_clean()


@pytest.mark.machine  # by default tests/loop/test_kill.py kills a session at random instants
@pytest.mark.parametrize("seed", [1])
def test_kills_at_random_instants(lab: Arena, seed: int) -> None:
    matrix = Matrix(lab, seed)
    matrix.run(12)
    assert sum(matrix.killed.values()) >= 9, "most kills found their victim"
    matrix.check()


@pytest.mark.machine
@pytest.mark.parametrize("seed", range(2, 12))
def test_many_kills_at_random_instants(lab: Arena, seed: int) -> None:
    matrix = Matrix(lab, seed)
    matrix.run(24)
    matrix.check()
