"""Supervisors are forks of a server: they outlive it, and a server that was killed is replaced."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest
from support.bench import LEAST, Bench
from support.processes import living, wait

from nightlab.engines.local.fork_server import ForkedProcess
from nightlab.engines.local.handles import wait_for_any
from nightlab.engines.local.trial_folder import kill_leftovers, supervisor_of
from nightlab.sandbox.bubblewrap import NoSandbox

pytestmark = pytest.mark.integration


def test_a_trial_outlives_the_server_and_the_next_one_gets_another(make_lab: Any) -> None:
    one = Bench(make_lab(genome="import time; time.sleep(0.5); print('METRIC loss=3')"), LEAST, NoSandbox())
    first = one.start()
    assert isinstance(first.process, ForkedProcess)
    server = one.engine.supervisors._server
    assert server and wait(lambda: supervisor_of(first.folder)) == first.process.pid
    server.kill()
    server.wait()
    begun = time.monotonic()
    wait_for_any([first], 60.0)
    assert first.finished() and time.monotonic() - begun < 59, "its exit is noticed"
    assert one.engine.collect(first).metric == 3
    wait(lambda: supervisor_of(first.folder) is None)
    assert one.run(seed=2).metric == 3
    one.engine.dismiss()


def test_a_supervisor_is_found_by_its_lock(make_lab: Any) -> None:
    one = Bench(make_lab(genome="import time; time.sleep(60)"), LEAST, NoSandbox())
    running = one.start()
    assert running.process
    supervisor = wait(lambda: supervisor_of(running.folder))
    assert supervisor in living(running.folder)
    os.kill(supervisor, signal.SIGSTOP)  # it can't end by itself
    kill_leftovers(one.engine.folder)
    wait(lambda: not living(running.folder))
    wait(running.finished)
    assert one.engine.collect(running).outcome == "lost"
    one.engine.dismiss()
