"""The supervisor: one small process per trial that outlives the orchestrator and is outlived by nothing.

Started as ``python -m nightlab.trial.supervisor FOLDER [LEASH]``; reads ``FOLDER/spec.json``, runs the candidate
and its evaluator, holds both to the budget on its own clock, ends the whole tree, and writes
``FOLDER/result.json`` in one atomic step. It holds a lock on ``FOLDER/lock`` while it lives, which is how
a resumed orchestrator tells a trial that goes on from one that is lost.

It may be started ahead of its trial: then it makes ready what depends on none, and waits for a line on its standard
input, which names the trial's folder. When that ends without one there is no trial, and it ends as well.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import IO, Any

import psutil

from nightlab.lineage import copies
from nightlab.sandbox.bubblewrap import SCRATCH
from nightlab.sandbox.tree import adopt_orphans
from nightlab.trial.artefacts import leave_only_files
from nightlab.trial.cgroup import Cgroup
from nightlab.trial.child import before_exec, shared_memory
from nightlab.trial.children import Children
from nightlab.trial.condition import Condition, overuse
from nightlab.trial.curve import REPORT, Curve, given_up
from nightlab.trial.output import Log
from nightlab.trial.usage import (
    GPU_QUERY,
    folder_mb,
    gpu_mb,
    mapped_files_mb,
    nameless_mb,
    scratch_mb,
)

BORN = "born"  # a file in the folder of a trial whose supervisor stood by: what the folder was called then
GRACE = 1.1  # a budget may be overrun by 10 % and a second: the step in flight, not a longer training
TICK, SAMPLE, GPU_SAMPLE = 0.02, 0.5, 2.0  # seconds between looks at the signals, the process tree, the GPU
LAST_WORDS = 2.0  # seconds that a candidate has to say why it stopped serving
FAREWELL = 10.0  # seconds that a candidate has to end after its evaluation
TAMPERED, UNSERVED = 3, 4  # exit statuses by which an evaluator says what went wrong


class Ended(Exception):
    """The trial is over: ``outcome`` in the words of records.Outcome, ``detail`` for people."""

    def __init__(self, outcome: str, detail: str = "") -> None:
        super().__init__(detail)
        self.outcome, self.detail = outcome, detail


@dataclass
class Times:
    """When each phase began, on the supervisor's monotonic clock, and the tree's CPU seconds then."""

    begun: float = field(default_factory=time.monotonic)
    started: float | None = None
    started_cpu: float = 0.0
    handed_over: float | None = None
    handed_over_cpu: float = 0.0
    evaluated: float | None = None


class Supervisor:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spec: dict[str, Any] = json.loads((folder / "spec.json").read_text())
        self.times, self.began = Times(), time.time()
        self.children = Children()
        self.logs: dict[str, Log] = {}
        self.gates: dict[str, int] = {}  # of processes that wait for the go, by role
        self.peak_memory_mb = 0.0
        self.peak_gpu_memory_mb = 0.0
        self.cgroup = self._own_cgroup()
        self.sampled = 0.0
        # NVIDIA's tool takes CPU time, which can't be told from the candidate's on a CPU clock.
        gpu = self.spec["env"]["NIGHTLAB_DEVICE"] == "cuda" and self.spec["clock"] != "cpu"
        self.gpu_asked = 0.0 if gpu else math.inf
        self.condition = Condition(gpu, self.spec["slot"]["cores"])
        self.control, self._control_end = os.pipe()
        self._turn_end, self._turn = os.pipe()  # a byte in it lets the evaluator make its first call
        os.set_blocking(self.control, False)
        self.heard, self.curve = b"", Curve(folder)

    def run(self) -> dict[str, Any]:
        """The whole trial; returns what ``result.json`` holds."""
        try:
            self._candidate()
            self._checks()
            ended = Ended("measured")
        except Ended as end:
            ended = end
        except OSError as error:
            ended = Ended("crashed", f"could not be started: {error}")
        finally:
            self.children.kill(self.cgroup)
            for log in self.logs.values():
                log.close()
        if self.cgroup:
            ended = self._leave(self.cgroup, ended)
        if ended.outcome not in ("interrupted", "lost"):
            ended = next(filter(None, map(self._tampered, self.spec["copies"])), ended)
        return self._result(ended)

    # -- the phases ------------------------------------------------------------------------------

    def _candidate(self) -> None:
        if self.gates:
            self._let_go()
        else:
            self._open()
        if self.spec["command"]:
            self._until_handed_over(self._served)
            if taken := overuse(self.condition.facts):
                raise Ended("over limit", taken)
        else:
            self.times.handed_over = self.times.begun
        if self.spec["evaluator"]:
            self._until_evaluated(self._served)

    def stand_by(self) -> bool:
        """Start what can be started before anybody knows for which trial; False when there will be none."""
        folder = ""
        with contextlib.suppress(Ended, OSError):
            if self.spec["ahead"]:
                self._open(ahead=True)
            # Each says so from inside its sandbox, which finds what it shows by the name of our folder.
            if all(os.read(gate, 1) for gate in self.gates.values()):
                (self.folder / BORN).write_text(self.folder.name)  # from here on it may get another
                folder = sys.stdin.readline()
        if not folder.endswith("\n"):
            self.children.kill(self.cgroup)
            return False
        self.folder = Path(folder.rstrip("\n"))
        self.spec = json.loads((self.folder / "spec.json").read_text())
        self.times, self.began, self.curve = Times(), time.time(), Curve(self.folder)
        for role, log in self.logs.items():
            log.path = self.folder / f"{role}.log"  # it has moved with the folder
        return True

    def _let_go(self) -> None:
        """Tell the processes that were started ahead what their trial is."""
        if any(self.children.status(role) is not None for role in self.gates):
            raise Ended("lost", "a process that was started ahead did not live to see its trial")
        self.condition.start(self.children.cpu())
        for role, gate in self.gates.items():
            os.write(gate, json.dumps(self._environment(role)).encode() + b"\n")
            os.close(gate)

    @property
    def _served(self) -> bool:
        return bool(self.spec["evaluator"] and self.spec["served"])

    def _open(self, *, ahead: bool = False) -> None:
        """Start the candidate, and an evaluator that it serves. ``ahead``: they wait for the go."""
        spec, served = self.spec, self._served
        ends: dict[str, socket.socket] = {}
        shared = shared_memory() if served else None
        if served:
            ends["candidate"], ends["evaluator"] = socket.socketpair()
        try:
            if served:
                # Started ahead: its imports hide behind the candidate's, and its CPU time is not the candidate's.
                self._spawn("evaluator", spec["evaluator"], ends["evaluator"], shared, ahead=ahead)
            if spec["command"]:
                self.children.start_clock()
                self.condition.start(0.0)  # again at the start signal, where there is one
                self._spawn("candidate", spec["command"], ends.get("candidate"), shared, ahead=ahead)
        finally:
            for end in ends.values():
                end.close()
            if shared:
                shared.close()
            os.close(self._control_end)
            os.close(self._turn_end)

    def _until_handed_over(self, served: bool) -> None:
        """Wait for the start signal, then for the end of training, inside their allowances."""
        while True:
            self._look()
            if self.times.handed_over is not None:
                return
            status = self.children.status("candidate")
            if status is not None:
                self._look()
                if status:
                    raise Ended("crashed", f"exit status {_named(status)}")
                if served:
                    raise Ended("no metric", "it ended without handing over a model")
                self.times.handed_over, self.times.handed_over_cpu = time.monotonic(), self.children.ended_cpu
                self.condition.stop(self.children.ended_cpu)
                return
            if served and (ended := self.children.status("evaluator")) is not None:
                _check_not_killed(ended)
                self.logs["evaluator"].thread.join(timeout=1.0)
                said = _last_line(self.logs["evaluator"].text())
                raise Ended("crashed", f"the evaluator ended before the model was handed over: {said}")

    def _hold_to_budget(self) -> None:
        spec, times, now = self.spec, self.times, time.monotonic()
        if times.started is None:
            if spec["served"] and now - times.begun > spec["startup"]:
                raise Ended("timed out", f"training had not started after {spec['startup']:g} s")
            # A command that gives no signals has its start, its training and its evaluation in one.
            limit = spec["startup"] + spec["wall_limit"] + spec["evaluation"]
            if now - times.begun > limit:
                raise Ended("timed out", f"it had not ended after {limit:g} s")
            return
        if now - times.started > spec["wall_limit"]:
            raise Ended("timed out", f"training took more than {spec['wall_limit']:g} s of wall-clock time")
        if spec["clock"] != "work" and self._spent() > spec["amount"] * GRACE + 1:
            raise Ended("over budget", f"{self._spent():.1f} s of training, the budget is {spec['amount']:g} s")

    def _spent(self) -> float:
        """Seconds of training so far, on the budget's clock."""
        times = self.times
        if times.started is None:
            return 0.0
        if self.spec["clock"] == "cpu":
            return (times.handed_over_cpu if times.handed_over else self.children.cpu()) - times.started_cpu
        return (times.handed_over or time.monotonic()) - times.started

    def _until_evaluated(self, served: bool) -> None:
        limit = self.spec["evaluation"]
        if not served:
            self._clear_the_way("evaluator")
            self._sample()  # it may have ended between two
            leave_only_files(self.folder / "work")
            self._spawn("evaluator", self.spec["evaluator"], None, None)
        begun = time.monotonic()
        while (status := self.children.status("evaluator")) is None:
            self._look()
            if time.monotonic() - begun > limit:
                raise Ended("timed out", f"evaluation took more than {limit:g} s")
        self.times.evaluated = time.monotonic()
        _check_not_killed(status)
        self.logs["evaluator"].thread.join(timeout=1.0)
        said = _last_line(self.logs["evaluator"].text())
        if status == TAMPERED:
            raise Ended("tampered", said)
        if status == UNSERVED:
            until = time.monotonic() + LAST_WORDS
            while (died := self.children.status("candidate")) is None and time.monotonic() < until:
                self._look()  # it may still be printing its traceback
            raise Ended("crashed", said if not died else f"exit status {_named(died)} while serving")
        if status:
            raise Ended("crashed", f"the evaluator failed: {said}")
        if served:
            until = time.monotonic() + FAREWELL
            while self.children.status("candidate") is None and time.monotonic() < until:
                self._look()

    def _checks(self) -> None:
        if self.spec["checks"]:
            self._clear_the_way("check")
        for number, argv in enumerate(self.spec["checks"]):
            role = f"check{number}"
            self._spawn(role, argv, None, None)
            begun = time.monotonic()
            while (status := self.children.status(role)) is None:
                self._look()
                if time.monotonic() - begun > self.spec["evaluation"]:
                    raise Ended("checks failed", f"{' '.join(argv)} took more than {self.spec['evaluation']:g} s")
            if status:
                raise Ended("checks failed", f"{' '.join(argv)}: exit status {_named(status)}")

    def _clear_the_way(self, role: str) -> None:
        """Before a trusted process starts: nothing of the candidate's runs, and nothing of it is in the copy."""
        if not self.children.kill(self.cgroup):
            raise Ended("crashed", "it left processes that could not be ended")
        if tampered := self._tampered(role, whole=True):
            raise tampered

    def _tampered(self, role: str, *, whole: bool = False) -> Ended | None:
        """The end of a trial whose copy of the lab for a role is no longer what the commit says.

        A check may build in its own, and a candidate write; an evaluator writes nowhere.
        """
        folder, ours = Path(self.spec["copies"][role]), role == "evaluator"
        ids = self.spec["ids" if whole or ours else "frozen"]
        fault = copies.fault(folder, ids, whole=whole or ours, since=self.began if ours else inf)
        return Ended("tampered", f"{fault} in the copy of the lab for the {role}") if fault else None

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

    def _leave(self, cgroup: Cgroup, ended: Ended) -> Ended:
        """Read what the kernel counted, and remove the cgroup; the end of the trial as the kernel sees it."""
        self.peak_memory_mb = max(self.peak_memory_mb, cgroup.peak_mb())
        full, limit = cgroup.ran_out(), self.spec["memory_mb"]
        cgroup.close()
        if full:
            return Ended(
                "over limit", f"it needed more than {limit:,.0f} MB of memory" if limit else "no memory was left"
            )
        return ended

    # -- processes -------------------------------------------------------------------------------

    def _environment(self, role: str) -> dict[str, str]:
        return {**self.spec["env"], **self._place(role)["env"], "NIGHTLAB_ROLE": role}

    def _place(self, role: str) -> dict[str, Any]:
        found: dict[str, Any] = self.spec["starts"][role.rstrip("0123456789")]
        return found

    def _spawn(
        self,
        role: str,
        argv: list[str],
        link: socket.socket | None,
        shared: IO[bytes] | None,
        *,
        ahead: bool = False,
    ) -> None:
        start, env = self._place(role), self._environment(role)
        fds = []
        if ahead:
            gate, self.gates[role] = (end.detach() for end in socket.socketpair())
            fds.append(gate)
            env |= {**self.spec["ahead"][role], "NIGHTLAB_GO": str(gate)}
        if role == "candidate":
            fds.append(self._control_end)
            env["NIGHTLAB_CONTROL"] = str(self._control_end)
        if role == "evaluator" and link is not None:
            fds.append(self._turn_end)
            env["NIGHTLAB_TURN"] = str(self._turn_end)
        if link is not None and shared is not None:
            fds += [link.fileno(), shared.fileno()]
            env |= {"NIGHTLAB_LINK": str(link.fileno()), "NIGHTLAB_SHARED": str(shared.fileno())}
        process = subprocess.Popen(
            [*start["prefix"], *argv],
            cwd=start["cwd"],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=fds,
            start_new_session=True,
            preexec_fn=lambda: before_exec(
                self.spec["processes"],
                int(self.spec["disk_mb"] * 2**20),
                self.spec["slot"]["cores"],
                self.cgroup if role == "candidate" else None,
            ),
        )
        assert process.stdout is not None
        if ahead:
            os.close(gate)
        self.children.roles[role] = process
        self.logs[role] = Log(self.folder / f"{role}.log", self.spec["log_bytes"], process.stdout)

    def _look(self) -> None:
        """One turn of the clock: signals, ended processes, and now and then the tree's size."""
        time.sleep(TICK)
        with contextlib.suppress(BlockingIOError):
            self.heard += os.read(self.control, 4096)
        self.children.reap()
        *lines, rest = self.heard.split(b"\n")
        self.heard = rest[-4096:]
        now = time.monotonic()
        for line in lines:
            if line == b"start" and self.times.started is None:
                self.times.started, self.times.started_cpu = now, self.children.cpu()
                self.condition.start(self.times.started_cpu)
                self._phase("training")
            elif line == b"serve" and self.times.handed_over is None:
                self.times.handed_over, self.times.handed_over_cpu = now, self.children.cpu()
                self._phase("evaluating")
                with contextlib.suppress(BrokenPipeError):  # an evaluator that is gone is told of in its turn
                    os.write(self._turn, b"!")
                self.condition.stop(self.times.handed_over_cpu)
                self._hold_to_budget()
            elif line.startswith(REPORT) and self.times.handed_over is None:
                self.curve.hear(line)
        if now - self.sampled > SAMPLE:
            self.sampled = now
            self._sample()
            if self.times.handed_over is None:
                self._hold_to_budget()
                if (why := given_up(self.folder)) is not None:
                    self.condition.stop(self.children.cpu())  # a neighbour may have made it look so
                    raise Ended("hopeless", why)

    def _sample(self) -> None:
        used, tree = 0.0, self.children.tree("candidate")
        for process in tree:
            with contextlib.suppress(psutil.Error):
                used += process.memory_info().rss / 2**20
        work, pids = self.folder / "work", [process.pid for process in tree]
        on_disk, in_memory = nameless_mb(pids, work.stat().st_dev)
        in_memory += scratch_mb(pids, SCRATCH, int(self.spec["disk_mb"]) * 2**20)
        used += max(in_memory - mapped_files_mb(pids), 0)
        self.peak_memory_mb = max(self.peak_memory_mb, used)
        self._sample_gpu(pids)
        limit = self.spec["memory_mb"]
        if limit and used > limit:
            raise Ended("over limit", f"it used {used:,.0f} MB of memory, {limit:,.0f} MB are allowed")
        written = folder_mb(work) + folder_mb(self.folder / "compiled") + on_disk
        if written == float("inf"):
            raise Ended("over limit", "it made folders that can't be looked into: too deep, or shut")
        if written > self.spec["disk_mb"]:
            raise Ended("over limit", f"it wrote {written:,.0f} MB, {self.spec['disk_mb']:,.0f} MB are allowed")

    def _sample_gpu(self, pids: list[int]) -> None:
        """Read what NVIDIA's tool said of the tree, or ask it again: it takes too long to be waited for."""
        asked, now = self.children.roles.get("gpu"), time.monotonic()
        if asked:
            if self.children.status("gpu") is not None:
                said = self.children.roles.pop("gpu").communicate()[0].decode(errors="replace")
                self.peak_gpu_memory_mb = max(self.peak_gpu_memory_mb, gpu_mb(said, pids))
        elif now - self.gpu_asked > GPU_SAMPLE:
            self.gpu_asked = now
            try:
                self.children.roles["gpu"] = subprocess.Popen(
                    GPU_QUERY, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
                )
            except OSError:
                self.gpu_asked = math.inf

    # -- the result ------------------------------------------------------------------------------

    def _phase(self, name: str) -> None:
        _write_atomically(self.folder / "phase.json", {"phase": name, "at": time.time()})

    def _result(self, ended: Ended) -> dict[str, Any]:
        times, now = self.times, time.monotonic()
        trained = times.started is not None
        return {
            "outcome": ended.outcome,
            "detail": ended.detail,
            "training_seconds": round(self._spent() if trained else (times.handed_over or now) - times.begun, 3),
            "startup_seconds": round((times.started or times.begun) - times.begun, 3),
            "evaluation_seconds": round((times.evaluated or now) - times.handed_over, 3) if times.handed_over else 0.0,
            "wall_seconds": round(now - times.begun, 3),
            "cpu_seconds": round(self.children.ended_cpu, 3),
            "peak_memory_mb": round(max(self.peak_memory_mb, self.children.peak_mb), 1),
            "machine": self.condition.facts,
            "peak_gpu_memory_mb": round(self.peak_gpu_memory_mb, 1),
        }


def _check_not_killed(status: int) -> None:
    """An evaluator that was killed (by you, or for lack of memory) says nothing about the candidate."""
    if status in (-signal.SIGKILL, 128 + signal.SIGKILL):
        raise Ended("lost", "the evaluator was killed from outside")


def _named(status: int) -> str:
    number = -status if status < 0 else status - 128  # a sandbox says 128 + the signal, as shells do
    with contextlib.suppress(ValueError):
        return f"{abs(status)} ({signal.Signals(number).name})"
    return f"{status}"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"


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
        raise Ended("interrupted", "stopped by the user")

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
