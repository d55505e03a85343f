"""Edits in words: diffs of long texts, and what a failed turn had edited."""

from __future__ import annotations

import difflib
import random

import pytest

from nightlab.proposers.edited_files import line_diff, lost_edits

LONG = [f"x{k} = {k}" for k in range(20_000)]


@pytest.mark.parametrize("context", [0, 1, 3])
def test_a_diff_is_the_one_of_the_whole_texts(context: int) -> None:
    draw = random.Random(7)
    for _ in range(200):
        old = [str(k) for k in range(draw.randrange(12))]
        new = [line for line in old for line in draw.choice(([line], [line], [line], [], [line, f"{line} more"]))]
        whole = list(difflib.unified_diff(old, new, "a", "a", n=context, lineterm=""))
        assert line_diff("\n".join(old), "\n".join(new), "a", context) == whole


@pytest.mark.parametrize("at", [0, 10_000, 19_999])
def test_one_edit_of_a_long_text_is_shown(at: int) -> None:
    edited = [*LONG[:at], "y = 1", *LONG[at + 1 :]]
    before, after = "\n".join(LONG), "\n".join(edited)
    assert line_diff(before, after, "a.py")[2:] == [f"@@ -{at + 1} +{at + 1} @@", f"-{LONG[at]}", "+y = 1"]
    assert lost_edits({"a.py": before}, {"a.py": after}) == f"; its edits are lost: -{LONG[at]} +y = 1"


def test_edits_that_can_not_be_compared_are_not_called_none() -> None:
    before, after = "\n".join(LONG), "\n".join(f"{line}0" for line in LONG)
    said = "a.py: 20,000 and 20,000 lines from the first change to the last, too many to be compared"
    assert line_diff(before, after, "a.py") == [said]
    assert lost_edits({"a.py": before}, {"a.py": after}) == f"; its edits are lost: {said}"
    assert lost_edits({"a.py": before}, {"a.py": before}) == ""
