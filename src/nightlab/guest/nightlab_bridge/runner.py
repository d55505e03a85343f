"""Runs an evaluator in a separate process, relays its calls to the candidate, and prints what it measured.

The evaluator finds a writable copy of the lab. Sealed, a stand-in is in the program's place there, and the candidate's
process answers; else the evaluator imports the program itself, and its numbers are a claim.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nightlab_guest

from nightlab_bridge.packing import DIGITS, restated
from nightlab_bridge.stand_in import write_stand_in
from nightlab_bridge.values import NotPlain, receive, send
from nightlab_bridge.wants import failure

LARGE = 1 << 20  # bytes from which a file of the lab is linked instead of copied
SHOWN = 20_000  # characters of an evaluator's output that are shown
ANSWERS = 8  # the latest of the candidate's answers that are kept
RUNS = itertools.count()
UNMEASURED = 4  # exit status: no answer, or an invalid one

Said = Callable[[str], None]


class Unmeasured(Exception):
    """There is no measurement; ``str(error)`` says why."""


def run(program: str, function: Callable[[Path, Said], Any], *, sealed: bool, timeout: float) -> Any:
    """What ``function`` returns for the path of the program, run in a separate process in a copy of the lab.

    ``function`` may say which stage begins; each may take ``timeout`` seconds. Its result is read as JSON. Raises
    Unmeasured.
    """
    place = Path(
        os.environ.get("TMPDIR", "/tmp"), f"bridge-{os.getpid()}-{next(RUNS)}"
    )  # tempfile takes 2 ms to import
    place.mkdir(mode=0o700)
    copy = place / "lab"
    _copy(Path.cwd(), copy)
    relay = Relay(str(place / "calls")) if sealed else None
    if relay:
        write_stand_in(copy / program, relay.address)
    pipe, end = os.pipe()
    child = os.fork()
    if not child:
        os.close(pipe)
        _evaluate(copy, program, function, end, place / "output")
    os.close(end)
    evaluation = Evaluation(child, pipe, timeout)
    try:
        evaluation.wait(relay)
    finally:
        _show(place / "output")
    if relay and relay.fault:
        raise Unmeasured(f"the candidate gave no valid answer: {relay.fault}")
    result = evaluation.result()
    for name, value in restated(relay.answers).items() if relay else ():
        print(f"METRIC {name}={value!r}")
    return result


def _copy(source: Path, target: Path) -> None:
    """Copy a folder, so that all in it can be written to; a large file is a link to the one that is there."""
    target.mkdir(mode=0o700)
    for entry in os.scandir(source):
        where = target / entry.name
        if entry.is_dir():
            if entry.name not in (".git", ".nightlab"):
                _copy(Path(entry), where)
        elif entry.is_file() and entry.stat().st_size <= LARGE:
            where.write_bytes(Path(entry).read_bytes())
            where.chmod(entry.stat().st_mode | 0o600)
        else:
            where.symlink_to(Path(entry).absolute())


def _evaluate(copy: Path, program: str, function: Callable[[Path, Said], Any], end: int, output: Path) -> None:
    """In the child: call the function with its output redirected, write its result into the pipe, and exit."""
    os.setpgid(0, 0)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number in (1, 2):
        os.dup2(file, number)

    def write(message: dict[str, Any]) -> None:
        with os.fdopen(os.dup(end), "w") as pipe:
            pipe.write(json.dumps(message) + "\n")

    try:
        os.chdir(copy)
        sys.path.insert(0, str(copy))
        write({"result": function(copy / program, lambda stage: write({"stage": stage}))})
    except SystemExit as error:
        how = f"called sys.exit({error.code!r}) before it returned a result: let it return its metrics"
        write({"failed": f"the evaluator {how}"})
    except BaseException as error:
        import traceback

        traceback.print_exc()
        write({"failed": failure(error)})
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # threads that it left behind do not delay the end


class Evaluation:
    """The process that evaluates, and what it has said so far."""

    def __init__(self, child: int, pipe: int, timeout: float) -> None:
        self.child, self.pipe, self.timeout = child, pipe, timeout
        self.heard, self.stage, self.until = b"", "evaluate", time.monotonic() + timeout
        self.said: dict[str, Any] = {}

    def wait(self, relay: Relay | None) -> None:
        """Relay calls until it has said how it ended, or takes too long; then end it and its processes."""
        while not self.said:
            if time.monotonic() > self.until:
                self.said = {"failed": f"{self.stage} took more than {self.timeout:g} s"}
                break
            sources = [self.pipe, *(relay.sources() if relay else ())]
            ready, _, _ = select.select(sources, [], [], max(0.0, self.until - time.monotonic()))
            if self.pipe in ready and not self._hear():
                break
            if relay:
                relay.forward([source for source in ready if source is not self.pipe])
                if relay.fault:
                    break
        for kill in (os.killpg, os.kill):
            try:
                kill(self.child, signal.SIGKILL)
            except OSError:
                continue
        _, status = os.waitpid(self.child, 0)
        if not self.said:
            number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
            how = (
                f"was ended by signal {number}" if number else f"exited with status {os.waitstatus_to_exitcode(status)}"
            )
            self.said = {"failed": f"the evaluator {how} before it returned a result"}

    def _hear(self) -> bool:
        part = os.read(self.pipe, 1 << 16)
        self.heard += part
        *lines, self.heard = self.heard.split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "stage" in message:
                self.stage, self.until = str(message["stage"]), time.monotonic() + self.timeout
            else:
                self.said = message
        return bool(part)

    def result(self) -> Any:
        """What it returned. Raises Unmeasured."""
        if "failed" in self.said:
            raise Unmeasured(self.said["failed"])
        return self.said["result"]


class Relay:
    """Passes messages between the stand-in's connections and the candidate's process."""

    def __init__(self, address: str) -> None:
        self.address, self.fault = address, ""
        self.link = nightlab_guest.evaluator_link()
        self.turn = os.environ.get("NIGHTLAB_TURN")
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(address)
        self.server.listen(64)
        self.loads: dict[int, socket.socket] = {}
        self.count = 0
        self.answers = deque[bytes](maxlen=ANSWERS)  # the latest

    def sources(self) -> list[socket.socket]:
        return [self.server, self.link, *self.loads.values()]

    def forward(self, ready: list[Any]) -> None:
        """Pass on what has arrived. A fault of the candidate ends the evaluation."""
        try:
            if self.server in ready:
                self.count += 1
                self.loads[self.count], _ = self.server.accept()
            if self.link in ready:
                self._answer()
            for number, end in list(self.loads.items()):
                if end in ready:
                    self._request(number, end)
        except (NotPlain, OSError, nightlab_guest.ServeError) as fault:
            self.fault = self.fault or str(fault)

    def _answer(self) -> None:
        got = receive(self.link)
        if got is None:
            raise NotPlain("its process is gone")
        number, data = got
        if data.startswith(b'{"fault"'):
            raise NotPlain(str(json.loads(data)["fault"])[:500])
        self.answers.append(data if len(data) <= DIGITS else b"")
        if number in self.loads:  # else it was dropped meanwhile
            send(self.loads[number], number, data)

    def _request(self, number: int, end: socket.socket) -> None:
        got = receive(end)
        if got is None:
            del self.loads[number]
            end.close()
            send(self.link, number, b"")
            return
        if got[1].startswith(b'{"fault"'):
            raise NotPlain(str(json.loads(got[1])["fault"]))
        if self.turn:
            nightlab_guest.wait_for_turn(self.turn)
            self.turn = None
        send(self.link, number, got[1])


def _show(output: Path) -> None:
    """Print what the evaluator printed, so that no line of it reads as a metric."""
    with output.open(encoding="utf-8", errors="replace") as file:
        text = file.read(SHOWN)
    for line in text.splitlines():
        print(f"| {line}")


def arguments(timeout: float) -> argparse.ArgumentParser:
    """A parser of what each bridge is given: its evaluator, the program, and how to run it."""
    # Without a width, each option asks for the terminal's: imports that take 6 ms of each trial.
    parser = argparse.ArgumentParser(formatter_class=lambda prog: argparse.HelpFormatter(prog, width=100))
    parser.add_argument("evaluator")
    parser.add_argument("program")
    parser.add_argument("--sealed", action="store_true")
    parser.add_argument("--timeout", type=float, default=timeout, help="seconds of a run, or of a stage")
    return parser


def finish(error: Unmeasured) -> None:
    """Say why there is no measurement, so that no line of it reads as a metric or as feedback, and exit."""
    print("no metric:", "\n| ".join(str(error).splitlines()), flush=True)
    sys.exit(UNMEASURED)
