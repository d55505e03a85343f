"""Edits in a model's answer: found as written, applied to the letter, and refused with words that help to mend them."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nightlab.proposers.edits import FORMAT, MIDDLE, REPLACE, SEARCH, BadEdit, Edit, apply_edits, parse_edits

GENOME = {"a.py": "A = 1\nB = 2\nAA = 1\nB = 2\n"}
TWO = {**GENOME, "sub/b.py": "C = 3\n"}


def block(old: str, new: str, path: str = "a.py") -> str:
    return f"{path}\n{SEARCH}\n{old}{MIDDLE}\n{new}{REPLACE}\n"


def test_an_answer_in_the_format_that_is_asked_for() -> None:
    edits = parse_edits("I think so.\n\n```python\n" + block("A = 1\n", "A = 3\n") + "```\n", GENOME)
    assert apply_edits(GENOME, edits) == {"a.py": "A = 3\nB = 2\nAA = 1\nB = 2\n"}
    assert parse_edits(FORMAT, {})[0].path == "path/of/the/file.py"


@pytest.mark.parametrize("path", ["`sub/b.py`", "**sub/b.py**", "### sub/b.py", "sub/b.py:", "sub/b.py\n```python"])
def test_a_path_is_found_however_it_is_dressed(path: str) -> None:
    assert apply_edits(TWO, parse_edits(block("C = 3\n", "C = 4\n", path), TWO)) == {"sub/b.py": "C = 4\n"}


def test_the_only_file_needs_no_path_and_a_new_one_no_search() -> None:
    assert apply_edits(GENOME, parse_edits(block("A = 1\n", "", "Here it is:"), GENOME))["a.py"].startswith("B = 2")
    assert apply_edits(TWO, parse_edits(block("", "D = 4\n", "new.py"), TWO)) == {"new.py": "D = 4\n"}


def test_several_edits_apply_one_after_the_other() -> None:
    text = block("A = 1\n", "A = 5\n") + block("A = 5\nB = 2\n", "A = 6\n") + block("C = 3\n", "", "sub/b.py")
    assert apply_edits(TWO, parse_edits(text, TWO)) == {"a.py": "A = 6\nAA = 1\nB = 2\n", "sub/b.py": ""}


FAULTS = {
    "no edit at all": ("no idea", "there is no edit"),
    "a block without end": (f"a.py\n{SEARCH}\nA = 1\n{MIDDLE}\n", "does not end"),
    "nowhere": (block("A = 9\n", ""), "occurs in a.py nowhere"),
    "part of a line": (block(" = 1\n", ""), "occurs in a.py nowhere"),
    "twice": (block("B = 2\n", ""), "more than once"),
    "blank": (block("\n", ""), "nowhere"),
    "no such file": (block("C = 3\n", "", "c.py") + block("A = 1\n", ""), "there is no file 'c.py'"),
    "too many": (block("A = 1\n", "A = 1\n") * 101, "at most 100"),
}


@pytest.mark.parametrize(("text", "said"), FAULTS.values(), ids=list(FAULTS))
def test_what_does_not_fit_is_told(text: str, said: str) -> None:
    with pytest.raises(BadEdit, match=said):
        apply_edits(TWO, parse_edits(text, TWO))


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(BadEdit, match=r"(?s)edit 1: .*nowhere.*edit 3: .*more than once"):
        apply_edits(TWO, parse_edits(block("X\n", "") + block("A = 1\n", "A = 2\n") + block("B = 2\n", ""), TWO))


LINES = st.lists(st.sampled_from(["a", "b", "ab", "", "  a", "x = 1"]), min_size=1, max_size=12)


@example(before=["a", ""], after=["a"], at=0, count=2, last="")
@given(before=LINES, after=LINES, at=st.integers(0, 11), count=st.integers(1, 4), last=st.sampled_from(["", "\n"]))
def test_an_edit_that_applies_replaces_just_those_lines(
    before: list[str], after: list[str], at: int, count: int, last: str
) -> None:
    text = "\n".join(before) + last
    before = text.removesuffix("\n").split("\n")  # the lines it has: a blank one at the end may only end the one before
    old = before[at : at + count]
    places = [n for n in range(len(before)) if before[n : n + len(old)] == old]
    edit = Edit("f", "".join(f"{x}\n" for x in old), "".join(f"{x}\n" for x in after))
    try:
        made = apply_edits({"f": text}, (edit,))
    except BadEdit:
        assert len(places) != 1 or not any(old)
        return
    assert places == [at]
    wanted = "".join(f"{x}\n" for x in [*before[:at], *after, *before[at + len(old) :]])
    assert made.get("f", text).rstrip("\n") == wanted.rstrip("\n")


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        apply_edits(GENOME, parse_edits(text, GENOME))
    except BadEdit as fault:
        assert str(fault)
