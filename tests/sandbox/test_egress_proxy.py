"""A proposer that is held to its endpoints: real programs in a real sandbox, real servers, and ways around the door."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.commands import GOOD, failure, part
from support.labs import CONTRACT
from support.scripted_model import serve

from nightlab.core.config import CommandConfig, parse
from nightlab.sandbox.bubblewrap import NoSandbox, Sandbox
from nightlab.sandbox.egress_inside import parse_endpoint
from nightlab.sandbox.macos import SandboxExec
from nightlab.session.preflight import held
from nightlab.ui.terminal.log import turn_words


@pytest.fixture
def other() -> Iterator[ThreadingHTTPServer]:
    """A server that nobody is allowed to reach; ``asked`` is who did."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked.append(self.path)  # type: ignore[attr-defined]
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


ASK = """
import json, os, socket, urllib.request
def ask(url, *, proxied=True):
    if proxied:
        for name in ("no_proxy", "NO_PROXY"): os.environ.pop(name, None)
    body = json.dumps({"model": "m", "messages": []}).encode()
    with urllib.request.urlopen(urllib.request.Request(url, body), timeout=200) as answer:
        return answer.read().decode()
def refused(what):
    try: what()
    except OSError as error: return str(error)
    raise SystemExit("it was let through")
"""


def test_it_reaches_its_endpoint_with_and_without_knowing_of_a_proxy(proposer: Any, sandbox: Sandbox) -> None:
    with serve("hello") as model:
        port = model.url.split(":")[-1].removesuffix("/v1")
        url = f"{model.url}/chat/completions"
        script = f"""{ASK}
assert "hello" in ask({url!r}, proxied=False) and "hello" in ask({url!r})
# And a tunnel, which is what all take to an endpoint that speaks TLS.
import http.client
proxy = os.environ["HTTPS_PROXY"].removeprefix("http://")
tunnel = http.client.HTTPConnection(proxy, timeout=200)
tunnel.set_tunnel("127.0.0.1", {port})
for _ in range(2):
    tunnel.request("POST", "/v1/chat/completions", json.dumps({{"model": "m", "messages": []}}))
    assert "hello" in tunnel.getresponse().read().decode()
{GOOD}"""
        assert proposer(script, sandbox, endpoints=[f"127.0.0.1:{port}"])().files
        assert len(model.asked) == 4


def test_it_speaks_tls_through_the_door_with_an_authority_of_yours(
    proposer: Any,
    sandbox: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The door sees no more than the name; the certificate is checked by the program, against a file that is named."""
    ours, key = tmp_path / "ca" / "ours.pem", tmp_path / "key.pem"
    ours.parent.mkdir()
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    words += ["-subj", "/CN=a model", "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(ours)]
    if shutil.which("openssl") is None or subprocess.run(["openssl", *words], capture_output=True).returncode:
        pytest.skip("needs openssl")
    tmp_path.chmod(0o755)
    monkeypatch.setenv("SSL_CERT_FILE", str(ours))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ours, key)
    with serve("hello", tls=context) as model, serve("another", tls=context) as other:
        url = f"{model.url}/chat/completions"
        script = f"""{ASK}
assert "hello" in ask({url!r})
assert "CERTIFICATE_VERIFY_FAILED" in refused(lambda: ask({url.replace("localhost", "127.0.0.1")!r}))
assert "403" in refused(lambda: ask({other.url!r}))
json.dump({{"input_tokens": 5}}, open("nightlab-usage.json", "w"))
{GOOD}"""
        port = model.url.split(":")[-1].removesuffix("/v1")
        named = {"environment": ["SSL_CERT_FILE"], "files": [str(ours.parent)]}
        both = [f"localhost:{port}", f"127.0.0.1:{port}"]
        usage = proposer(script, sandbox, endpoints=both, **named)().usage
        assert len(model.asked) == 1 and not other.asked
    assert usage["sealed"] == 2 and usage["requests"] and usage["bytes_received"] > 100
    assert "5 tokens in, 0 out (the proposer's own count)" in turn_words(usage)


def test_it_reaches_nothing_else(proposer: Any, sandbox: Sandbox, other: Any) -> None:
    port, here = other.server_port, socket.gethostbyname(socket.gethostname())
    with serve("hello") as model:
        allowed = model.url.removeprefix("http://").removesuffix("/v1")
        script = f"""{ASK}
assert "403" in refused(lambda: ask("http://127.0.0.1:{port}/by-proxy"))
assert "403" in refused(lambda: ask("http://evil.example/"))
assert "403" in refused(lambda: ask("http://{allowed.split(":")[0]}.:{port}/"))
for where in ("127.0.0.1", "localhost", {here!r}, "0.0.0.0"):
    refused(lambda: socket.create_connection((where, {port}), 5))
refused(lambda: socket.create_connection(("192.0.2.1", 443), 5))
refused(lambda: socket.getaddrinfo("example.com", 443))
# A request inside an allowed one is still for another place.
proxy = os.environ["HTTP_PROXY"].split("/")[-1].split(":")
with socket.create_connection((proxy[0], int(proxy[1]))) as raw:
    raw.sendall(b"GET http://{allowed}/ HTTP/1.1\\r\\nConnection: keep-alive\\r\\n\\r\\n"
                b"GET http://127.0.0.1:{port}/smuggled HTTP/1.1\\r\\n\\r\\n")
    raw.settimeout(5)
    while raw.recv(65536): pass
for nonsense in (b"\\r\\n\\r\\n", b"CONNECT  HTTP/1.1\\r\\n\\r\\n", b"CONNECT a@127.0.0.1:{port} HTTP/1.1\\r\\n\\r\\n",
                 b"GET /no-address HTTP/1.1\\r\\n\\r\\n", b"x" * 100_000):
    with socket.create_connection((proxy[0], int(proxy[1]))) as raw:
        raw.settimeout(20)
        raw.sendall(nonsense)
        raw.shutdown(socket.SHUT_WR)
        assert b" 40" in (said := raw.recv(100)) or b" 50" in said, said
raise SystemExit("done")
"""
        said = failure(proposer(script, sandbox, endpoints=[allowed]))
    assert said.startswith(f"it tried to reach 127.0.0.1:{port}, evil.example:80") and said.endswith(
        "last line of output: done"
    ), said
    assert other.asked == []


def test_no_proxy_and_no_socket_is_left(proposer: Any, sandbox: Sandbox, tmp_path: Path) -> None:
    script = (
        GOOD + "import os, sys; os.write(1, f\"HYPOTHESIS: {os.environ['HTTP_PROXY']}\".encode()); sys.stdout.flush()"
    )
    turn = proposer(script, sandbox, endpoints=["api.example.com:443"])
    before = set(psutil.Process().children(recursive=True))  # what other tests of this process left
    proposal = turn()
    left = {path.name for path in (tmp_path / "place" / "a").iterdir()}
    assert left == {"briefing.md", "output.log"}
    assert set(psutil.Process().children(recursive=True)) <= before
    with pytest.raises(OSError):  # it was on the sandbox's own loopback
        urllib.request.urlopen(proposal.hypothesis, timeout=5)


@pytest.mark.parametrize(("end", "status"), [("raise SystemExit(7)", "7"), ("os.kill(os.getpid(), 9)", "137")])
def test_how_a_program_ends_passes_through_the_door(proposer: Any, sandbox: Sandbox, end: str, status: str) -> None:
    said = failure(proposer(f"import os; {end}", sandbox, endpoints=["api.example.com:443"]))
    assert f"exit status {status};" in said


def test_the_door_says_nothing_of_its_own(proposer: Any, sandbox: Sandbox) -> None:
    with serve("hello") as model:
        allowed = model.url.removeprefix("http://").removesuffix("/v1")
        script = f"""{ASK}{GOOD}
import subprocess, time
held = [socket.create_connection(("127.0.0.1", {allowed.split(":")[1]})) for _ in range(3)]
for one in held: os.set_inheritable(one.fileno(), True)
subprocess.Popen(["sleep", "60"], close_fds=False)
time.sleep(0.5)
held[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\\1\\0\\0\\0\\0\\0\\0\\0")
print("HYPOTHESIS: my last words", flush=True)
"""
        assert proposer(script, sandbox, endpoints=[allowed])().hypothesis == "my last words"


def test_many_connections_at_once_do_not_wear_the_door_out(proposer: Any, sandbox: Sandbox) -> None:
    with serve("hello") as model:
        allowed = model.url.removeprefix("http://").removesuffix("/v1")
        script = f"""{ASK}
many = []
for _ in range(400):
    many.append(socket.create_connection(("127.0.0.1", {allowed.split(":")[1]}), 200))
for one in many: one.close()
import time; time.sleep(1)
assert "hello" in ask("{model.url}/chat/completions", proxied=False)
{GOOD}"""
        assert proposer(script, sandbox, endpoints=[allowed])().files


def test_where_the_network_may_be_missing_anyway_endpoints_change_nothing(proposer: Any) -> None:
    assert proposer(GOOD, NoSandbox(), endpoints=["api.example.com:443"])().files


def test_where_there_are_no_doors_it_has_no_turn(proposer: Any) -> None:
    said = failure(proposer(GOOD, SandboxExec([]), endpoints=["api.example.com:443"]))
    assert said == "sandbox-exec can't restrict it to its endpoints; remove them to allow any network"


def test_check_says_what_a_proposer_may_reach(make_lab: Any, nightlab: Any) -> None:
    one = part(name="one") + 'endpoints = ["api.example.com:443"]\n'
    lab = make_lab(contract=CONTRACT.format(proposer="patches") + one + part(name="two"))
    out = nightlab("check", cwd=lab).out
    assert "one runs in the sandbox of a trial, but may reach only api.example.com:443" in out
    assert "two runs in the sandbox of a trial, but has the network (no endpoints named)" in out
    contract = parse(CONTRACT.format(proposer="patches") + one + part(name="two"))
    assert ["can't run here" in c.what for c in held(SandboxExec([]), contract)] == [True]
    assert ["reaches the whole network" in c.what for c in held(NoSandbox(), contract)] == [True]


@pytest.mark.parametrize("endpoint", ["https://api.example.com", "api.example.com", "a:b", "a/b:1", ":443", "a:1 b:2"])
def test_an_endpoint_is_a_host_and_a_port(endpoint: str) -> None:
    with pytest.raises(ValueError, match="is no host:port such as"):
        CommandConfig(kind="command", command="x", endpoints=[endpoint])


def test_endpoints_are_compared_in_one_form() -> None:
    assert parse_endpoint("API.Example.com.:443") == ("api.example.com", 443)
    assert parse_endpoint("[::1]:80") == ("::1", 80) and parse_endpoint("host", 80) == ("host", 80)
    for wrong in ("", ":1", "a@b:1", "a:99999", "a:1/x", "a:1?x"):
        with pytest.raises(ValueError):
            parse_endpoint(wrong)
