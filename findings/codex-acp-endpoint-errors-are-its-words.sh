#!/bin/sh
# @agentclientprotocol/codex-acp 2.6.0 (with the @openai/codex 0.166 that it depends on), node 22.23.3 (November 2026).
# When its model's endpoint answers 400, the adapter sends the endpoint's error as the text of an agent's message, in the
# same kind of update as the model's words and a warning of its own, and ends the turn with the stop reason `end_turn`.
# A client of the Agent Client Protocol can't tell that from a turn whose model wrote these words.
# Seen: 400: end_turn, says 'Warning: Model metadata for `m-1` not found. Defaulting to fallback metadata; this can
#       degrade performance and cause issues.\n\n{"error": {"message": "a bad request", "type": "an_error"}}'
# Fails if that changes. Runs without nightlab; the endpoint is on loopback. Needs npm and python3.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder/home/.codex" "$folder/work"
HOME="$folder/home" npm install --prefix "$folder" --no-audit --no-fund --loglevel=error \
  node@22.23.3 @agentclientprotocol/codex-acp@2.6.0 >/dev/null
PATH="$folder/node_modules/.bin:$PATH" python3 - "$folder" <<'PYTHON'
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

folder = sys.argv[1]
ERROR = json.dumps({"error": {"message": "a bad request", "type": "an_error"}})


class Endpoint(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(400)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(ERROR)))
        self.end_headers()
        self.wfile.write(ERROR.encode())


server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
threading.Thread(target=server.serve_forever, daemon=True).start()
with open(f"{folder}/home/.codex/config.toml", "w") as file:
    file.write(f"""
model = "m-1"
model_provider = "ours"
check_for_update_on_startup = false
[model_providers.ours]
name = "ours"
base_url = "http://127.0.0.1:{server.server_port}/v1"
wire_api = "responses"
env_key = "KEY"
request_max_retries = 0
stream_max_retries = 0
""")
env = {"HOME": f"{folder}/home", "PATH": os.environ["PATH"], "KEY": "none", "NO_BROWSER": "1", "MODEL_PROVIDER": "ours"}
pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "start_new_session": True}
agent = subprocess.Popen(["codex-acp"], cwd=f"{folder}/work", env=env, **pipes)
limit = threading.Timer(240, agent.kill)
limit.start()
words = []


def ask(number, method, **params):
    """The result of a request; what the agent says meanwhile is kept."""
    agent.stdin.write(json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}) + "\n")
    agent.stdin.flush()
    for line in agent.stdout:
        message = json.loads(line)
        if message.get("id") == number and "method" not in message:
            return message.get("result") or message
        update = message.get("params", {}).get("update", {})
        if update.get("sessionUpdate") == "agent_message_chunk":
            words.append(update["content"]["text"])


ask(1, "initialize", protocolVersion=1, clientCapabilities={}, clientInfo={"name": "a-client", "version": "1"})
session = ask(2, "session/new", cwd=f"{folder}/work", mcpServers=[])["sessionId"]
done = ask(3, "session/prompt", sessionId=session, prompt=[{"type": "text", "text": "hello"}])
agent.stdin.close()
agent.wait()
limit.cancel()
with contextlib.suppress(ProcessLookupError):
    os.killpg(agent.pid, signal.SIGKILL)
said = "".join(words).strip()
print(f"400: {done.get('stopReason')}, says {said!r}")
assert done.get("stopReason") == "end_turn" and said.startswith("Warning: ") and said.endswith(f"\n\n{ERROR}"), (done, said)
PYTHON
