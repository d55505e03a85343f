"""Starts a trial's processes in their sandboxes, with pipes to each other and to the supervisor."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
from pathlib import Path
from typing import IO, Any

from nightlab.engines.local.bounded_log import BoundedLog
from nightlab.engines.local.cgroup import Cgroup
from nightlab.engines.local.child_setup import before_exec, shared_memory
from nightlab.engines.local.outcome import TrialEnded
from nightlab.engines.local.process_group import ProcessGroup


class Launch:
    """Starts the processes of the trial in ``folder`` by its ``spec``, and receives its candidate's signals.

    Processes started in advance wait at a gate (a socket) until ``go``.
    """

    def __init__(self, folder: Path, spec: dict[str, Any], children: ProcessGroup, cgroup: Cgroup | None) -> None:
        self.folder, self.spec, self.children, self.cgroup = folder, spec, children, cgroup
        self.logs: dict[str, BoundedLog] = {}
        self.gates: dict[str, int] = {}  # sockets of waiting processes, by role
        self.control, self._control_end = os.pipe()
        self._turn_end, self._turn = os.pipe()  # a byte lets the evaluator make its first call
        os.set_blocking(self.control, False)
        self._heard = b""

    def open(self, *, ahead: bool = False) -> None:
        """Start the candidate, and the evaluator if the model is served. ``ahead``: they wait for ``go``."""
        spec, served = self.spec, bool(self.spec["evaluator"] and self.spec["served"])
        ends: dict[str, socket.socket] = {}
        shared = shared_memory() if served else None
        if served:
            ends["candidate"], ends["evaluator"] = socket.socketpair()
        try:
            if served:
                # Started first: its imports overlap with the candidate's, and its CPU time is counted separately.
                self.start("evaluator", spec["evaluator"], ends["evaluator"], shared, ahead=ahead)
            if spec["command"]:
                self.children.start_clock()
                self.start("candidate", spec["command"], ends.get("candidate"), shared, ahead=ahead)
        finally:
            for end in ends.values():
                end.close()
            if shared:
                shared.close()
            os.close(self._control_end)
            os.close(self._turn_end)

    def ready(self) -> bool:
        """Wait until all processes started in advance are at their gates; False if one exited instead."""
        # Each reports from inside its sandbox, whose mounts were resolved by the folder's current name.
        return all(os.read(gate, 1) for gate in self.gates.values())

    def move(self, folder: Path, spec: dict[str, Any]) -> None:
        """Continue with a renamed folder, which is now a trial's, and its spec."""
        self.folder, self.spec = folder, spec
        for role, log in self.logs.items():
            log.path = folder / f"{role}.log"

    def go(self) -> None:
        """Tell the waiting processes what their trial is."""
        if any(self.children.status(role) is not None for role in self.gates):
            raise TrialEnded("lost", "a process that was started in advance ended before its trial began")
        for role, gate in self.gates.items():
            os.write(gate, json.dumps(self._environment(role)).encode() + b"\n")
            os.close(gate)

    def signals(self) -> list[bytes]:
        """The lines that the candidate has sent since the last call."""
        with contextlib.suppress(BlockingIOError):
            self._heard += os.read(self.control, 4096)
        *lines, rest = self._heard.split(b"\n")
        self._heard = rest[-4096:]
        return lines

    def let_evaluate(self) -> None:
        """Let the evaluator send inputs: the candidate has finished training."""
        with contextlib.suppress(BrokenPipeError):  # an evaluator that exited is handled later
            os.write(self._turn, b"!")

    def output(self, role: str) -> str:
        """The output of a process that has exited."""
        self.logs[role].thread.join(timeout=1.0)
        return self.logs[role].text()

    def start(
        self,
        role: str,
        argv: list[str],
        link: socket.socket | None = None,
        shared: IO[bytes] | None = None,
        *,
        ahead: bool = False,
    ) -> None:
        """Start the process of a role. ``link`` and ``shared`` connect a served candidate with its evaluator."""
        place, env = self._place(role), self._environment(role)
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
            [*place["prefix"], *argv],
            cwd=place["cwd"],
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
        self.logs[role] = BoundedLog(self.folder / f"{role}.log", self.spec["log_bytes"], process.stdout)

    def _environment(self, role: str) -> dict[str, str]:
        return {**self.spec["env"], **self._place(role)["env"], "NIGHTLAB_ROLE": role}

    def _place(self, role: str) -> dict[str, Any]:
        found: dict[str, Any] = self.spec["starts"][role.rstrip("0123456789")]
        return found
