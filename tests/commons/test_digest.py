"""A remote's digest: one ref that says what is new. It spares the list of all authors, and is never trusted."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.commons_examples import author, body, git, key, put, values

from nightlab.commons.exchange import Commons
from nightlab.storage.git import Chains, head_digest
from nightlab.storage.git.head_digest import DIGEST, TIP

pytestmark = pytest.mark.integration

REF = f"{DIGEST}/{TIP}"


class Labs:
    """Labs that exchange over one remote, each with a key of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.remote = folder, folder / "remote.git"
        subprocess.run(["git", "init", "-q", "--bare", "--template=", self.remote], check=True)

    def copy(self, number: int) -> Commons:
        return Commons(self.folder / f"lab{number}")

    def share(self, number: int, *found: float) -> None:
        self.copy(number).publish(key(number), [body(each) for each in found])

    def sync(self, number: int) -> tuple[int, dict[str, int]]:
        copy = self.copy(number)
        taken = copy.pull(str(self.remote), author(number))
        copy.push(str(self.remote), author(number))
        return taken.records, dict(taken.rejected)

    def has(self, number: int) -> list[float]:
        return values(self.copy(number))

    @property
    def digest(self) -> str:
        return git(self.remote, "for-each-ref", "--format=%(objectname)", REF)


@pytest.fixture
def labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Labs:
    """Three labs that have shared a record each; the first two follow the digest."""
    monkeypatch.setattr(head_digest, "LISTED", 2)
    labs = Labs(tmp_path)
    for number in (1, 2, 3):
        labs.share(number, float(number))
        labs.sync(number)
    for number in (1, 2, 1):
        labs.sync(number)
    assert labs.digest and labs.has(1) == labs.has(2) == [1.0, 2.0, 3.0]
    return labs


@pytest.fixture
def lot(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Has the lot of those that are listed fall on one author."""

    def fall(number: int) -> None:
        monkeypatch.setattr(random, "randrange", lambda most: int(author(number)[:2], 16))

    fall(9)
    return fall


@contextmanager
def unlisted() -> Iterator[None]:
    """Where all authors of a remote must not be listed."""

    def listed(chains: Chains, remote: str) -> dict[str, str]:
        raise AssertionError("all authors are listed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Chains, "remote_heads", listed)
        yield


def test_what_is_new_comes_without_a_list_of_all(labs: Labs, lot: Callable[[int], None]) -> None:
    with unlisted():
        labs.share(1, 4.0, 5.0)
        labs.sync(1)
        assert labs.sync(2) == (2, {}) and labs.sync(2) == (0, {})
    labs.share(4, 6.0)
    labs.sync(4)  # a new lab, which lists all once
    with unlisted():
        assert labs.sync(1) == (1, {}) and labs.has(1) == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def test_small_commons_have_none(tmp_path: Path) -> None:
    labs = Labs(tmp_path)
    for number in (1, 2, 1):
        labs.share(number, float(number))
        labs.sync(number)
    assert not labs.digest and labs.sync(2) == (1, {})


def test_a_lab_of_an_older_version_is_found_by_lot_and_named(labs: Labs, lot: Callable[[int], None]) -> None:
    labs.share(3, 4.0)
    labs.copy(3).chains.push(str(labs.remote), author(3))  # knows of no digest
    assert labs.sync(2) == (0, {})
    lot(3)
    assert labs.sync(1) == (1, {}), "and names it"
    lot(9)
    assert labs.sync(2) == (1, {}) and labs.has(2) == [1.0, 2.0, 3.0, 4.0]


def test_of_two_that_push_at_once_the_slower_one_is_named_next_time(labs: Labs, lot: Callable[[int], None]) -> None:
    slow, push = labs.copy(1), Chains.push

    def overtaken(chains: Chains, remote: str, name: str, also: tuple[str, str, str] | None = None) -> bool:
        labs.share(2, 5.0)
        labs.sync(2)
        return push(chains, remote, name, also)

    labs.share(1, 4.0)
    slow.pull(str(labs.remote), author(1))
    slow.chains.push = overtaken.__get__(slow.chains)  # type: ignore[method-assign]
    assert slow.push(str(labs.remote), author(1)), "its own records are there"
    assert labs.sync(2)[0] == 0, "but not named"
    labs.sync(1)
    assert labs.sync(2)[0] == 1 and labs.has(1) == labs.has(2) == [1.0, 2.0, 3.0, 4.0, 5.0]


def no_digest(labs: Labs) -> None:
    git(labs.remote, "update-ref", "-d", REF)


def foreign_commit(labs: Labs) -> None:
    tree = git(labs.remote, "mktree")
    commit = git(labs.remote, "-c", "user.name=x", "-c", "user.email=x", "commit-tree", tree, "-m", "x")
    git(labs.remote, "update-ref", REF, commit)


def set_back(labs: Labs) -> None:
    git(labs.remote, "update-ref", REF, f"{REF}^")


def a_record(labs: Labs) -> None:
    git(labs.remote, "update-ref", REF, f"refs/nightlab/{author(2)}")


@pytest.mark.parametrize("harm", [no_digest, foreign_commit, set_back, a_record])
def test_a_digest_that_does_not_continue_the_known_one_is_replaced(
    labs: Labs, lot: Callable[[int], None], harm: Callable[[Labs], None]
) -> None:
    labs.share(3, 4.0)
    labs.copy(3).chains.push(str(labs.remote), author(3))
    harm(labs)
    assert labs.sync(1)[0] == 1, "all are listed"
    labs.share(1, 5.0)
    labs.sync(1)
    labs.sync(2)
    assert labs.has(1) == labs.has(2) == [1.0, 2.0, 3.0, 4.0, 5.0]
    labs.share(2, 6.0)
    labs.sync(2)
    git(labs.remote, "fsck", "--strict")
    with unlisted():
        assert labs.sync(1) == (1, {})


def test_what_a_digest_names_is_checked_like_all_else(labs: Labs, lot: Callable[[int], None]) -> None:
    blob = git(labs.remote, "hash-object", "-w", "--stdin", stdin=b"{}")
    tree = git(labs.remote, "mktree", stdin=f"100644 blob {blob}\trecord.json\n".encode())
    wrong = git(labs.remote, "-c", "user.name=x", "-c", "user.email=x@x", "commit-tree", tree, "-m", "x")
    put(labs.remote, author(5), wrong)
    tip = labs.digest
    raw = f"tree {git(labs.remote, 'mktree')}\nparent {tip}\nparent {wrong}\nauthor x <x@x> 1 +0000\n"
    raw += f"committer x <x@x> 1 +0000\n\n{author(5)} {wrong}\n"
    made = git(labs.remote, "hash-object", "-w", "-t", "commit", "--stdin", stdin=raw.encode())
    git(labs.remote, "update-ref", REF, made)
    assert labs.sync(1) == (0, {"wrong commit": 1})
    labs.share(2, 4.0)
    labs.sync(2)
    assert labs.sync(1)[0] == 1 and labs.has(1) == [1.0, 2.0, 3.0, 4.0]


def test_a_remote_that_was_set_back_is_said(labs: Labs, lot: Callable[[int], None]) -> None:
    old = git(labs.remote, "rev-parse", f"refs/nightlab/{author(2)}")
    labs.share(2, 4.0)
    labs.sync(2)
    labs.sync(1)
    git(labs.remote, "update-ref", f"refs/nightlab/{author(2)}", old)
    lot(2)
    labs.sync(1)
    assert labs.sync(1) == (0, {}), "it was seen first now"
    labs.sync(2)
    assert git(labs.remote, "rev-parse", f"refs/nightlab/{author(2)}") != old, "its author sent it again"
