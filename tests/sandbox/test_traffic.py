"""What passes the egress proxy is counted as the endpoint states it, and capped: a scripted endpoint, raw requests."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from nightlab.proposers.counted import caps_of, counted_usage
from nightlab.sandbox.answers import AnswerReader
from nightlab.sandbox.egress_proxy import EgressProxy, loopback_socket
from nightlab.sandbox.traffic import MOST_REPEATS, Traffic, TrafficCaps, TrafficReport, report_of

CHAT = {"model": "m", "choices": [{"finish_reason": "stop"}], "usage": {"prompt_tokens": 100, "completion_tokens": 7}}
ANTHROPIC = {"model": "m", "stop_reason": "end_turn", "usage": {"input_tokens": 90, "output_tokens": 7}}
ANTHROPIC["usage"] |= {"cache_read_input_tokens": 6, "cache_creation_input_tokens": 4}  # type: ignore[index,operator]
RESPONSES = {
    "object": "response",
    "status": "completed",
    "model": "m",
    "usage": {"input_tokens": 100, "output_tokens": 7},
}
COUNTS = {"promptTokenCount": 100, "candidatesTokenCount": 4, "thoughtsTokenCount": 3}
GEMINI = {"modelVersion": "m", "candidates": [{"finishReason": "STOP"}], "usageMetadata": COUNTS}


def events(*data: dict[str, Any]) -> bytes:
    return "".join(f"event: x\ndata: {json.dumps(one)}\n\n" for one in data).encode() + b"data: [DONE]\n\n"


ANSWERS = {
    "chat": json.dumps(CHAT, indent=1).encode(),
    "chat, streamed": events(
        {"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": None}, {**CHAT, "choices": []}
    ),
    "anthropic": json.dumps(ANTHROPIC).encode(),
    "anthropic, streamed": events(
        {
            "type": "message_start",
            "message": {**ANTHROPIC, "stop_reason": None, "usage": {"input_tokens": 100, "output_tokens": 1}},
        },
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}},
    ),
    "responses": json.dumps(RESPONSES).encode(),
    "responses, streamed": events({"type": "response.created", "response": {"usage": None}}, {"response": RESPONSES}),
    "gemini": json.dumps(GEMINI).encode(),
    "gemini, streamed": events({**GEMINI, "usageMetadata": {"promptTokenCount": 100}}, GEMINI),
    "gemini, as a list": json.dumps([{**GEMINI, "usageMetadata": {"promptTokenCount": 100}}, GEMINI]).encode(),
}


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("body", ANSWERS.values(), ids=list(ANSWERS))
def test_an_answer_is_read_in_all_apis_however_it_is_cut_up(body: bytes, size: int) -> None:
    answer = AnswerReader()
    for at in range(0, len(body), size):
        answer.feed(body[at : at + size])
    answer.end()
    assert (answer.input_tokens, answer.output_tokens, answer.model) == (100, 7, "m")
    assert answer.stop in ("stop", "end_turn", "completed") and not answer.error


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"{", b"[1, null]", b'{"usage": {"input_tokens": -1}}', b"data: {\n\n"]
)
def test_what_is_no_answer_says_nothing(body: bytes) -> None:
    answer = AnswerReader()
    answer.feed(body)
    answer.end()
    assert answer.input_tokens is None and not answer.stop and not answer.error


# -- through the proxy ---------------------------------------------------------------------------------

Respond = Callable[[socket.socket, int], None]


@contextmanager
def door(respond: Respond, caps: TrafficCaps | None = None) -> Iterator[tuple[Callable[[str], bytes], Traffic]]:
    """A proxy before an endpoint that answers each request as ``respond`` does; what asks it, and its traffic."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            for number in range(1000):
                try:
                    client = server.accept()[0]
                except OSError:
                    return
                with client:
                    head = b""
                    while b"\r\n\r\n" not in head or not head.endswith(b"}"):
                        head += client.recv(65536)
                    heads.append(head)
                    respond(client, number)

        threading.Thread(target=listen, daemon=True).start()
        listening = loopback_socket()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/base"
        proxy = EgressProxy(listening, (), [url], {"stands-for-it": "sk-key"}, caps)
        proxy.open()
        at = f"http://127.0.0.1:{listening.getsockname()[1]}/nightlab-gateway/0/v1/messages"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        heads: list[bytes] = []

        def ask(words: str) -> bytes:
            body = json.dumps({"messages": [words], "tools": [1]}).encode()
            headers = {"x-api-key": "stands-for-it", "accept-encoding": "br, gzip"}
            with opener.open(urllib.request.Request(at, body, headers), timeout=60) as answer:
                return bytes(answer.read())

        ask.heads = heads  # type: ignore[attr-defined]
        try:
            yield ask, proxy.traffic
        finally:
            proxy.close()
            server.shutdown(socket.SHUT_RDWR)


def refused(ask: Callable[[str], bytes], words: str) -> None:
    with pytest.raises(urllib.error.HTTPError):
        ask(words)


def says(body: bytes, status: str = "200 OK", more: str = "") -> Respond:
    head = f"HTTP/1.1 {status}\r\n{more}Content-Length: {len(body)}\r\n\r\n".encode()
    return lambda client, _: client.sendall(head + body)


def chunked(client: socket.socket, _: int) -> None:
    body = gzip.compress(ANSWERS["chat, streamed"])
    client.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n")
    for at in range(0, len(body), 11):
        client.sendall(f"{len(body[at : at + 11]):x}\r\n".encode() + body[at : at + 11] + b"\r\n")
    client.sendall(b"0\r\n\r\n")


def test_the_key_stays_outside_and_the_answer_comes_through() -> None:
    with door(chunked) as (ask, traffic):
        assert gzip.decompress(ask("hello")) == ANSWERS["chat, streamed"]
        assert b"sk-key" in ask.heads[0] and b"/base/v1/messages" in ask.heads[0]  # type: ignore[attr-defined]
        assert b"ncoding: gzip" in ask.heads[0] and b"br" not in ask.heads[0].split(b"\r\n\r\n")[0]  # type: ignore[attr-defined]
    counts = traffic.record()
    assert counts.pop("bytes_sent") > 100 and counts.pop("bytes_received") > 50
    assert counts == {"requests": 1, "input_tokens": 100, "output_tokens": 7, "model": "m"}


@pytest.mark.parametrize(
    ("caps", "number", "reason"),
    [
        (TrafficCaps(requests=2), 2, "it sent more than 2 requests, its cap"),
        (TrafficCaps(tokens=200), 2, "it took 214 tokens, of a cap of 200"),
        (TrafficCaps(money=0.01, price=(50.0, 100.0)), 2, "it cost $0.0114, of a cap of $0.0100"),
    ],
    ids=["requests", "tokens", "dollars"],
)
def test_a_cap_ends_a_turn_within_one_request(caps: TrafficCaps, number: int, reason: str) -> None:
    with door(says(ANSWERS["chat"]), caps) as (ask, traffic):
        with pytest.raises((urllib.error.HTTPError, OSError)):
            for n in range(9):
                ask(f"question {n}")
        assert traffic.ended == reason and len(ask.heads) == number  # type: ignore[attr-defined]


def test_the_same_request_again_and_again_ends_a_turn() -> None:
    with door(says(b'{"error": {"message": "busy"}}', "500 No")) as (ask, traffic):
        for _ in range(MOST_REPEATS + 1):
            with pytest.raises(urllib.error.HTTPError):
                ask("the same")
    assert traffic.requests == MOST_REPEATS + 1
    assert "8 requests in a row that it had sent before, after 127.0.0.1" in traffic.ended
    assert traffic.ended.endswith("status 500: busy")


def test_an_endpoint_is_not_asked_before_the_time_that_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    def busy_once(client: socket.socket, number: int) -> None:
        respond = says(ANSWERS["chat"]) if number else says(b"{}", "429 Too many", "Retry-After: 60\r\n")
        respond(client, number)

    clock = [1000.0]
    monkeypatch.setattr("nightlab.sandbox.traffic.time", SimpleNamespace(monotonic=lambda: clock[0]))
    with door(busy_once) as (ask, traffic):
        refused(ask, "one")
        assert traffic.wait(traffic.fault_at) == 60 and traffic.wait("127.0.0.1:1") == 0
        again = threading.Thread(target=ask, args=("one",))
        again.start()
        again.join(0.2)
        assert again.is_alive() and traffic.requests == 1, "the request waits in the proxy"
        clock[0] += 61
        again.join(60)
        assert traffic.requests == 2 and not traffic.fault
    with door(says(b"{}", "429 Too many", "Retry-After: 777\r\n")) as (ask, traffic):
        refused(ask, "one")
    assert "it asks to wait 777 s" in traffic.ended and report_of(traffic).rest == 777


@pytest.mark.parametrize(
    ("respond", "stop", "fault"),
    [
        (says(b'{"error": {"message": "over quota", "code": 402}}'), None, "status 200, 402: over quota"),
        (says(b'{"choices": [], "usage": {"prompt_tokens": 9}}'), None, "status 200: an answer without choices"),
        (says(b'{"promptFeedback": {"blockReason": "SAFETY"}}'), None, "status 200, SAFETY: the prompt was blocked"),
        (says(ANSWERS["chat"].replace(b'"stop"', b"null")), "no finish reason", ""),
        (says(ANSWERS["chat"] + ANSWERS["chat"]), "stop", ""),
        (says(ANSWERS["chat"][:-9], more="X: y\r\n"), None, ""),
        (
            lambda c, _: c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"),
            "the connection broke off",
            "broke off",
        ),
        (
            lambda c, _: c.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
            "the connection broke off",
            "brok",
        ),
        (lambda *_: None, None, "it disconnected without an answer"),
        (lambda c, _: c.sendall(b"220 a mail server\r\n"), None, "it does not answer in HTTP/1.1"),
        (says(ANSWERS["chat"].replace(b'"stop"', b'"length"')), "length", ""),
        (says(b"not zip", more="Content-Encoding: gzip\r\n"), None, ""),
    ],
    ids=[
        "an error as 200",
        "empty",
        "blocked",
        "no reason",
        "two in one",
        "half",
        "short",
        "framing",
        "none",
        "no HTTP",
        "cut",
        "no gzip",
    ],
)
def test_a_bad_answer_is_one_line_of_words(respond: Respond, stop: str | None, fault: str) -> None:
    with door(respond) as (ask, traffic):
        try:
            ask("hello")
        except (OSError, ValueError):
            pass
        except Exception as error:
            assert type(error).__name__ == "IncompleteRead"
    assert traffic.stop == stop and fault in traffic.fault and "\n" not in traffic.fault_words
    assert not traffic.ended and bool(fault) == bool(traffic.fault)


def test_what_an_answer_stated_before_it_broke_off_is_counted() -> None:
    begun = ANSWERS["anthropic, streamed"].split(b"event: x")[1]
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n" + begun
    with door(lambda c, _: c.sendall(answer)) as (ask, traffic), pytest.raises(http.client.IncompleteRead):
        ask("hello")
    assert (traffic.input_tokens, traffic.output_tokens, traffic.untold) == (100, 1, 0)
    assert traffic.stop == "the connection broke off" and "its answer broke off" in traffic.fault


def test_a_wrong_key_ends_the_turn() -> None:
    with door(says(b'{"error": {"message": "bad key"}}', "401 No")) as (ask, traffic):
        refused(ask, "hello")
    assert traffic.denied and traffic.ended.endswith("status 401: bad key")


# -- caps and counts -----------------------------------------------------------------------------------


def test_a_turn_has_what_its_proposer_may_and_the_run_has_left() -> None:
    from nightlab.core.config import ModelConfig

    part = ModelConfig(kind="model", model="m", requests=10, tokens=1000)
    left = TrafficCaps(requests=4, tokens=5000, money=0.5)
    had = {"requests": 1, "input_tokens": 100, "output_tokens": 50, "cost_usd": 0.1}
    assert caps_of(part, left, had) == TrafficCaps(3, 850, 0.4)
    assert caps_of(part, None, {}) == TrafficCaps(10, 1000, None)


def test_what_was_counted_stands_before_what_was_said() -> None:
    said = {"agent": "a 1", "input_tokens": 1290, "output_tokens": 60, "cost_usd": 0.1}
    report = TrafficReport({"requests": 4, "input_tokens": 5000, "output_tokens": 60})
    usage = counted_usage(said, report)
    assert usage["input_tokens"] == 5000 and usage["told"] == {"input_tokens": 1290} and usage["cost_usd"] == 0.1
    assert counted_usage(said, TrafficReport({"requests": 4, "sealed": 1}))["input_tokens"] == 1290
