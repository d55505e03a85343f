"""The supervisor: one small process per trial that outlives the orchestrator and is outlived by nothing.

Started as ``python -m nightlab.engines.local.supervisor FOLDER [LEASH]``; reads ``FOLDER/spec.json``, runs the
candidate and its evaluator, holds both to the budget on its own clock, ends the whole tree, and writes
``FOLDER/result.json`` in one atomic step. It holds a lock on ``FOLDER/lock`` while it lives, which is how
a resumed orchestrator tells a trial that goes on from one that is lost.

It may be started ahead of its trial: then it makes ready what depends on none, and waits for a line on its standard
input, which names the trial's folder. When that ends without one there is no trial, and it ends as well.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import sys
import threading
import time
from math import inf
from pathlib import Path
from typing import Any

from nightlab.engines.local.artefacts import leave_only_files
from nightlab.engines.local.cgroup import Cgroup
from nightlab.engines.local.clock import Clock
from nightlab.engines.local.curve import REPORT, Curve, given_up
from nightlab.engines.local.launch import Launch
from nightlab.engines.local.machine_monitor import MachineMonitor, overuse
from nightlab.engines.local.outcome import TrialEnded, check_not_killed, last_line, named
from nightlab.engines.local.process_group import ProcessGroup
from nightlab.engines.local.resource_sampler import ResourceSampler
from nightlab.engines.local.trial_folder import BORN
from nightlab.sandbox.process_tree import adopt_orphans
from nightlab.storage.git import checkouts

TICK, SAMPLE = 0.02, 0.5  # seconds between looks at the signals, and at the process tree
LAST_WORDS = 2.0  # seconds that a candidate has to say why it stopped serving
FAREWELL = 10.0  # seconds that a candidate has to end after its evaluation
TAMPERED, UNSERVED = 3, 4  # exit statuses by which an evaluator says what went wrong


class Supervisor:
    def __init__(self, folder: Path) -> None:
        self.children = ProcessGroup()
        self._take(folder)
        self.cgroup = self._own_cgroup()
        self.launch = Launch(folder, self.spec, self.children, self.cgroup)
        # NVIDIA's tool takes CPU time, which can't be told from the candidate's on a CPU clock.
        gpu = self.spec["env"]["NIGHTLAB_DEVICE"] == "cuda" and self.spec["clock"] != "cpu"
        self.vitals, self.sampled = ResourceSampler(self.children, gpu=gpu), 0.0
        self.condition = MachineMonitor(gpu, self.spec["slot"]["cores"])

    def _take(self, folder: Path) -> None:
        """The trial in this folder is ours, from now on."""
        self.folder, self.began = folder, time.time()
        self.spec: dict[str, Any] = json.loads((folder / "spec.json").read_text())
        self.clock, self.curve = Clock(self.spec, self.children), Curve(folder)

    def run(self) -> dict[str, Any]:
        """The whole trial; returns what ``result.json`` holds."""
        try:
            self._candidate()
            self._checks()
            ended = TrialEnded("measured")
        except TrialEnded as end:
            ended = end
        except OSError as error:
            ended = TrialEnded("crashed", f"could not be started: {error}")
        finally:
            self.children.kill(self.cgroup)
            for log in self.launch.logs.values():
                log.close()
        if self.cgroup:
            ended = self._leave(self.cgroup, ended)
        if ended.outcome not in ("interrupted", "lost"):
            ended = next(filter(None, map(self._tampered, self.spec["copies"])), ended)
        return self._result(ended)

    # -- the phases ------------------------------------------------------------------------------

    def _candidate(self) -> None:
        if self.launch.gates:
            self.condition.start(self.children.cpu())
            self.launch.go()
        else:
            self._open()
        if self.spec["command"]:
            self._until_handed_over()
            if taken := overuse(self.condition.facts):
                raise TrialEnded("over limit", taken)
        else:
            self.clock.handed_over = self.clock.begun
        if self.spec["evaluator"]:
            self._until_evaluated()

    def stand_by(self) -> bool:
        """Start what can be started before anybody knows for which trial; False when there will be none."""
        folder = ""
        with contextlib.suppress(TrialEnded, OSError):
            if self.spec["ahead"]:
                self._open(ahead=True)
            if self.launch.ready():
                (self.folder / BORN).write_text(self.folder.name)  # from here on it may get another
                folder = sys.stdin.readline()
        if not folder.endswith("\n"):
            self.children.kill(self.cgroup)
            return False
        self._take(Path(folder.rstrip("\n")))
        self.launch.move(self.folder, self.spec)
        return True

    def _open(self, *, ahead: bool = False) -> None:
        if self.spec["command"]:
            self.condition.start(0.0)  # again at the start signal, where there is one
        self.launch.open(ahead=ahead)

    @property
    def _served(self) -> bool:
        return bool(self.spec["evaluator"] and self.spec["served"])

    def _until_handed_over(self) -> None:
        """Wait for the start signal, then for the end of training, inside their allowances."""
        served = self._served
        while True:
            self._look()
            if self.clock.handed_over is not None:
                return
            status = self.children.status("candidate")
            if status is not None:
                self._look()
                if status:
                    raise TrialEnded("crashed", f"exit status {named(status)}")
                if served:
                    raise TrialEnded("no metric", "it ended without handing over a model")
                self.clock.hand_over(ended=True)
                self.condition.stop(self.children.ended_cpu)
                return
            if served and (ended := self.children.status("evaluator")) is not None:
                check_not_killed(ended)
                said = last_line(self.launch.said("evaluator"))
                raise TrialEnded("crashed", f"the evaluator ended before the model was handed over: {said}")

    def _until_evaluated(self) -> None:
        """Wait for the evaluator, which starts only now where nothing is served to it."""
        served, limit = self._served, self.spec["evaluation"]
        if not served:
            self._clear_the_way("evaluator")
            self.vitals.sample(self.spec, self.folder)  # it may have ended between two
            leave_only_files(self.folder / "work")
            self.launch.start("evaluator", self.spec["evaluator"])
        begun = time.monotonic()
        while (status := self.children.status("evaluator")) is None:
            self._look()
            if time.monotonic() - begun > limit:
                raise TrialEnded("timed out", f"evaluation took more than {limit:g} s")
        self.clock.evaluated = time.monotonic()
        check_not_killed(status)
        said = last_line(self.launch.said("evaluator"))
        if status == TAMPERED:
            raise TrialEnded("tampered", said)
        if status == UNSERVED:
            until = time.monotonic() + LAST_WORDS
            while (died := self.children.status("candidate")) is None and time.monotonic() < until:
                self._look()  # it may still be printing its traceback
            raise TrialEnded("crashed", said if not died else f"exit status {named(died)} while serving")
        if status:
            raise TrialEnded("crashed", f"the evaluator failed: {said}")
        if served:
            until = time.monotonic() + FAREWELL
            while self.children.status("candidate") is None and time.monotonic() < until:
                self._look()

    def _checks(self) -> None:
        if self.spec["checks"]:
            self._clear_the_way("check")
        for number, argv in enumerate(self.spec["checks"]):
            role = f"check{number}"
            self.launch.start(role, argv)
            begun = time.monotonic()
            while (status := self.children.status(role)) is None:
                self._look()
                if time.monotonic() - begun > self.spec["evaluation"]:
                    raise TrialEnded("checks failed", f"{' '.join(argv)} took more than {self.spec['evaluation']:g} s")
            if status:
                raise TrialEnded("checks failed", f"{' '.join(argv)}: exit status {named(status)}")

    def _clear_the_way(self, role: str) -> None:
        """Before a trusted process starts: nothing of the candidate's runs, and nothing of it is in the copy."""
        if not self.children.kill(self.cgroup):
            raise TrialEnded("crashed", "it left processes that could not be ended")
        if tampered := self._tampered(role, whole=True):
            raise tampered

    def _tampered(self, role: str, *, whole: bool = False) -> TrialEnded | None:
        """The end of a trial whose copy of the lab for a role is no longer what the commit says.

        A check may build in its own, and a candidate write; an evaluator writes nowhere.
        """
        folder, ours = Path(self.spec["copies"][role]), role == "evaluator"
        ids = self.spec["ids" if whole or ours else "frozen"]
        fault = checkouts.find_change(folder, ids, whole=whole or ours, since=self.began if ours else inf)
        return TrialEnded("tampered", f"{fault} in the copy of the lab for the {role}") if fault else None

    def _own_cgroup(self) -> Cgroup | None:
        """The candidate's cgroup; None where there is none, or the kernel does not let us after all."""
        if self.spec["cgroup"] is None:
            return None
        cgroup = Cgroup(Path(self.spec["cgroup"]))
        try:
            cgroup.open(self.spec["memory_mb"], self.spec["processes"])
        except OSError:
            cgroup.close()
            return None
        return cgroup

    def _leave(self, cgroup: Cgroup, ended: TrialEnded) -> TrialEnded:
        """Read what the kernel counted, and remove the cgroup; the end of the trial as the kernel sees it."""
        self.vitals.peak_memory_mb = max(self.vitals.peak_memory_mb, cgroup.peak_mb())
        full, limit = cgroup.ran_out(), self.spec["memory_mb"]
        cgroup.close()
        if full:
            return TrialEnded(
                "over limit", f"it needed more than {limit:,.0f} MB of memory" if limit else "no memory was left"
            )
        return ended

    def _look(self) -> None:
        """One turn of the clock: signals, ended processes, and now and then the tree's size."""
        time.sleep(TICK)
        signals = self.launch.signals()
        self.children.reap()
        clock = self.clock
        for line in signals:
            if line == b"start" and clock.started is None:
                clock.start()
                self.condition.start(clock.started_cpu)
                self._phase("training")
            elif line == b"serve" and clock.handed_over is None:
                clock.hand_over()
                self._phase("evaluating")
                self.launch.let_evaluate()
                self.condition.stop(clock.handed_over_cpu)
                clock.hold_to_budget()
            elif line.startswith(REPORT) and clock.handed_over is None:
                self.curve.hear(line)
        if (now := time.monotonic()) - self.sampled > SAMPLE:
            self.sampled = now
            self.vitals.sample(self.spec, self.folder)
            if clock.handed_over is None:
                clock.hold_to_budget()
                if (why := given_up(self.folder)) is not None:
                    self.condition.stop(self.children.cpu())  # a neighbour may have made it look so
                    raise TrialEnded("hopeless", why)

    # -- the result ------------------------------------------------------------------------------

    def _phase(self, name: str) -> None:
        _write_atomically(self.folder / "phase.json", {"phase": name, "at": time.time()})

    def _result(self, ended: TrialEnded) -> dict[str, Any]:
        vitals = self.vitals
        return {
            "outcome": ended.outcome,
            "detail": ended.detail,
            **self.clock.figures(),
            "peak_memory_mb": round(max(vitals.peak_memory_mb, self.children.peak_mb), 1),
            "machine": self.condition.facts,
            "peak_gpu_memory_mb": round(vitals.peak_gpu_memory_mb, 1),
        }


def _write_atomically(path: Path, data: dict[str, Any]) -> None:
    draft = path.with_name(path.name + ".tmp")
    with draft.open("w") as out:
        json.dump(data, out)
        out.flush()
        os.fsync(out.fileno())
    os.replace(draft, path)


def _on_leash(end: int) -> None:
    """End this trial when nobody holds the other end of a pipe any more, however that came."""
    os.read(end, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def main(folder: Path, leash: int | None = None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if leash is not None and os.fork():
        os._exit(0)  # Ray kills the children of a worker that ends; a grandchild sees that, and ends its trial itself
    adopt_orphans()

    def stop(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # another must not break off the ending
        raise TrialEnded("interrupted", "stopped by the user")

    signal.signal(signal.SIGTERM, stop)
    if leash is not None:
        threading.Thread(target=_on_leash, args=(leash,), daemon=True).start()
    supervisor = Supervisor(folder)
    if supervisor.spec["ahead"] is not None and not supervisor.stand_by():
        return
    result = supervisor.run()
    _write_atomically(supervisor.folder / "result.json", result)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:3]))
    os._exit(0)  # the next trial waits for the end of this process: no 40 ms of CPU for the interpreter's own farewell
