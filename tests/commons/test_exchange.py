"""Exchange over plain git: chains only grow, a bad one keeps no other out, and nothing that was accepted is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.commons_examples import AT, PATCH, PLATFORM, body, finding, git, key, put, some_hash, stated, task, values
from support.processes import wait

import nightlab.commons.exchange as exchange
from nightlab.commons.canonical import canonical_json
from nightlab.commons.entry import Entry
from nightlab.commons.exchange import Commons
from nightlab.commons.gossip import Gossip
from nightlab.commons.record import author_of, encode_record, sign
from nightlab.core.types import NightlabError
from nightlab.storage.git import Unreachable
from nightlab.storage.git.record_chains import INCOMING, Chains

pytestmark = pytest.mark.integration


def retraction() -> tuple[dict[str, Any], None]:
    return {"kind": "retraction", "at": AT, "target": some_hash("x"), "why": "a mistake"}, None


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    folder = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", "--template=", folder], check=True)
    return folder


def commons(tmp_path: Path, name: str) -> Commons:
    return Commons(tmp_path / name)


def test_what_one_shares_the_others_have(tmp_path: Path, remote: Path) -> None:
    one, two = commons(tmp_path, "one"), commons(tmp_path, "two")
    one.publish(key(1), [body(1.0), retraction(), body(3.0)])
    two.publish(key(2), [body(2.0)])
    for where, author in ((one, 1), (two, 2)):
        assert where.pull(str(remote)).rejected == {}
        assert where.push(str(remote), author_of(key(author)))
        assert not where.push(str(remote), author_of(key(author))), "it is there already"
    taken = one.pull(str(remote))
    assert (taken.records, taken.authors) == (1, 1)
    assert values(one) == values(two) == [1.0, 2.0, 3.0]
    again = Commons(tmp_path / "one")  # another process reads the same
    assert values(again) == [1.0, 2.0, 3.0]
    entry = next(iter(again.entries()[author_of(key(2))]))
    assert again.patch(entry) == PATCH
    assert one.pull(str(remote)).records == 0


def test_the_order_in_which_authors_came_is_remembered(tmp_path: Path, remote: Path) -> None:
    ours = commons(tmp_path, "ours")
    names = [author_of(key(n)) for n in range(1, 5)]
    for n in (1, 2):
        one = commons(tmp_path, f"{n}")
        one.publish(key(n), [body(float(n))])
        one.push(str(remote), names[n - 1])
    assert ours.arrived() == ([], 0)
    ours.pull(str(remote))
    for n in (3, 4):
        one = commons(tmp_path, f"{n}")
        one.publish(key(n), [body(float(n))])
        one.push(str(remote), names[n - 1])
        ours.pull(str(remote))
    ours.pull(str(remote))
    assert Commons(tmp_path / "ours").arrived() == ([*sorted(names[:2]), *names[2:]], 2)
    (tmp_path / "ours" / "arrived").unlink()  # as in copies made before this file
    old = Commons(tmp_path / "ours")
    old.entries()
    assert old.arrived() == (sorted(names), 4)


def test_the_same_records_are_the_same_commits_everywhere(tmp_path: Path) -> None:
    one, two = commons(tmp_path, "one"), commons(tmp_path, "two")
    for where in (one, two):
        where.publish(key(1), [body(1.0), body(2.0)])
    assert one.chains.heads() == two.chains.heads()


def test_a_bundle_on_a_stick(tmp_path: Path) -> None:
    one, two, stick = commons(tmp_path, "one"), commons(tmp_path, "two"), tmp_path / "stick.bundle"
    one.publish(key(1), [body(1.0)])
    one.chains.pack(stick)
    assert two.pull(str(stick)).records == 1 and values(two) == [1.0]
    two.publish(key(2), [body(2.0)])
    two.chains.pack(stick)
    assert one.pull(str(stick)).records == 1 and values(one) == [1.0, 2.0]
    stick.write_bytes(stick.read_bytes()[:300])
    assert commons(tmp_path, "three").pull(str(stick)).rejected == {"malformed": 2}
    with pytest.raises(Unreachable):
        commons(tmp_path, "three").pull(str(tmp_path / "no.bundle"))


def test_a_remote_that_is_away_is_said_and_nothing_is_lost(tmp_path: Path, remote: Path) -> None:
    one, away = commons(tmp_path, "one"), tmp_path / "away.git"
    one.publish(key(1), [body(1.0)])
    remote.rename(away)
    with pytest.raises(Unreachable, match="can't be used"):
        one.pull(str(remote))
    with pytest.raises(Unreachable):
        one.push(str(remote), author_of(key(1)))
    away.rename(remote)
    assert one.push(str(remote), author_of(key(1))) and values(one) == [1.0]


def test_a_remote_that_runs_commands_is_not_spoken_to(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    for name in (f"ext::touch {mark}", f"--upload-pack=touch {mark}"):
        with pytest.raises(Unreachable):
            commons(tmp_path, "one").pull(name)
    assert not mark.exists()


# -- hostile remotes ---------------------------------------------------------------------------------


def shared(tmp_path: Path, remote: Path) -> tuple[Commons, Commons]:
    """One has shared three records, and two has them."""
    one, two = commons(tmp_path, "one"), commons(tmp_path, "two")
    one.publish(key(1), [body(1.0), body(2.0), body(3.0)])
    one.push(str(remote), author_of(key(1)))
    two.pull(str(remote))
    return one, two


def why(where: Commons, remote: Path) -> dict[str, int]:
    """Why things are refused, after which the honest are still heard and nothing accepted is lost."""
    had = values(where)
    taken = where.pull(str(remote))
    assert set(had) <= set(values(where)) and not where.chains.heads(INCOMING)
    assert {each.category for each in where.rejections()} >= set(taken.rejected)
    return dict(taken.rejected)


def forged(remote: Path, files: dict[str, bytes], message: str, before: str | None, number: int = 1) -> None:
    """Make a commit at the remote what a stranger wants."""
    put(remote, author_of(key(number)), Chains(remote).add(files, message, before))


def test_a_rolled_back_remote_and_one_that_forgot_an_author(tmp_path: Path, remote: Path) -> None:
    one, two = shared(tmp_path, remote)
    author = author_of(key(1))
    last = git(remote, "rev-parse", f"refs/nightlab/{author}")
    put(remote, author, f"{last}~1")
    assert why(two, remote) == {"rolled back": 1} and values(two) == [1.0, 2.0, 3.0]
    git(remote, "update-ref", "-d", f"refs/nightlab/{author}")
    assert why(two, remote) == {"rolled back": 1} and values(two) == [1.0, 2.0, 3.0]
    assert one.push(str(remote), author), "its author mends it"
    assert why(two, remote) == {}
    assert [each.times for each in two.rejections()] == [1, 1]


def test_a_remote_that_rewrites_history(tmp_path: Path, remote: Path) -> None:
    _, two = shared(tmp_path, remote)
    other = commons(tmp_path, "other")
    other.publish(key(1), [body(1.0), body(9.0)])  # the author says something else in the same place
    git(remote, "fetch", "-q", str(tmp_path / "other"), "+refs/nightlab/*:refs/nightlab/*")
    assert why(two, remote) == {"rewritten": 1} and values(two) == [1.0, 2.0, 3.0]
    new = commons(tmp_path, "new")
    new.pull(str(tmp_path / "one"))
    assert why(new, remote) == {"rewritten": 1}, "also where this remote was never seen before"


def test_two_machines_with_one_key_are_named_and_nothing_is_lost(tmp_path: Path, remote: Path) -> None:
    one, two = commons(tmp_path, "one"), commons(tmp_path, "two")
    one.publish(key(1), [body(1.0)])
    two.publish(key(1), [body(2.0)])
    assert one.push(str(remote), author_of(key(1)))
    assert why(two, remote) == {"rewritten": 1}
    with pytest.raises(NightlabError, match="two machines use one key") as raised:
        two.push(str(remote), author_of(key(1)))
    assert "its own key" in raised.value.hint
    assert (values(one), values(two)) == ([1.0], [2.0])


def test_one_that_lags_behind_another_is_no_liar(tmp_path: Path, remote: Path) -> None:
    one, two = shared(tmp_path, remote)
    one.publish(key(1), [body(4.0)])
    two.pull(str(tmp_path / "one"))
    assert why(two, remote) == {} and values(two) == [1.0, 2.0, 3.0, 4.0]


def chain(where: Commons, number: int = 1) -> list[Entry]:
    return where.entries()[author_of(key(number))]


def test_a_chain_that_is_not_as_it_must_be_is_taken_up_to_there(tmp_path: Path, remote: Path) -> None:
    one, _ = shared(tmp_path, remote)
    records = chain(one)
    last = records[-1].commit
    good = sign(finding(1, 3, records[-1].id), key(1))
    files = {"record.json": encode_record(good), "patch": PATCH.encode()}
    gap = sign(finding(1, 4, records[-1].id), key(1))
    stranger = sign(finding(2, 3, records[-1].id), key(2))
    broken = sign(finding(1, 3, some_hash("another")), key(1))
    future = json.loads(encode_record(good))
    future["record"]["v"] = 2
    cases: list[tuple[dict[str, bytes], str, str]] = [
        ({**files, "record.json": canonical_json(future)}, good.id, "future version"),
        ({**files, "record.json": encode_record(good).replace(b"2.75", b"2.76")}, good.id, "wrong id"),
        ({**files, "record.json": encode_record(good)[:-1]}, good.id, "malformed"),
        ({**files, "record.json": b"x" * 100_000}, good.id, "oversized"),
        ({**files, "patch": PATCH.encode() + b"\n"}, good.id, "wrong patch"),
        ({**files, "patch": b"x" * 300_000}, good.id, "oversized"),
        ({"record.json": encode_record(good)}, good.id, "wrong patch"),
        ({**files, "more": b""}, good.id, "wrong commit"),
        (files, "another message", "wrong commit"),
        ({**files, "record.json": encode_record(gap)}, gap.id, "broken chain"),
        ({**files, "record.json": encode_record(broken)}, broken.id, "broken chain"),
        ({**files, "record.json": encode_record(stranger)}, stranger.id, "wrong author"),
        ({**files, "record.json": encode_record(records[1].signed)}, records[1].id, "replayed"),
    ]
    for number, (each, message, category) in enumerate(cases):
        forged(remote, each, message, last)
        new = commons(tmp_path, f"new{number}")
        assert why(new, remote) == {category: 1}, category
        assert values(new) == [1.0, 2.0, 3.0]
    forged(remote, files, good.id, last)
    assert why(new, remote) == {}, "the honest record that follows is taken"
    assert values(new) == [1.0, 2.0, 2.75, 3.0]


def test_a_verification_has_no_patch_and_a_commit_one_parent(tmp_path: Path, remote: Path) -> None:
    one, two = shared(tmp_path, remote)
    tail = chain(one)[-1]
    took = sign(_retraction(tail.id), key(1))
    forged(remote, {"record.json": encode_record(took), "patch": b"x"}, took.id, tail.commit)
    assert why(two, remote) == {"wrong patch": 1}
    tree = git(remote, "rev-parse", f"{tail.commit}^{{tree}}")
    merge = git(remote, "-c", "user.name=x", "-c", "user.email=x", "commit-tree", tree, "-p", tail.commit, "-m", "x")
    put(remote, author_of(key(1)), merge)
    assert why(two, remote) == {"wrong commit": 1}


def _retraction(prev: str) -> Any:
    from nightlab.commons.record import Retraction

    facts = {**stated("retraction", 1, 3, prev), "target": some_hash("x"), "why": ""}
    return Retraction.model_validate(facts)


def test_one_bad_author_keeps_no_other_out(tmp_path: Path, remote: Path) -> None:
    shared(tmp_path, remote)
    bad = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor x 1 +0000\ncommitter x 1 +0000\n\nx\n"
    git(remote, "hash-object", "-t", "tree", "-w", "--stdin")
    commit = git(remote, "hash-object", "-t", "commit", "-w", "--stdin", "--literally", stdin=bad.encode())
    put(remote, author_of(key(5)), commit)
    git(remote, "update-ref", "refs/nightlab/no-author", commit)
    new = commons(tmp_path, "new")
    assert why(new, remote) == {"malformed": 1} and values(new) == [1.0, 2.0, 3.0]
    assert "missing email" in new.rejections()[0].detail, "git says why"


def test_a_ref_that_names_no_chain_of_its_authors(tmp_path: Path, remote: Path) -> None:
    one, two = shared(tmp_path, remote)
    blob = git(remote, "hash-object", "-w", "--stdin", stdin=b"x")
    put(remote, author_of(key(5)), blob)
    put(remote, author_of(key(6)), chain(one)[1].commit)
    forged(remote, {"record.json": b"{}"}, "x", chain(one)[1].commit, 7)
    assert why(two, remote) == {"wrong commit": 1, "wrong author": 2}
    new = commons(tmp_path, "new")
    assert why(new, remote) == {"wrong commit": 1, "wrong author": 2} and values(new) == [1.0, 2.0, 3.0]
    put(remote, author_of(key(1)), blob)
    assert why(two, remote)["rewritten"] == 1 and values(two) == [1.0, 2.0, 3.0]


def test_many_heads_of_one_long_chain_cost_no_more_than_what_is_taken_at_once(tmp_path: Path) -> None:
    chains = Chains(tmp_path / "chains")
    commits = [""]
    for number in range(6):
        commits.append(chains.add({"record.json": b"%d" % number}, "x", commits[-1] or None))
    commits = commits[1:]
    found = chains.new_commits(commits, [], 3)
    assert found == {commit: (None, commits[: min(n + 1, 3)]) for n, commit in enumerate(commits)}
    assert chains.new_commits(commits[2:], [commits[2]]) == {
        commit: (commits[2] if n else None, commits[3 : n + 3]) for n, commit in enumerate(commits[2:])
    }


def test_the_number_of_gits_does_not_grow_with_that_of_authors(
    tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, wrapper = tmp_path / "gits", tmp_path / "bin" / "git"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\necho "$*" >> {log}\nexec {shutil.which("git")} "$@"\n')
    wrapper.chmod(0o755)

    def counted(do: Callable[[], Any]) -> int:
        log.write_text("")
        with monkeypatch.context() as patch:
            patch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
            do()
        return len(log.read_text().splitlines())

    source, reader = commons(tmp_path, "source"), commons(tmp_path, "reader")

    def gits(*authors: int) -> list[int]:
        """How many it takes to bring in records of so many authors, to read them anew, to answer a peer, to lag."""
        for number in authors:
            source.publish(key(number), [body(1.0), body(2.0)])
            source.push(str(remote), author_of(key(number)))
        wants = dict.fromkeys(source.chains.heads())
        return [
            counted(lambda: reader.pull(str(remote))),
            counted(Commons(reader.folder).entries),
            counted(lambda: Gossip(source, None)._bundle(wants)),  # type: ignore[arg-type]
            counted(lambda: source.pull(str(remote))),
        ]

    few, many = gits(1), gits(*range(2, 12))
    assert len(values(reader)) == 22 and few == many and max(few) < 15


def test_a_lock_that_a_killed_git_left_behind(tmp_path: Path, remote: Path) -> None:
    _, two = shared(tmp_path, remote)
    lock = two.folder / "refs" / "nightlab" / f"{author_of(key(1))}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.touch()
    with pytest.raises(NightlabError, match="lock"):
        two.publish(key(1), [body(4.0)])
    os.utime(lock, (0, 0))
    two.publish(key(1), [body(4.0)])
    assert values(two) == [1.0, 2.0, 3.0, 4.0]


def test_a_flood_is_taken_in_portions(tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "AT_ONCE", 2)
    shared(tmp_path, remote)
    new = commons(tmp_path, "new")
    first = new.pull(str(remote))
    assert (first.records, first.waiting) == (2, 1)
    assert new.pull(str(remote)).records == 1 and values(new) == [1.0, 2.0, 3.0]


WRITER = """
import sys
from pathlib import Path
from support.commons_examples import body
from support.commons_examples import key
from nightlab.commons.entry import Entry
from nightlab.commons.exchange import Commons
commons = Commons(Path(sys.argv[1]))
for n in range(1000):
    commons.publish(key(1), [body(float(n))])
"""


def test_a_kill_in_the_middle_of_writing_leaves_a_whole_chain(tmp_path: Path) -> None:
    where = commons(tmp_path, "one")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    for _ in range(3):
        had = len(values(Commons(where.folder)))
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(where.folder)], env=env)
        wait(lambda had=had: len(values(Commons(where.folder))) > had + 1)
        time.sleep(0.03)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    count = len(chain(Commons(where.folder)))
    commons(tmp_path, "one").publish(key(1), [body(0.5)])
    assert len(chain(Commons(where.folder))) == count + 1
    git(where.folder, "fsck", "--strict")


def test_a_damaged_copy_is_said(tmp_path: Path, remote: Path) -> None:
    _, two = shared(tmp_path, remote)
    tree = git(two.folder, "hash-object", "-t", "tree", "-w", "--stdin")
    wrong = git(two.folder, "-c", "user.name=x", "-c", "user.email=x", "commit-tree", tree, "-m", "x")
    git(two.folder, "update-ref", f"refs/nightlab/{author_of(key(1))}", wrong)
    with pytest.raises(NightlabError, match="damaged") as error:
        Commons(two.folder).entries()
    assert "sync again" in error.value.hint
    (two.folder / "refs" / "nightlab" / author_of(key(1))).write_text(
        f"{git(two.folder, 'rev-parse', f'{wrong}^{{tree}}')}\n"
    )
    with pytest.raises(NightlabError, match="its ref names no commit"):
        Commons(two.folder).entries()


def test_platforms_and_tasks_of_the_examples_are_sound() -> None:
    assert task()["id"] != task(data_sha256=some_hash("d"))["id"] and PLATFORM["device"] == "cpu"
