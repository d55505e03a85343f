"""A model server of our own on loopback that says what a script tells it to, in the words of two APIs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
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


@dataclass
class ScriptedModel:
    """Each request takes the next of ``script``, the last one for ever; ``asked`` is what came."""

    script: list[str | Fault]
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)

    def next(self, headers: Any, path: str, body: dict[str, Any]) -> str | Fault:
        step = self.script[min(len(self.asked), len(self.script) - 1)]
        self.asked.append({"path": path, "headers": {k.lower(): v for k, v in headers.items()}, "body": body})
        return step

    def told(self, turn: int = -1) -> str:
        """All that a request told the model, as one text."""
        return json.dumps(self.asked[turn]["body"]["messages"])


def _answer(path: str, model: str, text: str) -> dict[str, Any]:
    if path.endswith("/messages"):
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": USAGE[0], "output_tokens": USAGE[1]},
        }
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": USAGE[0], "completion_tokens": USAGE[1], "total_tokens": sum(USAGE)},
    }


@contextmanager
def serve(*script: str | Fault) -> Iterator[ScriptedModel]:
    """The server, while the block runs. Its url ends as an OpenAI base URL does."""
    model = ScriptedModel(list(script))

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
            text = fault.body if isinstance(step, Fault) else json.dumps(_answer(self.path, body["model"], step))
            self.send_response(fault.status)
            for name, value in {"content-type": "application/json", **fault.headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    model.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield model
    finally:
        server.shutdown()
        server.server_close()
