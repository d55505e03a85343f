"""Regions: which lines of a genome file may change, by markers in the comments of any language."""

from __future__ import annotations

import pytest

from nightlab.core.regions import EVOLVE_BLOCK, frozen_change, regions, unread

PROGRAM = """\
N = 26
# EVOLVE-BLOCK-START
RATE = 0.1
def place(n):
    return n
# EVOLVE-BLOCK-END
def run():
    return place(N)
"""


@pytest.mark.parametrize(
    "comment",
    [
        *("# {}", "// {}", "/* {} */", "-- {}", "; {}", "% {}", "<!-- {} -->", "(* {} *)", "    #{}", "REM {}", "! {}"),
        *("# --- {} ---", "# ==={}===", "' {}", '" {}', "C {}", "x = 1  # {}", "f('a');  // {}", "int x; /* {} */"),
    ],
)
def test_markers_in_any_comment_syntax(comment: str) -> None:
    start, end = (comment.format(marker) for marker in EVOLVE_BLOCK)
    found = regions(f"a\n{start}\nb\nc\n{end}\nd\n", EVOLVE_BLOCK)
    assert found is not None and found.free == {3, 4} and not found.fault


def test_a_marker_in_a_string_or_a_longer_word_is_none() -> None:
    text = 'WORDS = "EVOLVE-BLOCK-START"\n# EVOLVE-BLOCK-STARTER\nprint("# EVOLVE-BLOCK-END")\n'
    text += 'x = "  # EVOLVE-BLOCK-END"\n# write between # EVOLVE-BLOCK-START and the end\n'
    assert regions(text, EVOLVE_BLOCK) is None
    said = unread("p.py", text, EVOLVE_BLOCK)
    assert said.startswith("p.py, lines 1, 2, 3, 4, 5: ") and said.endswith("and all of the file may change")
    assert not unread("p.py", PROGRAM, EVOLVE_BLOCK) and not unread("p.py", text, None)
    assert unread("p.py", PROGRAM + "# here EVOLVE-BLOCK-END\n", EVOLVE_BLOCK).endswith("it is no marker")
    assert not frozen_change("p.py", text, "anything", EVOLVE_BLOCK), "without markers all of it may change"
    assert not frozen_change("p.py", PROGRAM, "anything", None)


@pytest.mark.parametrize(
    "line",
    ['x = """ # {}', "x = ''' # {}", '    " {}",', "    ' {}',", "    ' {}'", 'x = "a" + "b  # {}'],
)
def test_a_marker_in_a_string_that_a_line_opens_is_none(line: str) -> None:
    start, end = (line.format(marker) for marker in EVOLVE_BLOCK)
    assert regions(f"a\n{start}\nb\n{end}\n", EVOLVE_BLOCK) is None


@pytest.mark.parametrize("line", ["c == '\"'  # {}", 'f("a", "\\"");  // {}', '"""  # {}', "fn f<'a>() {{  // {}"])
def test_a_marker_after_a_quote_that_opens_no_string_is_one(line: str) -> None:
    start, end = (line.format(marker) for marker in EVOLVE_BLOCK)
    found = regions(f"a\n{start}\nb\n{end}\n", EVOLVE_BLOCK)
    assert found is not None and not found.fault


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("RATE = 0.1", "RATE = 0.2"),
        ("    return n\n", "    x = n\n    return x\n"),
        ("RATE = 0.1\ndef place(n):\n    return n\n", ""),
    ],
)
def test_changes_inside_are_free(old: str, new: str) -> None:
    assert frozen_change("p.py", PROGRAM, PROGRAM.replace(old, new), EVOLVE_BLOCK) == ""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("N = 26", "N = 1"),
        ("    return place(N)\n", "    return 1e9\n"),
        ("# EVOLVE-BLOCK-START\n", ""),
        ("# EVOLVE-BLOCK-END\n", "# EVOLVE-BLOCK-END\nfake = 1\n"),
        ("RATE = 0.1\n", "# EVOLVE-BLOCK-END\nfake = 1\n# EVOLVE-BLOCK-START\n"),
        (PROGRAM, ""),
    ],
)
def test_changes_outside_are_named(old: str, new: str) -> None:
    said = frozen_change("p.py", PROGRAM, PROGRAM.replace(old, new), EVOLVE_BLOCK)
    assert "p.py: it changes a frozen line" in said and "EVOLVE-BLOCK-START" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# A\nx\n", "line 1: A without a B after it"),
        ("x\n# B\n", "line 2: B without a A before it"),
        ("# A\n# A\n# B\n", "line 2: a second A, before the B of line 1"),
    ],
)
def test_markers_without_a_partner_are_a_fault(text: str, said: str) -> None:
    found = regions(text, ("A", "B"))
    assert found is not None and found.fault == said


@pytest.mark.parametrize("sign", ["# ", " ", "#", "a # "])
def test_a_long_line_takes_no_time(sign: str) -> None:
    assert (regions(sign * 200_000 + "EVOLVE-BLOCK-START x", EVOLVE_BLOCK) is not None) == (sign in ("# ", "#"))
