"""A model server of our own on loopback that says what a script tells it to, in the words of three APIs."""

from __future__ import annotations

import itertools
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USAGE = (1000, 50)


@dataclass(frozen=True)
class Fault:
    """An answer that is none: a status with headers, a pause before it, or a line that is cut."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    pause: float = 0.0
    hang_up: bool = False
    body: str = '{"error": {"message": "scripted"}}'


@dataclass(frozen=True)
class Call:
    """An answer that asks for a tool."""

    tool: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Whole:
    """Words with a finish reason of their own."""

    words: str
    stop: str | None


ChampionStep = str | Call | Fault | Whole


@dataclass
class ScriptedModel:
    """Each request takes the next of ``script``, the last one for ever; ``asked`` is what came.

    ``choose`` decides instead where there is one, from a request's path and body.
    """

    script: list[ChampionStep]
    choose: Callable[[str, dict[str, Any]], ChampionStep] | None = None
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)

    def next(self, headers: Any, path: str, body: dict[str, Any]) -> ChampionStep:
        step = self.choose(path, body) if self.choose else self.script[min(len(self.asked), len(self.script) - 1)]
        self.asked.append({"path": path, "headers": {k.lower(): v for k, v in headers.items()}, "body": body})
        return step

    def told(self, turn: int = -1) -> str:
        """All that a request told the model, as one text."""
        return json.dumps(self.asked[turn]["body"]["messages"])


def _answer(path: str, model: str, step: str | Call | Whole) -> dict[str, Any]:
    """An answer in the words of the API that the path is of; what a ``Whole`` says of its end is passed on."""
    answer = _said(path, model, step.words if isinstance(step, Whole) else step)
    if isinstance(step, Whole):
        if path.endswith("/messages"):
            answer["stop_reason"] = step.stop
        elif path.endswith("/responses"):
            answer |= {"status": "incomplete", "incomplete_details": {"reason": step.stop}}
        else:
            answer["choices"][0]["finish_reason"] = step.stop
    return answer


def _said(path: str, model: str, step: str | Call) -> dict[str, Any]:
    if path.endswith("/messages"):
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [{"type": "text", "text": step}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": USAGE[0], "output_tokens": USAGE[1]},
        }
    if path.endswith("/responses"):
        return _response(model, step)
    message: dict[str, Any] = {"role": "assistant", "content": step}
    if isinstance(step, Call):
        function = {"name": step.tool, "arguments": json.dumps(step.arguments)}
        message |= {"content": None, "tool_calls": [{"id": _new("call"), "type": "function", "function": function}]}
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [
            {"index": 0, "message": message, "finish_reason": "tool_calls" if isinstance(step, Call) else "stop"}
        ],
        "usage": {"prompt_tokens": USAGE[0], "completion_tokens": USAGE[1], "total_tokens": sum(USAGE)},
    }


def _response(model: str, step: str | Call) -> dict[str, Any]:
    """An answer in the words of OpenAI's newer API."""
    if isinstance(step, Call):
        item = {"type": "function_call", "id": _new("fc"), "call_id": _new("call"), "name": step.tool}
        item |= {"arguments": json.dumps(step.arguments), "status": "completed"}
    else:
        said = {"type": "output_text", "text": step, "annotations": []}
        item = {"type": "message", "id": _new("msg"), "role": "assistant", "status": "completed", "content": [said]}
    usage = {"input_tokens": USAGE[0], "output_tokens": USAGE[1], "total_tokens": sum(USAGE)}
    usage |= {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}  # type: ignore[dict-item]
    about = {"id": _new("resp"), "object": "response", "created_at": 1, "status": "completed", "model": model}
    return {**about, "output": [item], "usage": usage, "tools": [], "tool_choice": "auto", "error": None}


def _events(path: str, answer: dict[str, Any]) -> str:
    """An answer as a stream of server-sent events."""
    if path.endswith("/responses"):
        item = {"output_index": 0, "item": answer["output"][0]}
        told = [
            {"type": "response.created", "response": {**answer, "status": "in_progress", "output": [], "usage": None}},
            {"type": "response.output_item.added", **item},
            {"type": "response.output_item.done", **item},
            {"type": "response.completed", "response": answer},
        ]
        return "".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in told)
    choice = answer["choices"][0]
    delta = dict(choice["message"])
    delta |= {"tool_calls": [{"index": 0, **call} for call in delta["tool_calls"]]} if "tool_calls" in delta else {}
    chunk = {**answer, "object": "chat.completion.chunk"}
    usage = chunk.pop("usage")
    told = [
        {**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
        {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]},
        {**chunk, "choices": [], "usage": usage},
    ]
    return "".join(f"data: {json.dumps(one)}\n\n" for one in told) + "data: [DONE]\n\n"


def _new(kind: str) -> str:
    return f"{kind}_{next(_numbers)}"


_numbers = itertools.count(1)


@contextmanager
def serve(*script: ChampionStep, choose: Any = None, tls: ssl.SSLContext | None = None) -> Iterator[ScriptedModel]:
    """The server, while the block runs. Its url ends as an OpenAI base URL does."""
    model = ScriptedModel(list(script), choose)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            step = model.next(self.headers, self.path, body)
            fault = step if isinstance(step, Fault) else Fault()
            time.sleep(fault.pause)
            if fault.hang_up:
                self.close_connection = True
                self.connection.close()
                return
            kind = "application/json"
            if isinstance(step, Fault):
                text = step.body
            else:
                answer = _answer(self.path, body["model"], step)
                kind = "text/event-stream" if body.get("stream") else kind
                text = _events(self.path, answer) if body.get("stream") else json.dumps(answer)
            self.send_response(fault.status)
            for name, value in {"content-type": kind, **fault.headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
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
