"""Genomes that are not UTF-8: what is made of them has the same bytes, but for what was changed."""

from __future__ import annotations

from typing import Any

import pytest

from nightlab.core.source_bytes import encode_source
from nightlab.loop.candidate_builder import CandidateBuilder
from nightlab.proposers import Proposal
from nightlab.proposers.patches import PatchQueue
from nightlab.storage.git import OutOfScope, Repo

pytestmark = pytest.mark.integration
LATIN = "# -*- coding: latin-1 -*-\nA = 4.0  # café\n#\n#\n#\n#\n#\n#\nB = 8\n# thé\n".encode("latin-1")
GENOMES = {
    "Latin-1": LATIN,
    "a byte-order mark and CRLF": b"\xef\xbb\xbfA = 4.0\r\n#\r\n#\r\n#\r\n#\r\n#\r\n#\r\nB = 8\r\n",
    "undeclared": b"A = 4.0 # \xe9\n#\n#\n#\n#\n#\n#\n#\nB = 8",
}


@pytest.fixture(params=GENOMES.values(), ids=list(GENOMES))
def raw(request: Any) -> bytes:
    return bytes(request.param)


@pytest.fixture
def repo(make_lab: Any, raw: bytes) -> Repo:
    lab = make_lab()
    (lab.folder / "genome.py").write_bytes(raw)
    lab.commit()
    return Repo(lab.folder)


def changed(raw: bytes, *, a: bytes = b"4.0", b: bytes = b"8") -> bytes:
    return raw.replace(b"A = 4.0", b"A = " + a).replace(b"B = 8", b"B = " + b)


def bytes_at(repo: Repo, commit: str) -> bytes:
    return repo.contents(commit, ["genome.py"])["genome.py"]


def test_files_patches_tries_and_recombinations_keep_every_other_byte(repo: Repo, raw: bytes) -> None:
    base = repo.resolve() or ""
    text = repo.read(base, "genome.py") or ""
    assert encode_source(text) == raw
    one = repo.commit_files(base, {"genome.py": text.replace("A = 4.0", "A = 1.0")}, "files")
    assert bytes_at(repo, one) == changed(raw, a=b"1.0")

    mine = changed(raw, b=b"3")
    (repo.lab / "genome.py").write_bytes(mine)
    start, patch = repo.working_patch(["genome.py"])
    assert start == base and bytes_at(repo, repo.commit_patch(base, patch, "a try")) == mine

    queue = repo.lab / "ideas"
    queue.mkdir()
    (queue / "one.patch").write_bytes(patch.encode("utf-8", "surrogateescape"))
    queued = PatchQueue(queue, set()).propose(None)  # type: ignore[arg-type]
    assert queued
    both = repo.commit_patch(one, queued.patch, "both")
    assert bytes_at(repo, both) == changed(raw, a=b"1.0", b=b"3")
    again = repo.commit_files(base, {"genome.py": repo.read(both, "genome.py") or ""}, "as files")
    assert repo.tree(again) == repo.tree(both)


def test_a_genome_file_deleted_by_hand_is_a_patch(make_lab: Any) -> None:
    lab = make_lab(files={"extra.py": "x = 1\n"})
    (lab.folder / "extra.py").unlink()
    repo = Repo(lab.folder)
    start, patch = repo.working_patch(["extra.py"])
    assert repo.read(repo.commit_patch(start, patch, "without"), "extra.py") is None


def test_a_character_that_the_genomes_encoding_lacks_is_refused_by_name(make_lab: Any) -> None:
    lab = make_lab()
    (lab.folder / "genome.py").write_bytes(LATIN)
    lab.commit()
    session = lab.session()
    text = session.genome(session.base)["genome.py"]
    builder = CandidateBuilder(session)
    made = builder.realise(Proposal("model", "tea", {"genome.py": text.replace("A = 4.0", "A = 2.0")}), session.base)
    assert bytes_at(session.repo, made.commit) == changed(LATIN, a=b"2.0") and made.changes == ("A 4 → 2",)
    with pytest.raises(OutOfScope, match=r"genome\.py, line 2: latin-1 has no '\\u2192'"):
        builder.realise(Proposal("model", "an arrow", {"genome.py": text.replace("café", "→")}), session.base)
    session.close()
