"""Endpoints and programs that misbehave, through the real proxy: each a failed turn with a reason, and counted."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
from support.commands import EDIT, GOOD
from support.labs import CONTRACT
from support.processes import wait
from support.scripted_model import USAGE, Whole, serve

from nightlab.core.config import StopRules
from nightlab.core.events import ProposalRefused
from nightlab.core.observer import Observer
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.scheduler import Scheduler
from nightlab.proposers import NoProposal
from nightlab.sandbox.bubblewrap import Sandbox
from nightlab.session.session import Session, detect_sandbox

pytestmark = pytest.mark.integration

# Asks its endpoint as an agent does, and says that it is done only if the answer said so.
ASK = """
import json, os, socket, sys, urllib.request
def ask(url, *, streamed=True, words="do it"):
    for name in ("no_proxy", "NO_PROXY"): os.environ.pop(name, None)
    body = {"model": "m", "messages": [{"role": "user", "content": words}], "tools": [1], "stream": streamed}
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode())) as answer:
        return answer.read().decode(errors="replace")
"""
LAST = "HYPOTHESIS: a smaller A"
PASSES = "print('HYPOTHESIS: a smaller A' if 'HYPOTHESIS' in said else said, flush=True)\n"


def failed(turn: Callable[[], Any]) -> NoProposal:
    with pytest.raises(NoProposal) as failure:
        turn()
    assert "\n" not in str(failure.value)
    return failure.value


@contextlib.contextmanager
def raw_server(respond: Callable[[socket.socket, bytes], None]) -> Iterator[int]:
    """The port of a server that reads a first piece of each connection, and answers as ``respond`` does."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve_one(client: socket.socket) -> None:
            with client, contextlib.suppress(OSError):
                respond(client, client.recv(65536))

        def listen() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=serve_one, args=(server.accept()[0],), daemon=True).start()

        threading.Thread(target=listen, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


SENT = {
    "endless": (Whole(LAST, way="endless"), "it took longer than 2 s", "its answer had not ended"),
    "one byte a second": (Whole(LAST, way="slow"), "it took longer than 2 s", "its answer had not ended"),
    "breaks off": (Whole(LAST, way="broken"), "it failed with exit status 1", "its answer broke off"),
    "ends early": (Whole(LAST, way="early"), "it stopped before it was finished: no finish reason", ""),
    "is cut": (Whole(LAST, "content_filter"), "it stopped before it was finished: content_filter", ""),
}


@pytest.mark.parametrize(("step", "reason", "fault"), SENT.values(), ids=list(SENT))
def test_an_answer_that_does_not_end_well(
    proposer: Any, sandbox: Sandbox, step: Whole, reason: str, fault: str
) -> None:
    with serve(step) as model:
        host = model.url.removeprefix("http://").removesuffix("/v1")
        script = f"{ASK}{EDIT}said = ask('{model.url}/chat/completions')\n{PASSES}"
        failure = failed(proposer(script, sandbox, endpoints=[host], wall=2 if "2 s" in reason else 60))
    said = str(failure)
    assert said.startswith(reason) and (f"{host}: {fault}" if fault else "") in said
    assert "its edits are lost: -A = 4.0" in said
    assert failure.usage["requests"] == 1 and failure.usage["bytes_received"] > 0
    assert failure.usage.get("input_tokens", 0) == sum(taken for taken, _ in model.stated)


@pytest.mark.parametrize("way", ["gzip", "twice"])
def test_an_answer_in_an_unusual_shape_counts_once(proposer: Any, sandbox: Sandbox, way: Any) -> None:
    with serve(Whole(LAST, way=way)) as model:
        host = model.url.removeprefix("http://").removesuffix("/v1")
        script = f"{ASK}{GOOD}ask('{model.url}/chat/completions', streamed=False)\n"
        usage = proposer(script, sandbox, endpoints=[host])().usage
    assert (usage["requests"], usage["input_tokens"], usage["output_tokens"]) == (1, *USAGE)


@pytest.mark.parametrize(("edits", "status"), [("", 0), (EDIT, 1)], ids=["before an edit", "it fails after it"])
def test_a_program_whose_answer_was_cut_is_continued_once(
    proposer: Any, sandbox: Sandbox, edits: str, status: int
) -> None:
    with serve(Whole("Now I also", "length"), LAST) as model:
        host = model.url.removeprefix("http://").removesuffix("/v1")
        script = f"""{ASK}{edits}
if "HYPOTHESIS" not in (said := ask('{model.url}/chat/completions')): sys.exit({status})
{EDIT}{PASSES}"""
        proposal = proposer(script, sandbox, endpoints=[host])()
    assert "A = 2.0" in proposal.files["genome.py"] and proposal.usage["requests"] == 2
    assert proposal.usage["input_tokens"] == 2 * USAGE[0]


def http2_only(client: socket.socket, _: bytes) -> None:
    client.sendall(bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))  # its first frame, SETTINGS; then it waits for ours
    while client.recv(65536):
        pass


def test_an_endpoint_that_speaks_http2_alone(proposer: Any, sandbox: Sandbox) -> None:
    with raw_server(http2_only) as port:
        one = f"127.0.0.1:{port}"
        failure = failed(proposer(f"{ASK}{EDIT}ask('http://{one}/chat')", sandbox, endpoints=[one]))
        assert f"; {one}: it does not answer in HTTP/1.1; its edits are lost" in str(failure)


def test_http2_in_a_tunnel_is_only_counted(proposer: Any, sandbox: Sandbox) -> None:
    with raw_server(http2_only) as port:
        raw = f"""{ASK}{GOOD}
with socket.create_connection(("127.0.0.1", {port})) as tunnel:
    tunnel.sendall(b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n" + bytes(9))
    assert len(tunnel.makefile("rb").read(9)) == 9
"""
        usage = proposer(raw, sandbox, endpoints=[f"127.0.0.1:{port}"])().usage
    assert usage["sealed"] == 1 and usage["bytes_received"] == 9 and "input_tokens" not in usage


def company_proxy(answer: bytes, port: int = 0) -> Callable[[socket.socket, bytes], None]:
    """A proxy that answers a CONNECT with ``answer``, and connects to a port of this machine where it says 200."""

    def respond(client: socket.socket, asked: bytes) -> None:
        assert asked.startswith(b"CONNECT model.example:80 HTTP/1.1\r\n")
        client.sendall(answer)
        if b" 200 " in answer:
            with socket.create_connection(("127.0.0.1", port)) as outside:
                outside.sendall(client.recv(65536))
                while piece := outside.recv(65536):
                    client.sendall(piece)

    return respond


@pytest.mark.parametrize(
    ("answer", "endpoints", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", ["model.example:80"], ""),
        (b"HTTP/1.1 200 OK\r\n\r\n", [], ""),
        (b"HTTP/1.1 407 Login\r\n\r\n", [], "does not let it through to model.example:80: HTTP/1.1 407 Login"),
        (b"SSH-2.0-nothing of the kind\r\n\r\n", ["model.example:80"], "model.example:80: it can't be reached: "),
        (b"", ["model.example:80"], "model.example:80: it can't be reached: it disconnected"),
    ],
    ids=["lets through", "lets through to any endpoint", "wants a login", "is no proxy", "hangs up"],
)
def test_the_proxy_of_a_company_in_between(
    proposer: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, answer: bytes, endpoints: list[str], reason: str
) -> None:
    with serve(LAST) as model, raw_server(company_proxy(answer, int(model.url.split(":")[2][:-3]))) as port:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        script = f"{ASK}{EDIT}said = ask('http://model.example/v1/chat/completions')\n{PASSES}"
        turn = proposer(script, sandbox, endpoints=endpoints)
        if not reason:
            assert turn().usage["requests"] == 1 and model.stated == [USAGE]
        else:
            assert reason in str(failed(turn)) and not model.asked


def test_a_program_that_ignores_the_proxy(proposer: Any, sandbox: Sandbox) -> None:
    script = f"{ASK}{EDIT}socket.create_connection(('model.example', 443), 5)"
    said = str(failed(proposer(script, sandbox, endpoints=["model.example:443"])))
    assert said.startswith("it failed with exit status 1; last line of output: socket.gaierror")
    assert "; it sent nothing to the proxy in HTTPS_PROXY, its only way to the network; its edits" in said


@pytest.mark.parametrize("way", ["input()", "import time; time.sleep(600)"], ids=["reads", "waits"])
def test_a_program_that_wants_a_login_in_a_browser(proposer: Any, sandbox: Sandbox, way: str) -> None:
    script = f"import sys; sys.stdin.read(); print('Open https://login.example/x to log in', flush=True); {way}"
    said = str(failed(proposer(script, sandbox, endpoints=["model.example:443"], idle=2)))
    assert "last line of output: Open https://login.example/x to log in" in said or "EOFError" in said


DAEMON = """
import subprocess, sys
again = "import time, urllib.request\\nwhile True:\\n try: urllib.request.urlopen(sys.argv[1], b'{}')\\n" \\
    " except Exception: pass\\n time.sleep(0.05)"
subprocess.Popen([sys.executable, "-c", "import sys; " + again, URL], start_new_session=True, close_fds=False)
time.sleep(1)
"""


@pytest.mark.parametrize("last", ["print('and now')", ""], ids=["unfinished", "finished"])
def test_a_program_that_leaves_a_daemon(proposer: Any, sandbox: Sandbox, last: str) -> None:
    """It is ended with the turn, and what it sent is counted; it can't make up for words that are missing."""
    with serve(LAST) as model:
        host = model.url.removeprefix("http://").removesuffix("/v1")
        start = f"import time; URL = '{model.url}/{psutil.Process().pid}'\n{DAEMON}"
        turn = proposer(f"{start}{GOOD}{last}", sandbox, endpoints=[host])
        if last:
            failure = failed(turn)
            assert "it was not finished; last line: and now" in str(failure) and failure.usage["requests"] > 1
        else:
            assert turn().usage["requests"] > 1
        had = len(model.asked)
        assert not [p for p in psutil.process_iter(["cmdline"]) if f"{model.url}/" in " ".join(p.info["cmdline"] or [])]
        assert len(model.asked) == had


PARTS = {
    "endless": f"{ASK}{EDIT}ask('URL/v1/chat/completions')",
    "login": f"{EDIT}import time; print('Open https://login.example', flush=True); time.sleep(600)",
    "direct": f"{ASK}{EDIT}socket.create_connection(('192.0.2.1', 443), 5)",
    "good": GOOD,
}
PART = """
[[proposers]]
kind = "command"
name = "{name}"
command = "python {name}.py"
endpoints = ["{host}"]
wall = 3
"""


def test_the_session_goes_on(make_lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if not detect_sandbox().has_proxy:
        pytest.skip(detect_sandbox().why)
    with serve(Whole(LAST, way="endless")) as model:
        host = model.url.removeprefix("http://").removesuffix("/v1")
        files = {f"{name}.py": text.replace("URL", f"http://{host}") for name, text in PARTS.items()}
        contract = CONTRACT.split("[[proposers]]")[0] + "".join(PART.format(name=name, host=host) for name in PARTS)
        session = make_lab(contract=contract, files=files).session()
        night = ExperimentLoop(session, StopRules(), Scheduler(session, Observer()))

        def stop() -> None:
            looking = Session(session.repo, session.tag)
            wait(lambda: {one.proposer for one in looking.ledger.events(ProposalRefused)} >= set(PARTS) - {"good"})
            wait(lambda: not looking.ledger.unjudged() and looking.ledger.next_number() > 1)
            looking.close()
            night.scheduler.asked_to_stop = 1

        threading.Thread(target=stop, daemon=True).start()
        assert night.run() == "stopped by the user"
    refused = {one.proposer: one.reason for one in reversed(session.ledger.events(ProposalRefused))}  # the first ones
    assert f"{host}: its answer had not ended" in refused["endless"]
    assert "Open https://login.example" in refused["login"] and "sent nothing to the proxy" in refused["direct"]
    tried = session.ledger.experiments()[1:]
    assert [(e.candidate.proposer, e.kept) for e in tried] == [("good", True)]
    session.close()
