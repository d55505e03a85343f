"""The supervisor: one small process per trial that survives the orchestrator and leaves no process behind.

Started as ``python -m nightlab.engines.local.supervisor FOLDER [LEASH]``. It reads ``FOLDER/spec.json``, runs the
candidate and its evaluator, enforces the budget on its own clock, ends the whole process tree, and writes
``FOLDER/result.json`` atomically. While it runs it holds a lock on ``FOLDER/lock``, which contains its process id: so a
resumed orchestrator distinguishes a running trial from a lost one.

It may be started before its trial: then it prepares what does not depend on the trial and waits for a line on standard
input, the trial's folder. The line ``BEGIN`` may come before that: the trial is known, and its program begins. If
standard input closes without a folder, it exits.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import sys
import threading
import time
from math import inf
from pathlib import Path
from typing import Any

from nightlab.engines.local.artefacts import leave_only_files, take_answer
from nightlab.engines.local.beside import Beside
from nightlab.engines.local.cgroup import Cgroup
from nightlab.engines.local.clock import Clock
from nightlab.engines.local.curve import REPORT, Curve, stop_reason
from nightlab.engines.local.held import BEGIN, HeldStart, read_line
from nightlab.engines.local.launch import Launch
from nightlab.engines.local.machine_monitor import SLOW, MachineMonitor, overuse
from nightlab.engines.local.outcome import TrialEnded, check_not_killed, describe_status, last_line
from nightlab.engines.local.process_group import TRUSTED, ProcessGroup, notice_exits, on_leash
from nightlab.engines.local.resource_sampler import ResourceSampler
from nightlab.engines.local.trial_folder import ANSWER, ORIGINAL_NAME, write_atomically
from nightlab.sandbox.process_tree import adopt_orphans
from nightlab.storage import checkouts

TICK, SAMPLE = 0.1, 0.5  # longest seconds between checks of the time limits, and samples of the process tree
LEAST = 0.001  # shortest seconds between two looks at what has happened
LAST_WORDS = 2.0  # seconds for a candidate's traceback after it stopped serving
SETTLED = 1.0  # seconds for what a candidate that has exited leaves behind
FAREWELL = 10.0  # seconds for a candidate to exit after its evaluation
TAMPERED, UNSERVED = 3, 4  # exit statuses of an evaluator


class Supervisor:
    """Of the trial in ``folder``. ``news``: a descriptor to which it writes a byte at each step, for who waits."""

    def __init__(self, folder: Path, news: int | None = None) -> None:
        self.news = news
        self.children = ProcessGroup()
        self.held: HeldStart | None = None  # of a program that began while another trial trained
        self._take_over(folder)
        self.cgroup = self._make_cgroup()
        self.launch = Launch(folder, self.spec, self.children, self.cgroup)
        # NVIDIA's tool takes CPU time, which can't be told from the candidate's on a CPU clock.
        gpu = self.spec["env"]["NIGHTLAB_DEVICE"] == "cuda" and self.spec["clock"] != "cpu"
        self.sampler, self.sampled = ResourceSampler(self.children, gpu=gpu), 0.0
        self.monitor = MachineMonitor(gpu, self.spec["slot"]["cores"])
        self.whole = MachineMonitor(gpu, self.spec["slot"]["cores"])  # of the trial, from its launch on
        self.exits = notice_exits()
        self.serving = "candidate"  # the role that the evaluator calls
        self.asked_for: int | None = None  # the process that it has asked to call

    def _take_over(self, folder: Path) -> None:
        """Take over the trial in this folder."""
        self.folder, self.began = folder, checkouts.now_there(folder)
        self.spec: dict[str, Any] = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
        if self.held:
            self.held.beside.move(folder, self.spec)
        self.beside = self.held.beside if self.held else Beside(self.spec, self.children, folder)
        self.curve = Curve(folder)
        self.clock = Clock(self.spec, self.children, self.beside, self.held.seconds if self.held else 0.0)

    def run(self) -> dict[str, Any]:
        """Run the whole trial; returns the content of ``result.json``."""
        try:
            self.whole.start(self.children.cpu_of_trial())
            self._candidate()
            self._checks()
            ended = TrialEnded("measured")
        except TrialEnded as end:
            ended = end
            if self.held and self.clock.started is None and end.outcome != "interrupted":
                ended = TrialEnded("lost", f"it began while another trial trained, and did not start: {end}")
            elif end.outcome in SLOW:  # a busy machine may be why, and not only while it trained
                self.whole.stop(self.children.cpu_of_trial())
                self.monitor = self.whole
                if hang := self.launch.importing:  # none of the candidate's code ran there
                    ended = TrialEnded("lost", f"started in advance, and its imports did not end: {hang[0]}")
        except OSError as error:
            ended = TrialEnded("crashed", f"could not be started: {error}")
        finally:
            self.clock.end()
            self.children.kill(self.cgroup)
            for log in self.launch.logs.values():
                log.close()
        if ended.outcome in ("crashed", "checks failed") and (said := self.launch.failed_setup()):
            ended = TrialEnded("lost", f"its sandbox could not be set up: {said}")
        if ended.outcome == "measured":
            try:
                self.launch.keep_saved()
            except TrialEnded as end:
                ended = end
        if self.cgroup:
            ended = self._close_cgroup(self.cgroup, ended)
        if ended.outcome not in ("interrupted", "lost"):
            ended = next(filter(None, map(self._tampered, self.spec["copies"])), ended)
        return self._result(ended)

    # -- the phases ------------------------------------------------------------------------------

    def _candidate(self) -> None:
        if self.held:
            self.monitor.start(self.children.cpu())
            self.launch.go()
            if self.held.signalled is not None:
                self.clock.start_held(self.held.signalled)
                self._phase("training")
        elif "candidate" in self.launch.gates or "evaluator" in self.launch.gates:
            self.monitor.start(self.children.cpu())
            self.beside.begin(ahead=True)
            self.launch.go()
        else:
            self.beside.begin(ahead=False)
            self._open()
        if self.spec["command"]:
            self._until_handed_over()
            if taken := overuse(self.monitor.facts):
                raise TrialEnded("over limit", taken)
        else:
            self.clock.handed_over = self.clock.begun
        if self.spec["evaluator"]:
            self._until_evaluated()

    def stand_by(self) -> bool:
        """Start in advance what does not depend on the trial; False if no trial comes."""
        folder = ""
        with contextlib.suppress(TrialEnded, OSError):
            if self.spec["ahead"]:
                self.launch.dismissed = sys.stdin.fileno() if self.spec["spare_core"] else None
                self._open(ahead=True)
            if self.launch.ready():
                (self.folder / ORIGINAL_NAME).write_text(self.folder.name, encoding="utf-8")  # it may be renamed now
                self._tell()
                line = read_line(sys.stdin.fileno())
                folder = self._hold() if line == BEGIN else line
        if not folder.endswith("\n"):
            self.children.kill(self.cgroup)
            return False
        self._take_over(Path(folder.rstrip("\n")))
        self.launch.move(self.folder, self.spec)
        return True

    def _hold(self) -> str:
        """Run the candidate's program up to its start signal, and have it wait there; then as ``read_line``."""
        with contextlib.suppress(FileNotFoundError):  # where its trial has begun by now its folder is renamed
            self._take_over(self.folder)
            self.launch.move(self.folder, self.spec)
            self.held = HeldStart(self.spec, self.folder, self.launch, self.beside, self.sampler)
        return self.held.run(sys.stdin.fileno(), self.exits) if self.held else read_line(sys.stdin.fileno())

    def _open(self, *, ahead: bool = False) -> None:
        if self.spec["command"]:
            self.monitor.start(0.0)  # restarted by the start signal, if there is one
        self.launch.open(ahead=ahead)

    @property
    def _served(self) -> bool:
        return bool(self.spec["evaluator"] and self.spec["served"])

    def _until_handed_over(self) -> None:
        """Wait for the start signal, then for the end of training, within the limits."""
        while True:
            self._poll()
            if self.clock.handed_over is not None:
                return
            status = self.children.status("candidate")
            if status is not None:
                self._settle()
                if self.clock.handed_over is not None:
                    return
                if status:
                    raise TrialEnded("crashed", f"exit status {describe_status(status)}")
                if self._served:
                    raise TrialEnded("no metric", "it exited without handing over a model")
                self.clock.hand_over()
                self.clock.hold_to_budget()
                self.monitor.stop(self.clock.handed_over_cpu)
                return
            if self._served and (ended := self.children.status("evaluator")):
                check_not_killed(ended)
                said = last_line(self.launch.output("evaluator"))
                raise TrialEnded("crashed", f"the evaluator exited before the model was handed over: {said}")

    def _until_evaluated(self) -> None:
        """Wait for the evaluator; without a served model it is started here."""
        served, clean, limit = self._served, self.spec["answering"], self.spec["evaluation"]
        if not served:
            self._clear_the_way("evaluator")
            self.sampler.sample(self.spec, self.folder)  # the candidate may have exited between two samples
            leave_only_files(self.folder / "work")
            self._take_answer()
            self.launch.start("evaluator", self.spec["evaluator"])
        begun = time.monotonic()
        while (status := self.children.status("evaluator")) is None:
            self._poll()
            if time.monotonic() - begun > limit:
                raise TrialEnded("timed out", f"evaluation took more than {limit:g} s")
        self.clock.evaluated = time.monotonic()
        check_not_killed(status)
        said = last_line(self.launch.output("evaluator"))
        if status == TAMPERED:
            raise TrialEnded("tampered", said)
        if status == UNSERVED:
            until = time.monotonic() + LAST_WORDS
            while (died := self.children.status(self.serving)) is None and time.monotonic() < until:
                self._poll()  # it may still be printing its traceback
            doing = "answering" if clean else "serving"
            raise TrialEnded("crashed", said if not died else f"exit status {describe_status(died)} while {doing}")
        if status:
            raise TrialEnded("crashed", f"the evaluator failed: {said}")
        if served:
            self._poll(0.0)  # what it said of answers at its end
            self.beside.end()
            self.clock.hold_to_budget()
        if served and not clean:
            until = time.monotonic() + FAREWELL
            while self.children.status("candidate") is None and time.monotonic() < until:
                self._poll()

    def _take_answer(self) -> None:
        """Keep what the candidate left for later trials to start from, where the contract says so."""
        if asked := self.spec["answer"]:
            fault = take_answer(self.folder / "work" / asked["file"], asked["most"], self.folder / ANSWER)
            if fault:
                raise TrialEnded("crashed", f"its answer {asked['file']} {fault}")

    def _checks(self) -> None:
        if self.spec["checks"]:
            self._clear_the_way("check")
        for number, argv in enumerate(self.spec["checks"]):
            role = f"check{number}"
            self.launch.start(role, argv)
            begun = time.monotonic()
            while (status := self.children.status(role)) is None:
                self._poll()
                if time.monotonic() - begun > self.spec["evaluation"]:
                    raise TrialEnded("checks failed", f"{' '.join(argv)} took more than {self.spec['evaluation']:g} s")
            if status:
                raise TrialEnded("checks failed", f"{' '.join(argv)}: exit status {describe_status(status)}")

    def _clear_the_way(self, role: str) -> None:
        """Before a trusted process starts: end the candidate's processes, and check the copy of the lab."""
        self._end_all_but()
        if tampered := self._tampered(role, whole=True):
            raise tampered

    def _tampered(self, role: str, *, whole: bool = False) -> TrialEnded | None:
        """The tampered outcome if a role's copy of the lab differs from the commit; else None.

        Checks may build in their copy and candidates may write; evaluators may not write anywhere.
        """
        folder, ours = Path(self.spec["copies"][role]), role == "evaluator"
        ids = self.spec["ids" if whole or ours else "frozen"]
        places = self.spec["places"][role]
        since = self.began if ours else inf
        fault = checkouts.find_moved(folder, places)
        fault = fault or checkouts.find_change(folder, ids, whole=whole or ours, since=since, places=places)
        return TrialEnded("tampered", f"{fault} in the copy of the lab for the {role}") if fault else None

    def _make_cgroup(self) -> Cgroup | None:
        """The candidate's cgroup; None where there is none, or the kernel refuses."""
        if self.spec["cgroup"] is None:
            return None
        cgroup = Cgroup(Path(self.spec["cgroup"]))
        try:
            cgroup.open(self.spec["memory_mb"], self.spec["processes"])
        except OSError:
            cgroup.close()
            return None
        return cgroup

    def _close_cgroup(self, cgroup: Cgroup, ended: TrialEnded) -> TrialEnded:
        """Read the kernel's counters and remove the cgroup; returns the outcome corrected by them."""
        self.sampler.peak_memory_mb = max(self.sampler.peak_memory_mb, cgroup.peak_mb())
        full, limit = cgroup.ran_out(), self.spec["memory_mb"]
        cgroup.close()
        if full:
            return TrialEnded(
                "over limit", f"it needed more than {limit:,.0f} MB of memory" if limit else "out of memory"
            )
        return ended

    def _poll(self, longest: float = TICK) -> None:
        """One tick, of ``longest`` seconds: signals, exited processes, and from time to time a sample of the tree."""
        time.sleep(LEAST)  # however much a candidate signals
        select.select([self.exits, *self.launch.sources()], [], [], longest)
        with contextlib.suppress(BlockingIOError):
            os.read(self.exits, 4096)
        signals = self.launch.signals()
        self.children.reap()
        clock = self.clock
        for role in self.launch.imported():
            self.beside.imported(role)
        for number, answers in self.launch.told():
            if answers:
                self.beside.answered(self._answers_as(number), answers)
            else:
                self.asked_for = number
        for line in signals:
            self._take(line)
        if self.asked_for is not None and clock.handed_over is not None:
            self._let_answer(self.asked_for)
        if (now := time.monotonic()) - self.sampled > SAMPLE:
            self.sampled = now
            self.sampler.sample(self.spec, self.folder)
            clock.hold_to_budget()
            if clock.handed_over is None and (why := stop_reason(self.folder)) is not None:
                self.monitor.stop(self.children.cpu())  # a disturbed machine may be the cause
                raise TrialEnded("hopeless", why)

    def _take(self, line: bytes) -> None:
        """One signal of the candidate's. Each of a kind counts once."""
        clock = self.clock
        if line == b"start" and clock.started is None:
            clock.start()
            self.monitor.start(clock.started_cpu)
            self._phase("training")
            if self.held and (excess := self.beside.beyond()):  # some of it beside another trial
                raise TrialEnded("lost", f"it began while another trial trained: {excess[0]}")
        elif line == b"serve" and clock.handed_over is None:
            clock.hand_over()
            self._phase("evaluating")
            self.monitor.stop(clock.handed_over_cpu)
            if self.spec["answering"]:
                self._end_all_but(*self.launch.answering)
            elif self._served:
                self.beside.turn("candidate")  # it answers itself, and could go on to train until it is asked
            clock.hold_to_budget()
        elif line.startswith(REPORT) and clock.handed_over is None:
            self.curve.add_report(line)

    def _settle(self) -> None:
        """After the candidate's exit: collect what its sandbox still ends, as its CPU time is known only then."""
        until = time.monotonic() + SETTLED
        self._poll(0.0)
        while self.children.tree("candidate") and time.monotonic() < until:
            self._poll(TICK / 10)

    def _let_answer(self, number: int) -> None:
        """Let the evaluator call a process. Clean ones run alone: what ran before is ended, and verified dead."""
        self.asked_for = None
        self.serving = self._answers_as(number)
        if self.spec["answering"]:
            self.beside.end()
            self._end_all_but(*self.launch.answering, self.serving)
            self.beside.turn(self.serving, importing=self.serving in self.launch.gates)
        self.launch.let_answer(self.serving)

    def _answers_as(self, number: int) -> str:
        """The role of the process that the evaluator knows by a number."""
        return f"answer{number}" if self.spec["answering"] else "candidate"

    def _end_all_but(self, *roles: str) -> None:
        """End all processes but the trusted ones and those of ``roles``. Raises TrialEnded where that failed."""
        if not self.children.kill(self.cgroup, keep=(*TRUSTED, *roles)):
            raise TrialEnded("crashed", "it left processes that could not be ended")

    # -- the result ------------------------------------------------------------------------------

    def _phase(self, name: str) -> None:
        write_atomically(self.folder / "phase.json", {"phase": name, "at": time.time()}, lasting=False)
        self._tell()

    def _tell(self) -> None:
        if self.news is not None:
            with contextlib.suppress(OSError):  # the orchestrator is gone
                os.write(self.news, b".")

    def _result(self, ended: TrialEnded) -> dict[str, Any]:
        vitals = self.sampler
        return {
            "outcome": ended.outcome,
            "detail": ended.detail,
            **self.clock.figures(),
            "overhead": self.beside.figures(),
            "peak_memory_mb": round(max(vitals.peak_memory_mb, self.children.peak_mb), 1),
            "machine": self.monitor.facts,
            "peak_gpu_memory_mb": round(vitals.peak_gpu_memory_mb, 1),
        }


def supervisor_main(folder: Path, leash: int | None = None, news: int | None = None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if leash is not None and os.fork():
        os._exit(0)  # Ray kills the children of a worker that ends; a grandchild notices the closed pipe and cleans up
    os.truncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    adopt_orphans()

    def stop(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second signal must not interrupt the cleanup
        raise TrialEnded("interrupted", "stopped by the user")

    signal.signal(signal.SIGTERM, stop)
    if leash is not None:
        threading.Thread(target=on_leash, args=(leash,), daemon=True).start()
    supervisor = Supervisor(folder, news)
    if supervisor.spec["ahead"] is not None and not supervisor.stand_by():
        return
    result = supervisor.run()
    write_atomically(supervisor.folder / "result.json", result)


if __name__ == "__main__":
    supervisor_main(Path(sys.argv[1]), *map(int, sys.argv[2:3]))
    os._exit(0)  # the next trial waits for this exit; interpreter shutdown would take 40 ms of CPU
