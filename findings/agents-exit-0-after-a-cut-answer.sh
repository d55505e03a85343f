#!/bin/sh
# @google/gemini-cli 0.61.0 and @earendil-works/pi-coding-agent 1.6.0, node 22.23.3 (November 2026).
# When the model's answer is cut at its limit of tokens (finishReason MAX_TOKENS, finish_reason "length"), both end with
# exit status 0, as after a whole answer, and print nothing that says so: gemini prints half the answer, pi nothing.
# Gemini CLI does the same after SAFETY; pi exits with 1 after "content_filter". So a program that starts an agent can't
# tell from its exit status that it finished.
# Seen: gemini MAX_TOKENS: exit 0, 'The answer is, because'
#       gemini SAFETY: exit 0, 'The answer is, because'
#       pi length: exit 0, ''
#       pi content_filter: exit 1, ''
# Fails if that changes. Runs without nightlab; the endpoint is on loopback. Needs npm and python3.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder/home/.pi/agent" "$folder/home/.gemini" "$folder/work"
HOME="$folder/home" npm install --prefix "$folder" --no-audit --no-fund --loglevel=error \
  node@22.23.3 @google/gemini-cli@0.61.0 @earendil-works/pi-coding-agent@1.6.0 >/dev/null
PATH="$folder/node_modules/.bin:$PATH" python3 - "$folder" <<'PYTHON'
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

folder, stop = sys.argv[1], ["stop"]
HALF = "The answer is, because"


class Endpoint(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        if "GenerateContent" in self.path:
            content = {"role": "model", "parts": [{"text": HALF}]}
            lines = [{"candidates": [{"content": content, "finishReason": stop[0], "index": 0}]}]
        else:
            chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m-1"}
            choices = [({"role": "assistant", "content": HALF}, None), ({}, stop[0])]
            lines = [{**chunk, "choices": [{"index": 0, "delta": d, "finish_reason": f}]} for d, f in choices]
        body = "".join(f"data: {json.dumps(line)}\n\n" for line in lines).encode()
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"
model = {"id": "m-1", "contextWindow": 128000, "maxTokens": 8192}
ours = {"baseUrl": f"{url}/v1", "api": "openai-completions", "apiKey": "none", "models": [model]}
settings = {
    ".pi/agent/models.json": {"providers": {"ours": ours}},
    ".gemini/settings.json": {
        "general": {"disableAutoUpdate": True},
        "privacy": {"usageStatisticsEnabled": False},
        "security": {"auth": {"selectedType": "gemini-api-key"}},
    },
}
for name, content in settings.items():
    with open(f"{folder}/home/{name}", "w") as file:
        json.dump(content, file)
env = {"HOME": f"{folder}/home", "PATH": os.environ["PATH"], "PI_OFFLINE": "1", "PI_SKIP_VERSION_CHECK": "1"}
env |= {"GEMINI_API_KEY": "none", "GEMINI_CLI_TRUST_WORKSPACE": "true", "GOOGLE_GEMINI_BASE_URL": url}
PROGRAMS = {
    "gemini": ["gemini", "-m", "gemini-2.5-pro", "-p", "hello"],
    "pi": ["pi", "--offline", "--mode", "text", "--no-session", "--provider", "ours", "--model", "m-1", "-p", "hello"],
}
seen = []
for name, reason in [("gemini", "MAX_TOKENS"), ("gemini", "SAFETY"), ("pi", "length"), ("pi", "content_filter")]:
    stop[0] = reason
    nothing = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    done = subprocess.run(PROGRAMS[name], cwd=f"{folder}/work", env=env, timeout=240, **nothing)
    seen.append((done.returncode, done.stdout.strip()))
    print(f"{name} {reason}: exit {done.returncode}, {done.stdout.strip()!r}")
assert seen == [(0, HALF), (0, HALF), (0, ""), (1, "")], seen
PYTHON
