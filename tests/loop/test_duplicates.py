"""What was tried is known again, in other words too, and near repeats are told once; and nothing else is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.labs import GENOME

from nightlab.core.events import ProposalRefused
from nightlab.core.program.canonical import canonical_source, fingerprint
from nightlab.core.types import Candidate
from nightlab.loop.duplicates import alike, near, same_lines, touched
from nightlab.proposers import Proposal
from nightlab.storage.git import OutOfScope
from nightlab.storage.ledger import Ledger

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def planted() -> Any:
    sys.path.insert(0, str(BENCHMARKS))
    import duplicates

    sys.path.remove(str(BENCHMARKS))
    return duplicates


KERNEL = 'int f(int a) {\n    puts("// no comment");\n    return a / 2;\n}\n'


@pytest.mark.parametrize(
    ("text", "same"),
    [
        (f"/* nothing */\n{KERNEL}", True),
        (KERNEL.replace(" {", " { // what it does", 1), True),
        (KERNEL.replace("a / 2", "a /* half */ / 2").replace("a ", "a  "), False),  # layout within a line counts
        (KERNEL.replace("return", "/* return"), False),
        (KERNEL.replace("no comment", "none"), False),
        (KERNEL.replace("a / 2", "a // 2"), False),
        (KERNEL.replace("a / 2;", "a / '\"'; // '\"'"), False),
        (f"#define A \\\n\n{KERNEL}", False),
    ],
)
def test_a_comment_in_c_makes_no_other_program(text: str, same: bool) -> None:
    assert (canonical_source("kernel.c", text, "cpu") == canonical_source("kernel.c", KERNEL, "cpu")) is same
    assert canonical_source("kernel.txt", f"/* nothing */\n{KERNEL}", "cpu") != KERNEL


def test_the_same_program_in_other_words(planted: Any) -> None:
    def print_of(text: str) -> str:
        return fingerprint({"genome.py": text}, "cpu")

    for name, (old, new) in planted.SAME.items():
        assert print_of(planted.SMALL) == print_of(planted.SMALL.replace(old, new)), name


def test_another_program_is_another(planted: Any) -> None:
    def print_of(text: str) -> str:
        return fingerprint({"genome.py": text}, "cpu")

    for name, (old, new) in planted.OTHER.items():
        assert print_of(planted.SMALL) != print_of(planted.SMALL.replace(old, new)), name


# Programs that a careless renaming, inlining or sorting would take for one.
DIFFERENT = [
    ("A = 1\nB = 2\n", "A = 2\nB = 1\n"),
    ("A = 1\nB = 2\nprint(A - B)\n", "A = 1\nB = 2\nprint(B - A)\n"),
    ("A = 1\nprint(A)\n", "A = True\nprint(A)\n"),
    ("A = 1\ndef f(A):\n    return A\nprint(f(2), A)\n", "A = 1\ndef f(a):\n    return A\nprint(f(2), A)\n"),
    ("def f(n=x):\n    x = 1\n    return x\n", "def f(n=y):\n    y = 1\n    return y\n"),
    ("def f():\n    return [x for x in a], x\n", "def f():\n    return [y for y in a], y\n"),
    ("def f(x):\n    return [x for x in x]\n", "def f(x):\n    return [y for y in y]\n"),
    ("def f(x):\n    return [x for y in x]\n", "def f(x):\n    return [y for y in x]\n"),
    ("def f(a):\n    return [x for x in a for y in x]\n", "def f(a):\n    return [y for x in a for y in x]\n"),
    ("def f(a):\n    return {x: y for x, y in a}\n", "def f(a):\n    return {y: x for x, y in a}\n"),
    ("def f(a):\n    return [z := x for x in a], z\n", "def f(a):\n    return [y := x for x in a], z\n"),
    ("def f(a):\n    return [[x for y in x] for x in a]\n", "def f(a):\n    return [[y for y in x] for x in a]\n"),
    ("def f(a):\n    return [lambda x: x for x in a]\n", "def f(a):\n    return [lambda x: y for y in a]\n"),
    ("def f():\n    def g():\n        x = 1\n    return x\n", "def f():\n    def g():\n        y = 1\n    return y\n"),
    ("def f():\n    x = 1\n    return eval('x')\n", "def f():\n    y = 1\n    return eval('x')\n"),
    ("x = 1\ndef f():\n    global x\n    x = 2\nprint(x)", "y = 1\ndef f():\n    global x\n    x = 2\nprint(y)"),
    ("A = 1\nA += 1\nprint(A)\n", "A = 2\nA += 1\nprint(A)\n"),
    ("def f(): return A\nprint(f())\nA = 1\n", "A = 1\ndef f(): return A\nprint(f())\n"),
    ("def f(): return 1\ndef f(): return 2\n", "def f(): return 2\ndef f(): return 1\n"),
    ("def f(): return 1\nclass C(f): pass\n", "class C(f): pass\ndef f(): return 1\n"),
    ("print(1)\nprint(2)\n", "print(2)\nprint(1)\n"),
    ("class C:\n    a = 1\n    b = 2\n", "class C:\n    b = 1\n    a = 2\n"),
    ("v = 1\nclass C:\n    v = v\nprint(v)\n", "w = 1\nclass C:\n    v = w\nprint(w)\n"),
    ("import a as x\nprint(x)\n", "import b as x\nprint(x)\n"),
]


ALIKE = [
    ("def f(a):\n    return [x for x in a], x\n", "def f(a):\n    return [y for y in a], x\n"),
    ("def f(x):\n    return [x for x in x]\n", "def f(x):\n    return [y for y in x]\n"),
    ("A = [[x for x in x] for x in d]\nprint(A)\n", "A = [[y for y in x] for x in d]\nprint(A)\n"),
    (
        "def f(a):\n    return {k: [v for v in k] for k in a}\n",
        "def f(a):\n    return {v: [k for k in v] for v in a}\n",
    ),
    ("def f(a):\n    b = a\n    return sum(x for x in b)\n", "def f(a):\n    x = a\n    return sum(b for b in x)\n"),
]


@pytest.mark.parametrize(("one", "two"), ALIKE)
def test_a_comprehension_has_variables_of_its_own(one: str, two: str) -> None:
    assert canonical_source("g.py", one, "cpu") == canonical_source("g.py", two, "cpu")


@pytest.mark.parametrize(("one", "two"), DIFFERENT)
def test_careless_ways_to_see_things_as_equal(one: str, two: str) -> None:
    assert canonical_source("g.py", one, "cpu") != canonical_source("g.py", two, "cpu")


def test_names_that_a_frozen_file_reads_stay() -> None:
    one, two = ("RATE = 1\nprint(RATE)\n", "SPEED = 1\nprint(SPEED)\n")
    assert canonical_source("g.py", one, "cpu") == canonical_source("g.py", two, "cpu")
    assert canonical_source("g.py", one, "cpu", {"RATE"}) != canonical_source("g.py", two, "cpu", {"RATE"})
    assert canonical_source("g.rs", one, "cpu") != canonical_source("g.rs", two, "cpu"), (
        "of other languages the text counts"
    )
    assert canonical_source("g.py", "def", "cpu") == "def"


numbers = st.integers(-5, 5)


@given(st.lists(st.tuples(st.sampled_from("abcd"), numbers, st.sampled_from("+-*")), min_size=1, max_size=6), numbers)
def test_programs_of_one_form_do_the_same(steps: list[tuple[str, int, str]], start: int) -> None:
    """Two renderings of drawn steps, with names of their own, agree; and the form runs to the same end as either."""

    def program(names: dict[str, str]) -> str:
        lines = [f"{names[name]} = {start}" for name in "abcd"]
        before = "a"
        for name, number, operator in steps:
            lines.append(f"{names[name]} = {names[before]} {operator} ({number})")
            before = name
        lines.append(f"return {names['a']}, {names['b']}, {names['c']}, {names['d']}")
        return "\n    ".join(["def f():", *lines]) + "\nresult(f())"

    def end(text: str) -> list[Any]:
        outcome_summary: list[Any] = []
        exec(text, {"result": lambda *values: outcome_summary.extend(values)})
        return outcome_summary

    one = program({name: name for name in "abcd"})
    two = program(dict(zip("abcd", ("k", "z", "m", "b"), strict=True)))
    assert canonical_source("g.py", one, "cpu") == canonical_source("g.py", two, "cpu") and end(one) == end(two)
    other = program({"a": "b", "b": "a", "c": "c", "d": "d"}).replace("return b, a", "return a, b")
    if end(other) != end(one):
        assert canonical_source("g.py", other, "cpu") != canonical_source("g.py", one, "cpu")


def test_the_ledger_finds_a_program_by_an_index(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    for n in range(3):
        ledger.propose(Candidate(f"c{n}", "c0", f"t{n}", "tuner", "x", program=f"p{n % 2}" if n else ""))
    found = ledger.find_program("p0")
    assert found and found.number == 2 and ledger.find_program("") is None
    seen: list[str] = []
    ledger._db.set_trace_callback(seen.append)
    ledger.find_program("p0")
    ledger._db.set_trace_callback(None)
    plan = " ".join(str(row) for row in ledger._db.execute(f"EXPLAIN QUERY PLAN {seen[0]}"))
    assert "experiments_program" in plan and "SCAN" not in plan


def test_near_is_little_beside_the_way() -> None:
    before = {"A": 1.0, "B": 4, "C": "x"}
    assert near(before, {**before, "A": 2.0}, {**before, "A": 2.04})
    assert not near(before, {**before, "A": 2.0}, {**before, "A": 2.2})
    assert not near(before, {**before, "A": 1.1}, {**before, "A": 0.9}), "the other way is not near"
    assert not near(before, {**before, "B": 5}, {**before, "B": 6})
    assert not near(before, {**before, "A": 2.0}, {**before, "A": 2.0, "B": 5})
    assert not near(before, {**before, "C": "y"}, {**before, "C": "z"})
    assert not alike("Try a longer warmdown of the rate", "try a shorter warm-up of the rate")
    assert alike("Try a longer warmdown of the learning rate", "a longer warmdown of the learning rate")


def test_numbers_are_words_of_a_hypothesis() -> None:
    assert not alike("1.0 -> 2.0", "2.0 -> 3.0") and not alike("add 3", "add 30") and alike("add 3", "Add 3!")


@pytest.mark.parametrize(("program", "same"), [(1, False), (40, True)])
def test_that_a_short_program_was_touched_in_the_same_lines_says_little(program: int, same: bool) -> None:
    patch = "diff --git a/g b/g\n--- a/g\n+++ b/g\n@@ -1 +1 @@\n-Answer briefly.\n+{}\n"
    one, two = patch.format("Think about it step by step."), patch.format("You are an expert in algebra.")
    assert same_lines(one, two, program) is same
    assert same_lines(one, patch.format("Think about it, step by step!"), program)


def test_touched_lines_of_a_patch() -> None:
    patch = "diff --git a/g b/g\n--- a/g\n+++ b/g\n@@ -3,3 +3,3 @@\n a\n-b\n+c\n d\n"
    assert touched(patch) == [("-", "diff --git a/g b/g", 4), ("+", "diff --git a/g b/g", 5)]


# -- in a session ----------------------------------------------------------------------------------------


def test_a_session_refuses_the_same_and_the_near_once(make_lab: Any) -> None:
    genome = GENOME + "RATE = 0.5\nTWICE = A * RATE\n"
    lab = make_lab(genome)
    _, session = lab.run()
    from nightlab.core.observer import Observer
    from nightlab.loop.candidate_queue import CandidateQueue

    candidates = CandidateQueue(session, Observer())
    base = session.base

    def make(text: str, hypothesis: str = "x", proposer: str = "tuner", source: str = "") -> bool:
        proposal = Proposal(proposer, hypothesis, {"genome.py": text}, source=source)
        candidates.proposers.tell = lambda *outcome_summary: None  # type: ignore[method-assign]
        ready = candidates._make_ready(proposal, base, None, hope=True)
        if ready and ready.candidate:
            candidates.making.admit(ready.candidate)
        return ready is not None

    def why() -> str:
        return str(session.ledger.events(ProposalRefused, last=1)[0].reason)

    assert make(genome.replace("A = 4.0", "A = 2.0"))
    assert not make(genome.replace("A = 4.0", "A = 2.0").replace("RATE", "SPEED"))
    assert "same program, in other words, as experiment 1: it is under way" in why()
    near_it = genome.replace("A = 4.0", "A = 2.01")
    assert not make(near_it) and "experiment 1 is nearly this: it is under way" in why()
    assert candidates._refused == 1, "a near one never ends a session"
    assert make(near_it), "said once"
    assert make(genome.replace("A = 4.0", "A = 2.02"), proposer="patches", source="1.patch"), "a queue has its way"
    assert make(genome.replace("A = 4.0", "A = 3.0"))
    # The same lines with the same words; then with others.
    code = genome.replace("TWICE = A * RATE", "TWICE = A * RATE + 1")
    assert make(code, "add one to the product of both")
    assert not make(code.replace("+ 1", "+ 2"), "add one to the product of both")
    assert make(code.replace("+ 1", "+ 3"), "subtract a little elsewhere")
    with pytest.raises(OutOfScope, match="same genome as experiment 0"):
        candidates.making.admit(candidates.making.baseline())


@pytest.mark.integration
def test_the_benchmark_counts_them() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "duplicates.py"), "--sizes", "300", "--labs", "speed"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ms to find one" in done.stdout
