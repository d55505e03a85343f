"""A model's endpoint on loopback that answers as a script tells it to, well or badly, and knows what it has stated."""

from __future__ import annotations

import contextlib
import gzip
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

from support import model_wire
from support.model_wire import USAGE, Call

__all__ = ["USAGE", "Call", "ChampionStep", "Fault", "ScriptedModel", "Whole", "serve"]
PAUSE = 1.0  # seconds between the bytes of a slow answer


@dataclass(frozen=True)
class Fault:
    """An answer that is none: a status with headers, a pause before it, or a line that is cut."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    pause: float = 0.0
    hang_up: bool = False
    body: str = '{"error": {"message": "scripted"}}'


@dataclass(frozen=True)
class Whole:
    """Words with a finish reason (True: the regular one), and the way in which they are sent.

    ``early``: the answer ends well-formed, before its finish reason; ``broken``: the connection breaks there;
    ``twice``: two answers in one body; ``endless``: a stream of words without an end; ``slow``: one byte a second.
    """

    words: str | Call
    stop: str | bool | None = True
    way: Literal["whole", "gzip", "early", "broken", "twice", "endless", "slow"] = "whole"


ChampionStep = str | Call | Fault | Whole


@dataclass
class ScriptedModel:
    """Each request takes the next of ``script``, the last one for ever; ``asked`` is what came.

    ``choose`` decides instead where there is one, from a request's path and body. ``stated``: the tokens in and out
    that each answer has stated.
    """

    script: list[ChampionStep]
    choose: Callable[[str, dict[str, Any]], ChampionStep] | None = None
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    stated: list[tuple[int, int]] = field(default_factory=list)

    def next(self, headers: Any, path: str, body: dict[str, Any]) -> ChampionStep:
        step = self.choose(path, body) if self.choose else self.script[min(len(self.asked), len(self.script) - 1)]
        self.asked.append({"path": path, "headers": {k.lower(): v for k, v in headers.items()}, "body": body})
        return step

    def told(self, turn: int = -1) -> str:
        """All that a request told the model, as one text."""
        return json.dumps(self.asked[turn]["body"]["messages"])


class Handler(BaseHTTPRequestHandler):
    """Answers one request after the other on a connection."""

    protocol_version = "HTTP/1.1"
    model: ScriptedModel

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        step = self.model.next(self.headers, self.path, body)
        with contextlib.suppress(OSError):  # whoever asked may be gone
            if isinstance(step, Fault):
                self._fail(step)
            else:
                self._answer(step if isinstance(step, Whole) else Whole(step), body)

    def _fail(self, fault: Fault) -> None:
        time.sleep(fault.pause)
        if fault.hang_up:
            self._break_off()
        else:
            self._send(fault.body.encode(), "application/json", fault.status, fault.headers)

    def _answer(self, step: Whole, body: dict[str, Any]) -> None:
        streamed, model = model_wire.is_streamed(self.path, body), body.get("model", "m-1")
        whole = json.dumps(answer := model_wire.answer(self.path, model, step.words, step.stop))
        told = model_wire.events(self.path, answer) if streamed else [(whole, USAGE)]
        if step.way in ("early", "broken", "endless"):
            cut = [(whole[: len(whole) // 2], (0, 0))]
            told = model_wire.unfinished(self.path, model, step.words) if streamed else cut
        text = "".join(event for event, _ in told) * (2 if step.way == "twice" else 1)
        self.model.stated.append((0, 0) if step.way == "slow" else told[-1][1])
        kind = "text/event-stream" if streamed else "application/json"
        if step.way in ("broken", "endless", "slow"):
            self._trickle(text.encode(), kind, step.way)
        elif step.way == "gzip":
            self._send(gzip.compress(text.encode()), kind, headers={"content-encoding": "gzip"})
        else:
            self._send(text.encode(), kind)

    def _trickle(self, content: bytes, kind: str, way: str) -> None:
        """Send an answer without a length: in slow pieces, for ever, or until it breaks."""
        self.send_response(200)
        for name, value in (("content-type", kind), ("transfer-encoding", "chunked")):
            self.send_header(name, value)
        self.end_headers()
        for piece in [content[n : n + 1] for n in range(len(content))] if way == "slow" else [content]:
            self._chunk(piece)
            time.sleep(PAUSE if way == "slow" else 0)
        while way == "endless":
            self._chunk(model_wire.words(self.path, "and ").encode())
            time.sleep(0.01)
        if way == "broken":
            self._break_off()
        else:
            self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, piece: bytes) -> None:
        self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        self.wfile.flush()

    def _break_off(self) -> None:
        self.close_connection = True
        self.connection.close()

    def _send(self, content: bytes, kind: str, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"content-type": kind, **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def serve(*script: ChampionStep, choose: Any = None, tls: ssl.SSLContext | None = None) -> Iterator[ScriptedModel]:
    """The server, while the block runs. Its url ends as an OpenAI base URL does."""
    model = ScriptedModel(list(script), choose)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Ours", (Handler,), {"model": model}))
    server.daemon_threads = True
    if tls:  # the handshake is the handler's, who may fail at it without the others
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    model.url = f"{'https://localhost' if tls else 'http://127.0.0.1'}:{server.server_port}/v1"
    try:
        yield model
    finally:
        server.shutdown()
        server.server_close()
