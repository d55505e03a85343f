"""Starts a trial's processes in their sandboxes, with pipes to each other and to the supervisor."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import IO, Any

from nightlab.engines.local.answering import CHUNK, Answering
from nightlab.engines.local.bounded_log import BoundedLog
from nightlab.engines.local.cgroup import Cgroup
from nightlab.engines.local.child_setup import before_exec, private_memory, seal, shared_memory, tasks_running
from nightlab.engines.local.outcome import TrialEnded, failed_setup
from nightlab.engines.local.process_group import ProcessGroup
from nightlab.engines.local.trial_folder import PROXY, SAVED

DIGITS = "0123456789"
YIELDS = 5  # niceness of what works beside a training
PIPE = 65536  # bytes that a pipe holds: an exit is noticed only with all that was said before it
IMPORTED = b"i"  # from a process at its gate, before any of the candidate's code: its imports are made
ANSWERED, MARK = struct.Struct("<BBI"), 255  # on the turn's socket: a process has given that many more answers


class Launch:
    """Starts the processes of the trial in ``folder`` by its ``spec``, and receives its candidate's signals.

    Processes started in advance wait at a gate (a socket) until ``go``. Where a trial trains beside them, they make
    their imports one after the other, and take one core.
    """

    def __init__(self, folder: Path, spec: dict[str, Any], children: ProcessGroup, cgroup: Cgroup | None) -> None:
        self.folder, self.spec, self.children, self.cgroup = folder, spec, children, cgroup
        self.others = tasks_running()
        self.logs: dict[str, BoundedLog] = {}
        self.gates: dict[str, int] = {}  # sockets of waiting processes, by role
        self._importing: dict[str, int] = {}  # likewise, of those that were let go, until their imports are made
        self.dismissed: int | None = None  # where imports are made in turn: can be read once no one wants them any more
        self._in_place: set[str] = set()  # roles whose gate has said so
        self._gone: dict[str, Set[str]] = {}  # by role: variables of a stand-by that its trial does without
        self.control, self._control_end = os.pipe()
        os.set_blocking(self.control, False)
        self._heard = b""
        # The evaluator says which process it is about to call, and gets a byte once it may.
        self._turn, self._turn_end = socket.socketpair()
        self._turn.setblocking(False)
        self._told = b""
        self._open_ends = {self.control, self._turn.fileno()}  # of which more can be heard
        self.answering: dict[str, Answering] = {}  # by role: processes that were not called yet
        self._handed: IO[bytes] | None = None  # what the candidate hands over
        self._saved: IO[bytes] | None = None  # and what training goes on from
        self._hold: int | None = None  # while this is open, a candidate waits at its start signal

    def open(self, *, ahead: bool = False) -> None:
        """Start the candidate, and the evaluator if the model is served. ``ahead``: they wait for ``go``."""
        spec, waits = self.spec, self.spec["ahead"] if ahead else {}
        passed = {"NIGHTLAB_CONTROL": [self._control_end]}
        with contextlib.ExitStack() as ends:
            ends.callback(os.close, self._control_end)
            ends.enter_context(self._turn_end)
            if spec["evaluator"] and spec["served"]:
                passed |= self._open_served(ends, waits)
            if spec["command"]:
                passed |= self._open_checkpoints(ends)
                passed |= self._open_hold(ends) if ahead and spec["spare_core"] else {}
                self.children.start_clock()
                self.start("candidate", spec["command"], passed, waits.get("candidate"))

    def _open_served(self, ends: contextlib.ExitStack, waits: dict[str, dict[str, str]]) -> dict[str, list[int]]:
        """Start the evaluator, and the answering processes where they can wait; what the candidate is passed.

        They start before the candidate: their imports overlap with its own, and their CPU time is counted separately.
        """
        spec, links, memories = self.spec, [], []
        for number in range(spec["answering"] or 1):
            theirs, evaluators = (ends.enter_context(end) for end in socket.socketpair())
            memory = ends.enter_context(shared_memory())
            links.append(evaluators.fileno())
            memories.append(memory.fileno())
            if spec["answering"]:
                self.answering[f"answer{number}"] = Answering(theirs, memory)
        passed = {"NIGHTLAB_LINK": links, "NIGHTLAB_SHARED": memories, "NIGHTLAB_TURN": [self._turn_end.fileno()]}
        self.start("evaluator", spec["evaluator"], passed, waits.get("evaluator"))
        if not spec["answering"]:
            return {"NIGHTLAB_LINK": [theirs.fileno()], "NIGHTLAB_SHARED": memories}
        self.children.start_clock_of_all()
        if spec["answer_waits"]:
            for role, process in self.answering.items():
                self.start(role, spec["command"], process.passed(), spec["answer_waits"])
                process.close_calls()
        self._handed = private_memory()
        return {"NIGHTLAB_HANDED": [self._handed.fileno()]}

    def _open_checkpoints(self, ends: contextlib.ExitStack) -> dict[str, list[int]]:
        """What a member of a population goes on from, in memory that nothing can change, and where it saves to."""
        passed = {}
        if place := self.spec["checkpoint"]:
            memory = ends.enter_context(private_memory())
            digest = hashlib.sha256()
            with Path(place).open("rb") as content:
                while part := content.read(CHUNK):
                    digest.update(part)
                    memory.write(part)
            if digest.hexdigest() != Path(place).name:
                raise TrialEnded("crashed", f"the checkpoint {place} was changed since it was handed over")
            seal(memory)
            passed["NIGHTLAB_CHECKPOINT"] = [memory.fileno()]
        if self.spec["save"]:
            self._saved = private_memory()
            passed["NIGHTLAB_SAVED"] = [self._saved.fileno()]
        return passed

    def _open_hold(self, ends: contextlib.ExitStack) -> dict[str, list[int]]:
        """Where a candidate that begins before its trial waits at its start signal."""
        theirs, self._hold = os.pipe()
        ends.callback(os.close, theirs)
        return {"NIGHTLAB_HELD": [theirs]}

    def keep_saved(self) -> None:
        """Keep what a member of a population has saved, once its processes have ended. Raises TrialEnded."""
        if self._saved is None:
            return
        size, most = os.fstat(self._saved.fileno()).st_size, self.spec["save"]
        if size > most:
            words = (
                f"its checkpoint has {size / 2**20:.1f} MB, population.checkpoint of lab.toml allows {most / 2**20:g}"
            )
            raise TrialEnded("over limit", words)
        self._saved.seek(0)
        with (self.folder / SAVED).open("wb") as kept:
            while chunk := self._saved.read(CHUNK):
                kept.write(chunk)

    def ready(self) -> bool:
        """Wait until all processes started in advance are at their gates; False if one exited instead."""
        # Each reports from inside its sandbox, whose mounts were resolved by the folder's current name.
        return all(role in self._in_place or os.read(gate, 1) for role, gate in self.gates.items())

    def _wait_for_imports(self, role: str, dismissed: int) -> None:
        """Wait until a process that was started in advance has made its imports, or no one wants it any more."""
        gate = self.gates[role]
        if os.read(gate, 1):
            self._in_place.add(role)
            select.select([gate, dismissed], [], [])

    def move(self, folder: Path, spec: dict[str, Any]) -> None:
        """Continue with a renamed folder, which is now a trial's, and its spec."""
        had = {role: self._environment(role) for role in self.gates}
        self.folder, self.spec = folder, spec
        for role, env in had.items():
            gone = self._gone.get(role, frozenset()) | env.keys()
            self._gone[role] = gone - self._environment(role).keys()
        for role, log in self.logs.items():
            log.path = folder / f"{role}.log"

    def begin(self) -> None:
        """Let the candidate's program begin before its trial does. It waits at its start signal until ``go``."""
        self._open_gate("candidate")

    def go(self) -> None:
        """Tell the candidate and the evaluator, which wait, what their trial is, and that it begins."""
        if any(self.children.status(role) is not None for role in self.gates):
            raise TrialEnded("lost", "a process that was started in advance ended before its trial began")
        if self._hold is not None:
            os.close(self._hold)
            self._hold = None
        for role in self.gates.keys() - self.answering.keys():
            self._open_gate(role)

    def _open_gate(self, role: str) -> None:
        gate = self.gates.pop(role)
        with contextlib.suppress(BrokenPipeError):  # it ended: its status says so
            told = dict.fromkeys(self._gone.get(role, ())) | self._environment(role)
            os.write(gate, json.dumps(told).encode() + b"\n")
        os.set_blocking(gate, False)
        self._importing[role] = gate

    @property
    def importing(self) -> list[str]:
        """The roles of processes with their gates open that still make their imports."""
        return list(self._importing)

    def imported(self) -> list[str]:
        """The roles of processes that have made their imports since the last call, with their gates open."""
        made = []
        for role, gate in list(self._importing.items()):
            try:
                heard = os.read(gate, 16)
            except BlockingIOError:
                continue
            except OSError:
                heard = b""
            if IMPORTED in heard or not heard:
                os.close(self._importing.pop(role))
                made.append(role)
        return made

    def sources(self) -> list[int]:
        """Descriptors that can be read when there is something new to hear of the trial's processes."""
        return [*self._open_ends, *self._importing.values()]

    def signals(self) -> list[bytes]:
        """The lines that the candidate has sent since the last call."""
        with contextlib.suppress(BlockingIOError):
            heard = os.read(self.control, PIPE)
            self._heard += heard
            self._open_ends -= set() if heard else {self.control}
        *lines, rest = self._heard.split(b"\n")
        self._heard = rest[-4096:]
        return lines

    def told(self) -> list[tuple[int, int]]:
        """What the evaluator has said since the last call: a process, and how many more answers that gave.

        0 answers: it is about to call the process.
        """
        with contextlib.suppress(OSError):
            told = self._turn.recv(4096)
            self._told += told
            self._open_ends -= set() if told else {self._turn.fileno()}
        found = []
        while self._told:
            size = ANSWERED.size if self._told[0] == MARK else 1
            if len(self._told) < size:
                break
            word, self._told = self._told[:size], self._told[size:]
            found.append(ANSWERED.unpack(word)[1:] if size > 1 else (word[0], 0))
        return found

    def _check_handed(self, handed: IO[bytes]) -> None:
        """Raise TrialEnded for a hand-over whose copy would take more memory than it does itself, or than it may."""
        about, limit = os.fstat(handed.fileno()), self.spec["memory_mb"]
        if limit and about.st_size > limit * 2**20:
            raise TrialEnded("over limit", f"it handed over {about.st_size >> 20:,} MB; the limit is {limit:,.0f} MB")
        if sys.platform == "linux" and about.st_size > about.st_blocks * 512:
            raise TrialEnded("crashed", "what it handed over has holes: no arrays were written there")

    def let_answer(self, role: str) -> None:
        """Let the evaluator call the process of a role. A clean one begins now, with what was handed over."""
        if process := self.answering.pop(role, None):
            assert self._handed
            self._check_handed(self._handed)
            process.hand(self._handed)
            if role in self.gates:
                self._open_gate(role)
            else:
                self.start(role, self.spec["command"], process.passed())
                process.close_calls()
            process.handed.close()
        with contextlib.suppress(OSError):  # an evaluator that exited is handled later
            self._turn.send(b"!")

    def output(self, role: str) -> str:
        """The output of a process that has exited."""
        self.logs[role].thread.join(timeout=1.0)
        return self.logs[role].text()

    def failed_setup(self) -> str:
        """What a sandbox said that could not be set up around one of the trial's processes; empty if all were."""
        ended = (role for role in self.logs if self.children.status(role) == 1)
        found = (failed_setup(self._place(role)["prefix"], self.output(role)) for role in ended)
        return next(filter(None, found), "")

    def start(
        self,
        role: str,
        argv: list[str],
        passed: Mapping[str, Sequence[int]] | None = None,
        waits: Mapping[str, str] | None = None,
    ) -> None:
        """Start the process of a role.

        ``passed``: descriptors that it inherits, by the variable that names them. ``waits``: the extra environment of
        one that waits at its gate; None if it should not.
        """
        place, env = self._place(role), self._environment(role)
        if role == "evaluator" and self.spec["gateways"]:
            self._open_gateways()
        fds = [fd for these in (passed or {}).values() for fd in these]
        env |= {name: ",".join(map(str, these)) for name, these in (passed or {}).items()}
        if waits is not None:
            gate, self.gates[role] = (end.detach() for end in socket.socketpair())
            fds.append(gate)
            env |= {**waits, "NIGHTLAB_GO": str(gate)}
        process = subprocess.Popen(
            [*place["prefix"], *argv],
            cwd=place["cwd"],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=fds,
            start_new_session=True,
            preexec_fn=lambda: before_exec(
                self.spec["processes"] + self.others,
                int(self.spec["disk_mb"] * 2**20),
                self.spec["slot"]["cores"],
                self.cgroup if role == "candidate" else None,
                YIELDS if self._yields(role) else 0,
            ),
        )
        assert process.stdout is not None
        if waits is not None:
            os.close(gate)
        self.children.roles[role] = process
        self.logs[role] = BoundedLog(self.folder / f"{role}.log", self.spec["log_bytes"], process.stdout)
        if waits is not None and self.dismissed is not None:
            self._wait_for_imports(role, self.dismissed)

    def _yields(self, role: str) -> bool:
        """Whether another trial may train beside this process, which then waits for a core that is idle."""
        return role != "candidate" and self.spec["yields"]

    def _open_gateways(self) -> None:
        """Answer the evaluator's requests to its model, for as long as this process lives."""
        from nightlab.sandbox.egress_proxy import EgressProxy, unix_socket  # 40 ms that few trials need

        for name in self.spec["keys"].values():
            if name not in os.environ:
                raise TrialEnded("crashed", f"the variable {name}, a key of its evaluator, is not set")
        keys = {stand_in: os.environ[name] for stand_in, name in self.spec["keys"].items()}
        EgressProxy(unix_socket(self.folder / PROXY), (), self.spec["gateways"], keys).open()

    def _environment(self, role: str) -> dict[str, str]:
        return {**self.spec["env"], **self._place(role)["env"], "NIGHTLAB_ROLE": role.rstrip(DIGITS)}

    def _place(self, role: str) -> dict[str, Any]:
        starts = self.spec["starts"]  # each answering process has a separate place; checks share one
        found: dict[str, Any] = starts.get(role) or starts[role.rstrip(DIGITS)]
        return found
