"""Live gossip: what one peer has the others get, whatever is lost on the way, and only what is as it must be."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.commons_examples import body, key, values
from support.gossip_wire import Wire
from support.processes import PATIENCE, PROGRAM, program_env, wait

from nightlab.commons import gossip
from nightlab.commons.exchange import Commons
from nightlab.commons.gossip import BundleReceived, DigestRequest, Gossip, PeerDigest
from nightlab.commons.record import author_of
from nightlab.storage.git.record_chains import PLACE, Change

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gossip, "EVERY", 0.0)
    monkeypatch.setattr(gossip, "PATIENCE", 0.0)


def rounds(peers: list[Gossip], until: Any, most: int = 60) -> int:
    for number in range(most):
        if until():
            return number
        for peer in peers:
            peer.step()
    raise AssertionError("it never happened")


@pytest.mark.parametrize("lost", [0.0, 0.6])
def test_all_get_what_any_has(tmp_path: Path, lost: float) -> None:
    wire = Wire(lost)
    one, two = (wire.peer(tmp_path / name) for name in ("one", "two"))
    one.commons.publish(key(1), [body(1.0), body(2.0)])
    two.commons.publish(key(2), [body(3.0)])
    rounds([one, two], lambda: values(one.commons) == values(two.commons) == [1.0, 2.0, 3.0])
    late = wire.peer(tmp_path / "late")
    two.commons.publish(key(2), [body(4.0)])
    peers = [one, two, late]
    rounds(peers, lambda: all(values(peer.commons) == [1.0, 2.0, 3.0, 4.0] for peer in peers))
    assert one.chains.heads() == two.chains.heads() == late.chains.heads()


def test_who_has_more_asks_for_nothing(tmp_path: Path) -> None:
    wire = Wire()
    one, two = (wire.peer(tmp_path / name) for name in ("one", "two"))
    one.commons.publish(key(1), [body(1.0)])
    rounds([one, two], lambda: values(two.commons) == [1.0])
    one.commons.publish(key(1), [body(2.0)])
    asked = wire.asked
    two.step()  # says the less that it has
    one.step()
    assert wire.asked == asked


def test_one_question_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire()
    one, two, three = (wire.peer(tmp_path / name) for name in ("one", "two", "three"))
    one.commons.publish(key(1), [body(1.0)])
    rounds([one, two], lambda: values(two.commons) == [1.0])
    monkeypatch.setattr(gossip, "PATIENCE", 60.0)
    asked = wire.asked
    for _ in range(3):
        one.step()
        two.step()
        wire.boxes["three"] = [message for message in wire.boxes["three"] if isinstance(message, PeerDigest)]
        three.step()
    assert wire.asked == asked + 1, "though two peers have it, and no answer comes"
    monkeypatch.setattr(gossip, "PATIENCE", 0.0)
    rounds([one, two, three], lambda: values(three.commons) == [1.0])


def test_a_peer_that_lies_is_counted_and_not_asked_again(tmp_path: Path) -> None:
    wire = Wire()
    liar, two = (wire.peer(tmp_path / name) for name in ("liar", "two"))
    liar.commons.publish(key(1), [body(1.0)])
    author = author_of(key(1))
    true = liar.chains.heads()[author]
    false = liar.chains.add({"record.json": b"{}"}, "a lie", true)
    liar.chains.change(Change(PLACE, author, false))
    liar.chains.pack(tmp_path / "a lie")

    def told() -> None:
        wire.boxes["two"].append(PeerDigest("liar", {author: false}))
        two.step()

    told()
    (asked,) = [message for message in wire.boxes["liar"] if isinstance(message, DigestRequest)]
    asked.answer((tmp_path / "a lie").read_bytes())
    assert two.step().rejected == {"wrong schema": 1}
    assert values(two.commons) == [1.0], "what was as it must be is kept"
    assert [rejection.author for rejection in two.commons.rejections()] == [author]
    told()
    told()
    assert wire.asked == 1


@pytest.mark.parametrize("bundle", [b"", b"no bundle", b"# v2 git bundle\n", random.Random(1).randbytes(2000)])
def test_a_bundle_that_is_none_changes_nothing(tmp_path: Path, bundle: bytes) -> None:
    wire = Wire()
    one = wire.peer(tmp_path / "one")
    one.commons.publish(key(1), [body(1.0)])
    wire.boxes["one"] = [BundleReceived(bundle)]
    assert one.step().records == 0 and values(one.commons) == [1.0]
    assert not list((tmp_path / "one").glob("*.bundle"))


def test_what_is_too_large_for_one_answer_comes_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gossip, "ANSWER", 4000)  # a record and its patch, or two
    wire = Wire()
    one, two = (wire.peer(tmp_path / name) for name in ("one", "two"))
    one.commons.publish(key(1), [body(float(n)) for n in range(6)])
    one.commons.publish(key(2), [body(float(n)) for n in range(6, 9)])
    rounds([one, two], lambda: len(values(two.commons)) == 9)
    assert wire.asked > 3 and one.chains.heads() == two.chains.heads()
    assert two.commons.rejections() == []


def test_answers_that_do_not_arrive_are_asked_for_in_smaller_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gossip, "LEAST", 1)
    monkeypatch.setattr(gossip, "ANSWER", 64_000)
    one = Wire().peer(tmp_path / "one")
    one.commons.publish(key(1), [body(float(n)) for n in range(12)])
    whole = one._bundle({author_of(key(1)): None}, gossip.ANSWER)
    wire = Wire(limit=len(whole) // 2)  # and no error is reported
    one, two = (wire.peer(tmp_path / name) for name in ("one", "two"))
    rounds([one, two], lambda: len(values(two.commons)) == 12)
    assert two.silent == {"one"} and wire.asked > 2


def test_an_announcement_is_bounded_and_all_chains_have_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gossip, "ANNOUNCED", 2)
    wire = Wire()
    one = wire.peer(tmp_path / "one")
    for n in range(1, 6):
        one.commons.publish(key(n), [body(float(n))])
    wire.boxes["listener"] = []
    for _ in range(6):
        one.step()
    said = [message.heads for message in wire.boxes["listener"]]
    assert all(len(heads) <= 2 for heads in said)
    assert {author for heads in said for author in heads} == {author_of(key(n)) for n in range(1, 6)}
    two = wire.peer(tmp_path / "two")
    rounds([one, two], lambda: len(values(two.commons)) == 5)


def test_a_peer_that_never_answers_is_named(tmp_path: Path) -> None:
    wire = Wire()
    one, two = (wire.peer(tmp_path / name) for name in ("one", "two"))
    one.commons.publish(key(1), [body(1.0)])
    for _ in range(3):
        wire.boxes["one"] = []  # what is asked of it gets lost
        one.step()
        two.step()
    assert two.silent == {"one"}


def test_words_of_strangers() -> None:
    author, commit = "a" * 64, "b" * 40

    class Payload:
        def __init__(self, raw: bytes) -> None:
            self.raw = raw

        def to_bytes(self) -> bytes:
            return self.raw

    good = {author: commit, "c" * 64: None}
    assert gossip._parse_heads(Payload(json.dumps(good).encode())) == good
    for bad in (b"", b"[]", b"{", b"[" * 100_000, b'{"a": 1}', json.dumps({author: "--upload-pack=x"}).encode()):
        assert gossip._parse_heads(Payload(bad)) == {}
    assert gossip._parse_heads(Payload(b" " * (gossip.LARGEST_MESSAGE + 1))) == {}
    assert gossip._parse_heads(None) == {}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_three_processes_on_loopback(tmp_path: Path) -> None:
    pytest.importorskip("zenoh")
    seed, started = f"tcp/127.0.0.1:{free_port()}", []

    def start(name: str, *args: str) -> Commons:
        env = program_env(tmp_path / "home", XDG_DATA_HOME=str(tmp_path / name))
        with (tmp_path / f"{name}.log").open("wb") as log:
            started.append(subprocess.Popen([*PROGRAM, "gossip", *args], env=env, stdout=log, stderr=log))
        return Commons(tmp_path / name / "nightlab" / "commons")

    try:
        one = start("one", "--listen", seed)
        two = start("two", "--connect", seed)
        one.publish(key(1), [body(1.0), body(2.0)])
        two.publish(key(2), [body(3.0)])
        wait(lambda: values(one) == values(two) == [1.0, 2.0, 3.0])
        late = start("late", "--connect", seed)
        wait(lambda: values(late) == [1.0, 2.0, 3.0])
        late.publish(key(3), [body(4.0)])
        wait(lambda: values(one) == values(two) == [1.0, 2.0, 3.0, 4.0])
        started[0].send_signal(signal.SIGKILL)  # the others have found each other
        two.publish(key(2), [body(5.0)])
        wait(lambda: values(late) == [1.0, 2.0, 3.0, 4.0, 5.0])
        started[1].send_signal(signal.SIGINT)
        assert started[1].wait(PATIENCE) == 130
        assert "2 new records by 1 author" in (tmp_path / "two.log").read_text()
    finally:
        for process in started:
            process.kill()
            process.wait()
