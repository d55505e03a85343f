"""Whatever door a record comes through, one byte that is not as it must be has it refused, said why, and counted."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.commons_examples import PATCH, body, finding, key, put, values
from support.gossip_wire import Wire

from nightlab.commons.exchange import Commons
from nightlab.commons.gossip import BundleReceived
from nightlab.commons.record import LARGEST, author_of, encode_record, sign
from nightlab.storage.git.record_chains import PLACE, Change

pytestmark = pytest.mark.integration

EgressProxy = Callable[[Commons, Commons, Path], dict[str, int]]


def by_remote(theirs: Commons, mine: Commons, tmp_path: Path) -> dict[str, int]:
    return dict(mine.pull(str(theirs.folder)).rejected)


def by_bundle(theirs: Commons, mine: Commons, tmp_path: Path) -> dict[str, int]:
    theirs.chains.pack(tmp_path / "stick.bundle")
    return dict(mine.pull(str(tmp_path / "stick.bundle")).rejected)


def by_gossip(theirs: Commons, mine: Commons, tmp_path: Path) -> dict[str, int]:
    theirs.chains.pack(tmp_path / "answer.bundle")
    wire = Wire()
    peer = wire.peer(mine.folder)
    peer.commons = mine
    wire.boxes[mine.folder.name] = [BundleReceived((tmp_path / "answer.bundle").read_bytes())]
    return dict(peer.step().rejected)


def flipped(raw: bytes, what: bytes, at: int) -> bytes:
    """One byte changed, so far after the first such words."""
    place = raw.index(what) + len(what) + at
    return raw[:place] + (b"1" if raw[place : place + 1] == b"0" else b"0") + raw[place + 1 :]


FAULTS: list[tuple[str, Callable[[bytes], bytes], str, str]] = [
    ("a byte of the signature", lambda raw: flipped(raw, b'"signature":"', 5), "wrong signature", "not signed by"),
    (
        "the last of the signature",
        lambda raw: flipped(raw, b'"signature":"', 127),
        "wrong signature",
        "not signed by",
    ),
    ("a byte of the hash", lambda raw: flipped(raw, b'"id":"', 9), "wrong id", "the hash of its record is"),
    ("a byte of what it says", lambda raw: raw.replace(b"2.75", b"2.85"), "wrong id", "the hash of its record is"),
    ("a byte of a field's name", lambda raw: raw.replace(b'"seq"', b'"sep"'), "wrong schema", "Field required"),
    (
        "a byte of a fixed word",
        lambda raw: raw.replace(b'"keep"', b'"keen"'),
        "wrong schema",
        "status: Input should be",
    ),
    ("a byte of a hash within", lambda raw: flipped(raw, b'"parent":"', 3), "wrong id", "the hash of its record is"),
    ("a byte of its form", lambda raw: flipped(raw, b'"parent":"', -1), "malformed", "not JSON"),
    (
        "a byte of the task",
        lambda raw: raw.replace(b'"amount":20', b'"amount":21'),
        "wrong schema",
        "not the hash of the",
    ),
    ("a byte of the version", lambda raw: raw.replace(b'"v":1', b'"v":2'), "future version", "upgrade it"),
    ("a byte more", lambda raw: raw + b"\n", "not canonical", "not the canonical form"),
    ("a byte less", lambda raw: raw[:-1], "malformed", "not JSON"),
]


@pytest.mark.parametrize("door", [by_remote, by_bundle, by_gossip])
def test_one_byte_that_is_wrong(tmp_path: Path, door: EgressProxy) -> None:
    theirs, mine = Commons(tmp_path / "theirs"), Commons(tmp_path / "mine")
    numbers = range(1, len(FAULTS) + 1)

    def put_after(number: int, fault: Callable[[bytes], bytes]) -> None:
        """The author's second record, with a fault, at the end of their chain."""
        author = author_of(key(number))
        good = sign(finding(number, 1, firsts[number].id), key(number))
        raw = fault(encode_record(good))
        assert abs(len(raw) - len(encode_record(good))) <= 1
        commit = theirs.chains.add({"record.json": raw, "patch": PATCH.encode()}, good.id, heads[author])
        theirs.chains.change(Change(PLACE, author, commit))

    firsts = {number: theirs.publish(key(number), [body(float(number))])[0] for number in numbers}
    heads = theirs.chains.heads()
    for number, fault in zip(numbers, FAULTS, strict=True):
        put_after(number, fault[1])
    assert door(theirs, mine, tmp_path) == Counter(category for *_, category, _ in FAULTS)
    assert values(mine) == [float(number) for number in numbers], "what came before it is taken"
    refused = {each.author: each for each in mine.rejections()}
    for number, (_, _, category, why) in zip(numbers, FAULTS, strict=True):
        found = refused[author_of(key(number))]
        assert (found.category, found.times) == (category, 1) and why in found.detail
    for number in numbers:
        put_after(number, lambda raw: raw)
    assert door(theirs, mine, tmp_path) == {}, "nothing that was refused counts as accepted"
    assert values(mine) == sorted([*map(float, numbers), *[2.75] * len(FAULTS)])


def test_all_that_was_refused_is_shown_with_its_reason_and_how_often(tmp_path: Path, nightlab: Any) -> None:
    """Oversized, malformed, forged, replayed, of a future version, rewritten, rolled back: as a user sees it."""
    remote, there = tmp_path / "remote.git", tmp_path / "there"
    subprocess.run(["git", "init", "-q", "--bare", "--template=", remote], check=True)
    theirs = Commons(there)
    for number in range(1, 9):
        theirs.publish(key(number), [body(float(number)), body(number + 0.5)])
        theirs.push(str(remote), author_of(key(number)))
    mine = tmp_path / "data" / "nightlab" / "commons"
    env = {"XDG_DATA_HOME": str(tmp_path / "data"), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    assert "16 new of 8 authors" in nightlab("sync", str(remote), cwd=tmp_path, **env).out
    had = values(Commons(mine))

    def add(number: int, record: bytes, message: str = "x") -> None:
        author = author_of(key(number))
        put(there, author, theirs.chains.add({"record.json": record, "patch": PATCH.encode()}, message, heads[author]))

    heads = theirs.chains.heads()
    records = {number: theirs.entries()[author_of(key(number))] for number in range(1, 9)}
    following = {number: sign(finding(number, 2, chain[-1].id), key(number)) for number, chain in records.items()}
    ahead = json.loads(encode_record(following[5]))
    ahead["record"]["v"] = 7
    add(1, b" " * (LARGEST + 1))
    add(2, b"{")
    add(3, encode_record(sign(finding(3, 2, records[3][-1].id), key(9))))
    add(4, encode_record(records[4][0].signed), records[4][0].id)
    add(5, json.dumps(ahead).encode())
    other = Commons(tmp_path / "other")
    other.publish(key(6), [body(6.25), body(6.75)])
    subprocess.run(
        ["git", "fetch", "-q", str(tmp_path / "other"), "+refs/nightlab/*:refs/nightlab/*"], cwd=there, check=True
    )
    put(there, author_of(key(7)), records[7][0].commit)
    subprocess.run(
        ["git", "push", "-q", "--force", str(remote), "refs/nightlab/*:refs/nightlab/*"], cwd=there, check=True
    )
    subprocess.run(["git", "update-ref", "-d", f"refs/nightlab/{author_of(key(8))}"], cwd=remote, check=True)
    for _ in range(2):
        said = nightlab("sync", str(remote), cwd=tmp_path, **env)
        assert said.code == 0 and "see nightlab commons" in said.out
    shown = nightlab("commons", cwd=tmp_path, **env).out
    for number, reason in {
        1: "oversized: record.json has 65,537 bytes, at most 65,536 are read",
        2: "malformed: not JSON",
        3: "wrong signature: not signed by author",
        4: "replayed: record 0 again, after 1",
        5: "future version: version 7",
        6: "rewritten: its records differ from those accepted before",
        7: "rolled back: the remote removed records that it had",
        8: "rolled back: the remote no longer has this author",
    }.items():
        (line,) = [line for line in shown.splitlines() if author_of(key(number))[:12] in line and ": " in line]
        assert reason in line and line.endswith("(2 times)")
    assert values(Commons(mine)) == had, "nothing is lost"
    subprocess.run(["git", "fsck", "--strict"], cwd=mine, check=True, capture_output=True)
