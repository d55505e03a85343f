"""Checkpoints come from candidates: what is malformed, too large or not finite is named, and nothing of it is kept."""

from __future__ import annotations

import json
from array import array
from pathlib import Path

import nightlab_guest
import pytest

from nightlab.storage.checkpoints import LENGTH, CheckpointStore, UnfitCheckpoint

W = memoryview(array("d", [1.0, 2.0, 3.0, 4.0]))


def saved(place: Path, **arrays: object) -> Path:
    """A file as the guest writes it."""
    with place.open("wb") as file:
        nightlab_guest._write_arrays(file, arrays)
    return place


def store(folder: Path, most: int = 2**20) -> CheckpointStore:
    return CheckpointStore(folder / "kept", most)


def test_a_checkpoint_is_kept_by_its_hash_and_dropped_when_no_member_needs_it(tmp_path: Path) -> None:
    kept, content = store(tmp_path), saved(tmp_path / "a", w=W, n=array("q", [7])).read_bytes()
    digest = kept.adopt(tmp_path / "a")
    assert kept.path(digest).read_bytes() == content
    assert not (tmp_path / "a").exists()
    assert kept.adopt(tmp_path / "a") == digest, "a kill after it was taken in: the same is said again"
    other = kept.adopt(saved(tmp_path / "b", w=W.cast("B").cast("d"), n=array("q", [8])))
    kept.keep_only({digest, other}, {other})
    assert [kept.path(one).exists() for one in (digest, other)] == [False, True]


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"w": array("d", [1.0, float("nan")])}, "'w' is not finite"),
        ({"w": array("f", [float("inf")])}, "'w' is not finite"),
        ({"w": W, "v": W}, "'v' is d\\[4\\], that of other members missing"),
        ({"w": W.cast("B").cast("d", (2, 2))}, "'w' is d\\[2, 2\\], that of other members d\\[4\\]"),
        ({}, "'w' is missing"),
        ({"w": array("d", [0.0] * 2**18)}, "2.0 MB, and population.checkpoint of lab.toml allows 1"),
    ],
)
def test_arrays_that_no_member_can_go_on_from(tmp_path: Path, arrays: dict[str, object], words: str) -> None:
    kept = store(tmp_path)
    kept.adopt(saved(tmp_path / "first", w=W))
    with pytest.raises(UnfitCheckpoint, match=words):
        kept.adopt(saved(tmp_path / "next", **arrays))
    assert len(list(kept.folder.iterdir())) == 2, "the first, and what its arrays are"


def listed(entries: object, more: bytes = b"") -> bytes:
    text = json.dumps(entries).encode()
    return LENGTH.pack(len(text)) + text + more


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "nothing was handed over: call trial.save"),
        (b"", "nothing was handed over"),
        (b"\1", "its list of arrays"),
        (LENGTH.pack(2**60) + b"[]", "its list of arrays would have"),
        (LENGTH.pack(5) + b"{\xff{{{", "can't be read"),
        (listed([["w", "d", [2**40]]]), "'w' is cut off"),
        (listed([["w", "d", [-1]]]), "an entry that is none"),
        (listed([["w", "P", [1]]]), "an entry that is none"),
        (listed([["w", "d", [1.5]]]), "an entry that is none"),
        (listed([["w", "d", [1] * 5]]), "an entry that is none"),
        (listed([["w", "d"]]), "can't be read"),
        (listed([["w", "B", [0]], ["w", "B", [0]]]), "one name"),
        (listed([], b"more"), "its arrays 10"),
    ],
)
def test_files_that_hold_something_else(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "a").write_bytes(content)
    with pytest.raises(UnfitCheckpoint, match=words):
        store(tmp_path).adopt(tmp_path / "a")
