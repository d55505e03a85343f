#!/bin/sh
# pi-acp 0.0.34 with @earendil-works/pi-coding-agent 1.6.0, node 22.23.3 (November 2026).
# When the model's endpoint answers 429 once, pi tries again, and pi-acp writes notices of that into the agent's message
# (agent_message_chunk), without a break before or after the model's words, and ends with end_turn. So a client that
# reads the last line of the message gets neither the model's last line nor its first word.
# Seen (after the banner 'pi v1.6.0\n---\n', which is in the message too):
# 'Retrying (attempt 1/3, waiting 2s)...All is well.Retry finished, resuming.' end_turn
# Fails if that changes. Runs without nightlab; the endpoint is on loopback. Needs npm and python3.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder/home/.pi/agent" "$folder/work"
HOME="$folder/home" npm install --prefix "$folder" --no-audit --no-fund --loglevel=error \
  node@22.23.3 pi-acp@0.0.34 @earendil-works/pi-coding-agent@1.6.0 >/dev/null
PATH="$folder/node_modules/.bin:$PATH" python3 - "$folder" <<'PYTHON'
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

folder, asked = sys.argv[1], []


class Endpoint(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        asked.append(self.path)
        if len(asked) == 1:
            self.answer(429, "application/json", '{"error": {"message": "slow down"}}', ("retry-after", "1"))
            return
        chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m-1"}
        choices = [({"role": "assistant", "content": "All is well."}, None), ({}, "stop")]
        lines = [{**chunk, "choices": [{"index": 0, "delta": d, "finish_reason": f}]} for d, f in choices]
        body = "".join(f"data: {json.dumps(line)}\n\n" for line in lines) + "data: [DONE]\n\n"
        self.answer(200, "text/event-stream", body)

    def answer(self, status, kind, body, *more):
        self.send_response(status)
        for name, value in (("content-type", kind), ("content-length", str(len(body))), *more):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body.encode())


server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
threading.Thread(target=server.serve_forever, daemon=True).start()
model = {"id": "m-1", "contextWindow": 128000, "maxTokens": 8192}
ours = {"baseUrl": f"http://127.0.0.1:{server.server_port}/v1", "api": "openai-completions", "apiKey": "none"}
settings = {"models.json": {"providers": {"ours": {**ours, "models": [model]}}}}
settings["settings.json"] = {"defaultProvider": "ours", "defaultModel": "m-1"}
for name, content in settings.items():
    with open(f"{folder}/home/.pi/agent/{name}", "w") as file:
        json.dump(content, file)
env = {"HOME": f"{folder}/home", "PATH": os.environ["PATH"], "PI_OFFLINE": "1", "PI_SKIP_VERSION_CHECK": "1"}
pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
agent = subprocess.Popen(["pi-acp"], cwd=f"{folder}/work", env=env, text=True, **pipes)
said = []


def call(number, method, **params):
    message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
    print(json.dumps(message), file=agent.stdin, flush=True)
    for line in agent.stdout:
        heard = json.loads(line)
        if heard.get("id") == number and "method" not in heard:
            return heard["result"]
        update = heard.get("params", {}).get("update", {})
        if number == 3 and update.get("sessionUpdate") == "agent_message_chunk":
            said.append(update["content"]["text"])
    raise SystemExit("the agent ended")


call(1, "initialize", protocolVersion=1, clientCapabilities={})
session = call(2, "session/new", cwd=f"{folder}/work", mcpServers=[])["sessionId"]
stop = call(3, "session/prompt", sessionId=session, prompt=[{"type": "text", "text": "hello"}])["stopReason"]
agent.kill()
print(repr("".join(said)), stop)
assert len(asked) == 2 and stop == "end_turn", (asked, stop)
assert "...All is well.Retry finished" in "".join(said), said
PYTHON
