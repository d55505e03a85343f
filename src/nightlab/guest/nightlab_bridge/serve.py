"""The candidate's side: ``python -P -m nightlab_bridge.serve PROGRAM`` answers calls of the program's functions.

Each time the evaluator loads the program, a new process imports it, so that no run can remember another one in memory.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import types
from typing import Any

import nightlab_guest

from nightlab_bridge.load import load_module
from nightlab_bridge.values import NotPlain, decode, encode, pack, receive, send, unpack


def main(program: str) -> None:
    """Hand the program over, and answer until the evaluator hangs up."""
    trial = nightlab_guest.trial()
    if trial is None:
        sys.exit("nightlab runs this; by hand, run the problem's evaluator itself")
    trial.start()
    link = trial.link()
    children: dict[int, tuple[int, socket.socket]] = {}
    while True:
        ready, _, _ = select.select([link, *(end for _, end in children.values())], [], [])
        if link in ready:
            got = receive(link)
            if got is None:
                break
            number, request = got
            if not request:  # the evaluator has dropped this load
                _end(children.pop(number, None))
                continue
            if number not in children:
                children[number] = _start(program, link, children)
            send(children[number][1], number, request)
        for number, (_, end) in list(children.items()):
            if end in ready:
                answer = receive(end)
                if answer is None:
                    _end(children.pop(number))
                    answer = (number, encode({"fault": "the program's process ended without an answer"}))
                send(link, *answer)
    for child in children.values():
        _end(child)


def _start(
    program: str, link: socket.socket, others: dict[int, tuple[int, socket.socket]]
) -> tuple[int, socket.socket]:
    """A new process that imports the program and answers, and our end of the line to it."""
    ours, theirs = socket.socketpair()
    if child := os.fork():
        theirs.close()
        return child, ours
    status = 1
    try:
        for end in (ours, link, *(end for _, end in others.values())):
            end.close()
        os.setpgid(0, 0)
        _answer_all(program, theirs)
        status = 0
    finally:
        sys.stdout.flush()
        os._exit(status)


def _end(child: tuple[int, socket.socket] | None) -> None:
    if child:
        child[1].close()
        for kill in (os.killpg, os.kill):
            try:
                kill(child[0], signal.SIGKILL)
            except OSError:
                continue
        os.waitpid(child[0], 0)


def _answer_all(program: str, line: socket.socket) -> None:
    served = Served(program)
    while (got := receive(line)) is not None:
        number, request = got
        try:
            answer = encode(served.answer(decode(request)))
        except NotPlain as fault:
            answer = encode({"fault": str(fault)})
        send(line, number, answer)


class Served:
    """The program as a module, and the objects that were made of its classes."""

    def __init__(self, program: str) -> None:
        self.program = program
        self.objects: list[Any] = []
        self.module: Any = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request: a value, an exception of the program, or a fault. Raises NotPlain."""
        if "load" in request:
            return self._call(self._load)
        if "parameters" in request:
            return {"value": _parameters(getattr(self.module, request["parameters"]))}
        target = self.module if request.get("on") is None else self.objects[request["on"]]
        name = request["name"]
        args, kwargs = unpack([request["args"], request["kwargs"]])
        made = self._call(lambda: getattr(target, name)(*args, **kwargs))
        if "raised" in made:
            return made
        value = made["value"]
        if request.get("on") is None and isinstance(getattr(target, name), type):
            self.objects.append(value)
            return {"object": len(self.objects) - 1}
        try:
            return {"value": pack(value)}
        except NotPlain as fault:
            raise NotPlain(f"{name}(): {fault}") from None

    def _call(self, function: Any) -> dict[str, Any]:
        try:
            return {"value": function()}
        except BaseException as error:
            import traceback

            traceback.print_exc()
            return {"raised": [type(error).__name__, f"{error}"[:2000]]}

    def _load(self) -> dict[str, Any]:
        """Import the program; returns what it holds: functions, classes, plain values."""
        sys.path.insert(0, os.path.realpath(self.program).rpartition("/")[0])
        self.module = load_module(self.program, "program")
        return {name: found for name, value in vars(self.module).items() if (found := _member(name, value))}


def _member(name: str, value: Any) -> list[Any] | None:
    if name.startswith("__") or isinstance(value, types.ModuleType):
        return None
    if isinstance(value, type):
        return ["class", [n for n in dir(value) if not n.startswith("__") and callable(getattr(value, n, None))]]
    if callable(value):
        return ["function", None]
    try:
        return ["value", pack(value)]
    except (NotPlain, ImportError):
        return None


def _parameters(function: Any) -> list[list[Any]] | None:
    import inspect  # which few evaluators do, and takes longer to import than all else here

    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    return [[p.name, int(p.kind), p.default is not p.empty] for p in found]


if __name__ == "__main__":
    main(sys.argv[1])
