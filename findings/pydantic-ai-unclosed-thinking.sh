#!/bin/sh
# pydantic-ai-slim 2.68.0, openai 3.57.0 (November 2026).
# A <think> in a chat completion that is not closed is dropped, and what follows it becomes text of the answer. So a
# thought that was broken off, as when a model runs out of room while it thinks, can't be told from an answer.
# With profile={"thinking_tags": ("\0", "\0")} the content stays as it was sent.
# Seen: '<think>A draft' -> text 'A draft'; with the profile -> text '<think>A draft'
# Fails if that changes. Runs without nightlab; the endpoint is on loopback.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'pydantic-ai-slim[openai]==2.68.0' 'openai==3.57.0'
"$folder/venv/bin/python" - <<'PYTHON'
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

SAID = "<think>A draft"


class Endpoint(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        choice = {"index": 0, "message": {"role": "assistant", "content": SAID}, "finish_reason": "stop"}
        body = json.dumps({"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())


server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
threading.Thread(target=server.serve_forever, daemon=True).start()
provider = OpenAIProvider(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="none")
seen = []
for profile in (None, {"thinking_tags": ("\0", "\0")}):
    response = Agent(OpenAIChatModel("m", provider=provider, profile=profile)).run_sync("hello").response
    seen.append(response.text)
    print(f"{SAID!r} with profile {profile} -> text {response.text!r}")
assert seen == ["A draft", SAID], seen
PYTHON
