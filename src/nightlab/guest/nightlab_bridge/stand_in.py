"""The evaluator's side: a module in the program's place, whose functions the candidate's process answers."""

from __future__ import annotations

import builtins
import socket
import threading
from typing import TYPE_CHECKING, Any, NoReturn

from nightlab_bridge.values import NotPlain, Records, decode, encode, pack, receive, send, unpack

if TYPE_CHECKING:
    import inspect
    from pathlib import Path

LOADS = 0  # the frame's number is given by the relay, not here
SOURCE = '''\
"""Stands in for {name}, whose functions are answered by the candidate's process."""
import sys as _sys
if {guest!r} not in _sys.path:
    _sys.path.append({guest!r})
from nightlab_bridge.stand_in import load as _load
_members, __getattr__ = _load({address!r}, {name!r})
globals().update(_members)
'''


def write_stand_in(path: Path, address: str) -> None:
    """Put the stand-in in the place of the program at ``path``; it connects to the socket ``address`` when imported."""
    path.unlink(missing_ok=True)
    guest = __file__.rsplit("/", 2)[0]
    path.write_text(SOURCE.format(name=path.name, guest=guest, address=address), encoding="utf-8")


def load(address: str, name: str) -> tuple[dict[str, Any], Any]:
    """Load the program anew in the candidate's process: its members, and a function for what it does not have."""
    program = Program(address)
    members = {key: program.member(key, *found) for key, found in program.ask({"load": 1}).items()}

    def missing(key: str) -> Any:
        raise AttributeError(f"{name} has no function, class or plain value {key!r}")

    return members, missing


class Program:
    """One load of the program: a connection to the process that imported it."""

    def __init__(self, address: str) -> None:
        self.link = socket.socket(socket.AF_UNIX)
        self.link.connect(address)
        self.lock, self.records = threading.RLock(), Records()

    def ask(self, request: dict[str, Any]) -> Any:
        """The value that answers a request. Raises the program's exception; RuntimeError for an invalid answer."""
        with self.lock:
            try:
                send(self.link, LOADS, encode(request))
                got = receive(self.link)
                if got is None:
                    raise RuntimeError("the candidate's process does not answer any more")
                answer = decode(got[1])
                if "value" in answer:
                    value = answer["value"]
                    return unpack(value, self.records.all) if "name" in request else value
                if isinstance(answer.get("object"), int):
                    return answer["object"]
                kind, said = map(str, answer["raised"]) if "raised" in answer else ("", str(answer.get("fault")))
            except (NotPlain, KeyError, ValueError, TypeError) as fault:
                self._give_up(str(fault))
        known = getattr(builtins, kind, None)
        if isinstance(known, type) and issubclass(known, Exception):
            raise known(said)
        raise RuntimeError(f"{kind}: {said}" if kind else said)

    def call(self, name: str, args: Any, kwargs: Any, on: int | None = None) -> Any:
        with self.lock:  # one call at a time: no other's records are numbered meanwhile, nor forgotten
            self.records.trim()
            try:
                request = {"name": name, "on": on, "args": pack(list(args), self.records)}
                request["kwargs"] = pack(kwargs, self.records)
            except NotPlain as fault:
                self._give_up(f"an argument of {name}(): {fault}")
            return self.ask(request)

    def _give_up(self, fault: str) -> NoReturn:
        send(self.link, LOADS, encode({"fault": fault[:500]}))  # the relay makes a crash of it, whatever happens here
        raise RuntimeError(fault)

    def member(self, name: str, kind: str, about: Any) -> Any:
        """A stand-in for one of the program's functions or classes, or one of its values."""
        if kind == "value":
            return unpack(about, self.records.all)
        return self._function(name) if kind == "function" else self._class(name, [str(n) for n in about])

    def _function(self, name: str) -> Any:
        def function(*args: Any, **kwargs: Any) -> Any:
            return self.call(name, args, kwargs)

        function.__name__ = function.__qualname__ = name
        function.__wrapped__ = Signed(self, name)  # type: ignore[attr-defined]
        return function

    def _class(self, name: str, methods: list[str]) -> Any:
        program = self

        def init(self: Any, *args: Any, **kwargs: Any) -> None:
            self._number = program.call(name, args, kwargs)

        def method(called: str) -> Any:
            return lambda self, *args, **kwargs: program.call(called, args, kwargs, self._number)

        members = {called: method(called) for called in methods}
        return type(name, (), {**members, "__init__": init, "__call__": method("__call__")})


class Signed:
    """What ``inspect`` looks at for the signature of a function, which the program is asked for only then."""

    def __init__(self, program: Program, name: str) -> None:
        self.program, self.name = program, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.program.call(self.name, args, kwargs)

    @property
    def __signature__(self) -> inspect.Signature | None:
        return _signature(self.program.ask({"parameters": self.name}))


def _signature(about: Any) -> inspect.Signature | None:
    import inspect

    empty = inspect.Parameter.empty
    try:
        parameters = [
            inspect.Parameter(str(name), inspect._ParameterKind(kind), default=None if default else empty)
            for name, kind, default in about
        ]
        return inspect.Signature(parameters)
    except (TypeError, ValueError):
        return None
