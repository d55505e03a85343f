"""Genomes are read in a process of its own: within limits, and a stop ends the wait."""

from __future__ import annotations

import os
import random
import resource
from contextlib import nullcontext
from typing import Any

import pytest
from support.labs import GENOME

from nightlab.core.config import LabConfig
from nightlab.core.program import facts, worker
from nightlab.core.program.facts import SessionContext, program_facts
from nightlab.loop import program_reader
from nightlab.loop.candidate_builder import CandidateBuilder
from nightlab.loop.program_reader import ProgramReader
from nightlab.proposers import Proposal
from nightlab.storage.git import OutOfScope

pytestmark = pytest.mark.integration


CONTEXT = SessionContext("cpu", {"outside"})


def reader(tick: Any = lambda: None) -> ProgramReader:
    return ProgramReader(lambda: CONTEXT, tick)


def test_the_process_says_what_the_function_says() -> None:
    before, after = {"a.py": "A = 1\nB = (1, 2)\n"}, {"a.py": "A = 2\nB = (1, 2)\n"}
    asked = reader()
    found = asked.facts(after, before, ["a.py"])
    wanted = program_facts(after, before, ["a.py"], CONTEXT)
    assert (found.changes, found.program, found.lines) == (["A 1 → 2"], wanted.program, 2)
    assert asked.facts({"a.py": "A ="}, before, ["a.py"]).refusal.startswith("it does not parse: a.py, line 1")
    assert asked.facts(before, before, ["a.py"]).refusal.startswith("it changes nothing but layout")
    asked.close()


def test_a_process_with_more_than_a_thousand_files_open_reads_too() -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 1200:
        pytest.skip("fewer files may be open here")
    first = os.open(os.devnull, os.O_RDONLY)
    held = [first, *(os.dup(first) for _ in range(1100))]
    try:
        asked = reader()
        assert asked.facts({"a.py": "A = 1\n"}).constants == {"A": 1}
        asked.close()
    finally:
        for file in held:
            os.close(file)


def test_the_same_moves_are_found_in_that_process_too() -> None:
    asked = reader()
    moved = asked.same_moves("a.py", "A = 1\n", "A = 2\n", "A = 1\nB = 3\n", "cpu")
    assert moved == "A = 2\nB = 3\n" and asked.same_moves("a.py", "A = 1\n", "A = 2\nB = 1\n", "A = 1\n", "cpu") is None
    assert asked.facts({"a.py": "A = 1\n"}).constants == {"A": 1}
    asked.close()


def test_a_genome_that_takes_too_long_is_refused_and_the_next_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program_reader, "WALL_SECONDS", 0.0)
    asked = reader()
    with pytest.raises(OutOfScope, match="takes more than 10 s or 2 GB"):
        asked.facts({"a.py": "A = 1\n"})
    monkeypatch.undo()
    assert asked.facts({"a.py": "A = 1\n"}).constants == {"A": 1}
    assert worker.CPU_SECONDS == 10


def test_a_genome_whose_constants_take_long_to_find_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session looks for them in its own process, where a Ctrl-C waits for it."""
    asked, before = reader(), {"a.py": ""}
    slow = "x = f'" + "{a}" * 25_000 + "'\n"  # half a second
    assert asked.facts({"a.py": slow}, before, ["a.py"]).refusal.startswith("parsing a.py takes more than 0.25 s")
    large = "".join(f"def f{n}(x):\n    return (x + {n}) * 2\n" for n in range(1000))  # 37 kB of a usual program
    assert not asked.facts({"a.py": large}, before, ["a.py"]).refusal
    asked.close()
    monkeypatch.setattr(facts, "_seconds", lambda text, device: len(text) / 1000)
    slow = "x = 1\n" * 100
    assert program_facts({"a.py": slow}, before, ["a.py"], CONTEXT).refusal.startswith("parsing a.py takes")
    assert program_facts({"a.py": slow}, {"a.py": slow}, (), CONTEXT).program, "the baseline is the user's own"
    more = {"a.py": f"{slow}A = 1\n"}
    assert not program_facts(more, {"a.py": slow}, ["a.py"], CONTEXT).refusal, "its parent takes as long"


@pytest.mark.parametrize(
    ("passes", "refused"), [((0.1,), 0), ((0.3, 0.0, 0.1), 0), ((0.3, 0.2), 0), ((0.9, 0.2, 0.4), 1)]
)
def test_one_slow_pass_is_no_refusal(monkeypatch: pytest.MonkeyPatch, passes: tuple[float, ...], refused: int) -> None:
    """A pass over the file, one over its parent's, and one more over the file, on a machine that is busy."""
    seconds = iter(passes)
    monkeypatch.setattr(facts, "_seconds", lambda *_: next(seconds))
    found = facts.program_facts({"a.py": "A = 2\n"}, {"a.py": "A = 1\n"}, ["a.py"], facts.SessionContext("cpu"))
    assert bool(found.refusal) == refused and next(seconds, None) is None


def test_a_stop_is_heard_while_a_genome_is_read() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    slow = "x = f'" + "{a}" * 40_000 + "'\n"  # minutes of parsing
    with pytest.raises(KeyboardInterrupt):
        reader(stop).facts({"a.py": slow}, {"a.py": ""}, ["a.py"])


def test_texts_that_are_no_texts_are_refused_by_name(make_lab: Any, tmp_path: Any) -> None:
    from nightlab.session.session import Session
    from nightlab.storage.git import Repo

    lab = make_lab()
    session = Session.create(Repo(lab.folder), "t")
    making, base = CandidateBuilder(session), session.base
    patch = "--- a/genome.py\n+++ b/genome.py\n@@ -1 +1 @@\n-A = 4.0\n+A = 5.0\n"
    for proposal, said in (
        (Proposal("p", "x", {"genome.py": "A = '\ud800'\n"}), "genome.py is no text: it holds a lone surrogate"),
        (Proposal("p", "x", patch=patch + "\udfff"), "the patch is no text"),
        (Proposal("p", "x", {"a\nb.py": "A = 1\n"}), "is not a file of the lab"),
        (Proposal("p", "x", {f"a{n}.py": "" for n in range(501)}), "it changes 501 files"),
        (Proposal("p", "x", patch="x" * 2_000_001), "the patch holds 2,000,001 bytes"),
        (Proposal("p", "x", patch=f"diff\nGIT binary patch\n{patch}"), "binary"),
        (Proposal("p", "x", {"genome.py": GENOME + "X = 1\0\n"}), "it does not parse"),
    ):
        with pytest.raises(OutOfScope, match=said):
            making.realise(proposal, base)
    said = "why\0\ud800\nnot " * 70_000  # a megabyte
    made = making.realise(Proposal("p", said, {"genome.py": GENOME.replace("4.0", "5.0")}), base)
    assert made.hypothesis.startswith("why not why not") and len(made.hypothesis) <= 400
    session.close()


@pytest.mark.parametrize(
    ("information", "said"),
    [
        ("", ["looks like data", "bytes of information"]),
        ('literals = "any"', ["", "bytes of information"]),
        ('growth = "unlimited"', ["looks like data", ""]),
        ('growth = "unlimited"\nliterals = "any"', ["", ""]),
        ('growth = "40KB"', ["looks like data", ""]),
    ],
)
def test_the_contract_says_what_a_genome_may_carry(make_lab: Any, information: str, said: list[str]) -> None:
    draw = random.Random(0)
    literal = GENOME + f"W = {draw.randbytes(3000)!r}\n"
    comments = GENOME + "X = 1\n" + "".join(f"# {draw.randbytes(40).hex()}\n" for _ in range(500))
    session = make_lab(more=f"\n[information]\n{information}\n").session()
    making = CandidateBuilder(session)
    for text, why in zip((literal, comments), said, strict=True):
        proposal = Proposal("p", "x", {"genome.py": text})
        with pytest.raises(OutOfScope, match=why) if why else nullcontext():
            making.realise(proposal, session.base)
    session.close()


@pytest.mark.parametrize("growth", ["much", "-1KB", "", "nan"])
def test_a_limit_on_information_that_is_no_size_is_named(growth: str) -> None:
    with pytest.raises(ValueError, match="growth"):
        LabConfig.model_validate(
            {
                "name": "x",
                "genome": ["g.py"],
                "metric": {"name": "m"},
                "command": "x",
                "information": {"growth": growth},
            }
        )


def test_a_genome_file_or_an_idea_that_is_no_plain_file_is_named(make_lab: Any, nightlab: Any) -> None:
    lab = make_lab(proposer="patches")
    lab.write("ideas/0-note.txt", "x")
    os.mkfifo(lab.folder / "ideas" / "1-pipe.patch")
    (lab.folder / "ideas" / "2-link.patch").symlink_to("/etc/hostname")
    done = nightlab("run", "--experiments", "3", "--plain", cwd=lab)
    assert done.code == 0 and "Traceback" not in done.out + done.err
    assert "1-pipe.patch is a pipe, not a plain file" in done.out + done.err
    assert "2-link.patch is a link that leaves" in done.out + done.err
    (lab.folder / "genome.py").unlink()
    os.mkfifo(lab.folder / "genome.py")
    done = nightlab("try", "-m", "x", "--plain", cwd=lab)
    assert done.code == 1 and "genome.py is a pipe" in done.err
