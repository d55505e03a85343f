"""A model's stand-in, to try the lab without one: an endpoint on this machine that answers by a few rules.

It sorts a message by the words in it, and is as good as the rules that its instructions contain. Start it in another
terminal: python stand_in.py
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORDS = {
    "refund": ("money", "refund", "payment", "charged", "cancel", "pay the difference", "return the"),
    "fault": ("broken", "crack", "stopped", "black", "leak", "burnt", "shorter"),
    "account": ("account", "log in", "password", "mail address"),
    "delivery": ("parcel", "courier", "tracking", "arrive", "order came", "bring it"),
}


def label(prompt, message):
    """What the stand-in takes a message for. It follows three rules, each where the prompt has it."""
    prompt, message = prompt.lower(), message.lower()
    order = ["fault", *WORDS] if "broken" in prompt else list(WORDS)  # which of two reasons counts
    for name in order:
        if any(word in message for word in WORDS[name]):
            return name
    return "other" if "anything else" in prompt else "delivery"


def answer(prompt, message):
    found = label(prompt, message)
    return found if "one word" in prompt.lower() else f"The message is about: {found}."


class Endpoint(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt, message = (part["content"] for part in asked["messages"])
        said = answer(prompt, message)
        tokens = len(f"{prompt} {message} {said}".split())
        told = {"choices": [{"message": {"role": "assistant", "content": said}, "finish_reason": "stop"}]}
        body = json.dumps({**told, "usage": {"total_tokens": tokens}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Nothing: a session asks thousands of times."""


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8765
    print(f"answers at http://127.0.0.1:{port}/v1", flush=True)
    ThreadingHTTPServer(("127.0.0.1", port), Endpoint).serve_forever()
