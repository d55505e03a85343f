"""What was checked once is not checked again, and the index that remembers it decides nothing."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.commons_examples import body, git, key, values

import nightlab.commons.checked_copy as checked_copy
from nightlab.commons.checked_copy import INDEX
from nightlab.commons.exchange import Commons
from nightlab.commons.record import author_of

pytestmark = pytest.mark.integration

ONE, TWO = author_of(key(1)), author_of(key(2))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy with three records of one author and one of another, all of them in its index."""
    commons = Commons(tmp_path / "copy")
    commons.publish(key(1), [body(1.0), body(2.0), body(3.0)])
    commons.publish(key(2), [body(4.0)])
    Commons(commons.folder).entries()
    return commons.folder


def checks(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The records that are checked from now on."""
    found, parse = list[bytes](), checked_copy.parse_record

    def counted(raw: bytes) -> object:
        found.append(raw)
        return parse(raw)

    monkeypatch.setattr(checked_copy, "parse_record", counted)
    return found


def without_index(folder: Path) -> Path:
    for file in folder.glob(f"{INDEX}*"):
        file.unlink()
    return folder / INDEX


def sql(folder: Path, *statements: str) -> None:
    with sqlite3.connect(folder / INDEX) as db:
        for statement in statements:
            db.execute(statement)
    db.close()


def test_another_process_checks_only_what_is_new(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = checks(monkeypatch)
    assert values(Commons(folder)) == [1.0, 2.0, 3.0, 4.0] and not done
    assert [entry.seq for entry in Commons(folder).chain(ONE)] == [0, 1, 2]
    Commons(folder).publish(key(1), [body(5.0)])
    done.clear()
    assert values(Commons(folder)) == [1.0, 2.0, 3.0, 4.0, 5.0] and len(done) == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: without_index(folder),
        lambda folder: without_index(folder).write_bytes(b"no database" * 1000),
        lambda folder: sql(folder, "PRAGMA user_version = 9"),
        lambda folder: sql(folder, "DROP TABLE records"),
        lambda folder: sql(folder, "UPDATE records SET raw = replace(raw, '2.75', '9.75')"),
        lambda folder: sql(folder, "UPDATE records SET place = id WHERE seq > 0"),
        lambda folder: sql(folder, "DELETE FROM records WHERE seq = 1"),
        lambda folder: sql(folder, f"UPDATE records SET author = '{TWO}' WHERE seq = 1"),
    ],
)
def test_whatever_happens_to_the_index_the_records_are_those_of_git(
    folder: Path, damage: Callable[[Path], object]
) -> None:
    damage(folder)
    assert values(Commons(folder)) == [1.0, 2.0, 3.0, 4.0]
    assert {name: len(chain) for name, chain in Commons(folder).entries().items()} == {ONE: 3, TWO: 1}


def test_a_copy_that_was_set_back_shows_what_its_refs_say(folder: Path) -> None:
    long_open = Commons(folder)
    ends = [entry.commit for entry in long_open.entries()[ONE]]
    for end, expected in ((ends[0], [1.0, 4.0]), (ends[2], [1.0, 2.0, 3.0, 4.0])):
        git(folder, "update-ref", f"refs/nightlab/{ONE}", end)
        assert values(Commons(folder)) == values(long_open) == expected
    git(folder, "update-ref", "-d", f"refs/nightlab/{TWO}")
    assert values(Commons(folder)) == [1.0, 2.0, 3.0], "an author counts only by the ref"


KILLED = """
import os, signal, sys
from pathlib import Path
from nightlab.commons.exchange import Commons
commons, seen = Commons(Path(sys.argv[1])), []
def trace(statement):
    if statement.startswith(sys.argv[2]):
        seen.append(statement)
        if len(seen) == 2 or sys.argv[2] == "COMMIT":
            os.kill(os.getpid(), signal.SIGKILL)
commons._index._db.set_trace_callback(trace)
commons.entries()
"""


@pytest.mark.parametrize("at", ["INSERT", "COMMIT"])
def test_a_kill_while_the_index_is_written(folder: Path, at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without_index(folder)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(folder), at], env=env)
    assert killed.returncode == -signal.SIGKILL
    done = checks(monkeypatch)
    assert values(Commons(folder)) == [1.0, 2.0, 3.0, 4.0] and len(done) == 4, "it is all or nothing"
    done.clear()
    assert values(Commons(folder)) == [1.0, 2.0, 3.0, 4.0] and not done


def test_an_index_that_cannot_be_written_is_done_without(folder: Path) -> None:
    without_index(folder).mkdir()
    assert values(Commons(folder)) == values(Commons(folder)) == [1.0, 2.0, 3.0, 4.0]
