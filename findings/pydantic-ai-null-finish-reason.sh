#!/bin/sh
# pydantic-ai-slim 2.68.0, openai 3.57.0 (November 2026).
# A chat completion with "finish_reason": null, which is how some servers return an answer that was broken off, is
# reported as ModelResponse.finish_reason == "stop", the reason of a whole answer; provider_details does not hold the
# original. A program that asks only response.finish_reason takes half an answer for a whole one.
# Seen: null -> finish_reason='stop' in details: False; "length" -> finish_reason='length' in details: True
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

reasons = [None, "length"]


class Endpoint(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        message = {"role": "assistant", "content": "Half an answer, which"}
        choice = {"index": 0, "message": message, "finish_reason": reasons[0]}
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
while reasons:
    response = Agent(OpenAIChatModel("m", provider=provider)).run_sync("hello").response
    detailed = "finish_reason" in (response.provider_details or {})
    seen.append((response.finish_reason, detailed))
    print(f"{json.dumps(reasons.pop(0))} -> finish_reason={response.finish_reason!r} in details: {detailed}")
assert seen == [("stop", False), ("length", True)], seen
PYTHON
