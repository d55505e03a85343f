"""Reading what others wrote takes time in proportion to its size, waits for nothing, and says what it refuses."""

from __future__ import annotations

import ast
import os
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.growth import growth

from nightlab.commons.finding import libraries_of
from nightlab.core.files import NotReadable, read_plain
from nightlab.core.program import canonical, wasm
from nightlab.core.program.constants import LONGEST_COMMENT, MOST, change_constants, find_constants
from nightlab.core.source import LARGE, code_lines, same_program
from nightlab.core.text import typed


def definitions(count: int) -> str:
    return "".join(f"def f{n}(x):\n    return x\n" for n in range(count))


def constants(count: int) -> str:
    return "; ".join(f"C{n} = {n}" for n in range(count)) + "\n"


@pytest.mark.parametrize(
    ("work", "make", "size"),
    [
        (lambda text: canonical.canonical_source("a.py", text, "cpu"), definitions, 100),
        (lambda text: canonical.canonical_source("a.py", text, "cpu"), constants, 200),
        (lambda text: canonical.canonical_source("a.py", text, "cpu"), lambda n: "x = a" + ".b" * n + "\n", 100),
        (lambda text: list(wasm.tokens(text)), lambda n: "(;" * n, 2000),
        (lambda text: list(wasm.tokens(text)), lambda n: '"' + '\\"' * n, 2000),
        (lambda text: change_constants(text, "cpu", dict.fromkeys(find_constants(text, "cpu"), 7)), constants, 100),
    ],
)
def test_twice_the_text_takes_twice_the_time(
    work: Callable[[str], object], make: Callable[[int], str], size: int
) -> None:
    assert growth(work, make, size) < 10


NAMES = st.sampled_from("abcd")
ROWS = st.lists(st.tuples(NAMES, st.sets(NAMES, max_size=2), st.integers(0, 3)), max_size=8)


@settings(max_examples=100)
@given(ROWS)
def test_the_order_of_definitions_is_the_least_that_their_needs_allow(
    given_row: list[tuple[str, set[str], int]],
) -> None:
    """Against the definition, one by one: of those that nothing before them holds back, the smallest comes first."""
    row = [(name, needs, ast.parse(f"x = {n}").body[0]) for name, needs, n in given_row]
    left, wanted = [(ast.dump(statement), *one) for one in row if (statement := one[2])], []
    while left:
        free = [
            one
            for n, one in enumerate(left)
            if not any(old[1] == one[1] or old[1] in one[2] or one[1] in old[2] for old in left[:n])
        ]
        first = min(free, key=lambda one: one[0])
        left.remove(first)
        wanted.append(first[0])
    assert [ast.dump(statement) for statement in canonical._row(row)] == wanted


def test_what_is_too_much_is_left_out() -> None:
    many = "".join(f"C{n} = {n}\n" for n in range(MOST + 50))
    assert len(find_constants(many, "cpu")) == MOST
    assert find_constants("A = 1\n" + "#" * LARGE, "cpu") == {}
    assert not find_constants(f"A = 1  # [{'1' * 2 * LONGEST_COMMENT}]\n", "cpu")["A"].hint
    large = "x = 1\n" * (LARGE // 5)
    assert code_lines("a.py", large) == large.count("\n")
    assert not same_program("a.py", large, large + "# more\n"), "compared as text"


def test_comments_of_webassembly_nest_and_those_that_never_end_are_text() -> None:
    assert list(wasm.tokens('(a (; one (; two ;) ;) "s;;\\"" b) ;; c')) == ["(", "a", '"s;;\\""', "b", ")"]
    assert wasm.without_comments("a (; b\n ;) c ;; d\ne") == "a  c \ne"
    assert list(wasm.tokens("a (; b")) == ["a", "(; b"] and list(wasm.tokens('a "b c')) == ["a", '"b c']


def test_only_plain_files_inside_a_folder_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = tmp_path / "lab"
    lab.mkdir()
    (lab / "a").write_text("text")
    (lab / "inner").symlink_to(lab / "a")
    assert read_plain(lab / "a", 4, lab) == read_plain(lab / "inner", 4, lab) == b"text"
    with pytest.raises(NotReadable, match="more than 3 bytes"):
        read_plain(lab / "a", 3)
    (tmp_path / "key").write_text("secret")
    (lab / "outer").symlink_to(tmp_path / "key")
    with pytest.raises(NotReadable, match="outer is a link that leaves"):
        read_plain(lab / "outer", 100, lab)
    os.mkfifo(lab / "fifo")
    with pytest.raises(NotReadable, match="fifo is a pipe, not a plain file"):
        read_plain(lab / "fifo", 100)
    (lab / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(lab)  # a socket's address is short
        listening.bind("socket")
        for name in ("socket", "loop"):
            with pytest.raises((NotReadable, OSError)):
                read_plain(lab / name, 100)
    with pytest.raises(NotReadable, match="a device"):
        read_plain(Path("/dev/zero"), 100)


def test_an_argument_with_lone_surrogates_is_text_with_marks() -> None:
    assert typed("a\ud800b\udcc3\udca4") == "a\ufffdbä"


@pytest.mark.parametrize("more", ["x = " + "-" * 20_000 + "1\n", "x = 1\n" * LARGE], ids=("deep", "large"))
def test_a_finding_of_a_genome_that_is_too_much_to_parse_names_no_library_of_it(more: str) -> None:
    files = {"a.py": "import torch\n" + more, "b.py": "import numpy.linalg\nfrom . import odd\n"}
    session = SimpleNamespace(genome=lambda commit: files, repo=SimpleNamespace(files=lambda commit: [*files]))
    assert libraries_of(session, "").keys() == {"numpy"}  # type: ignore[arg-type]
