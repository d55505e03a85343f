"""What candidates print, patch and propose holds the orchestrator up no longer for being made to: twenty ways.

Written by another person than the code. Each takes time in proportion to the length of its text: four times as long a
one takes less than ten times as long, and a megabyte a few seconds.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.growth import growth

from nightlab.commons.scrub import find_private, scrub
from nightlab.core.regions import EVOLVE_BLOCK, frozen_change
from nightlab.core.source_bytes import changed_lines
from nightlab.core.text import one_line, plain
from nightlab.engines.local.metric_text import crash_summary, parse_claims, parse_feedback, parse_metrics
from nightlab.loop.duplicates import alike, touched
from nightlab.proposers.briefing import fenced
from nightlab.proposers.edited_files import line_diff
from nightlab.proposers.edits import BadEdit, apply_edits, parse_edits
from nightlab.proposers.finished import UnfinishedTurn, finished_turn


def edited(text: str) -> object:
    """As an answer that searches for a text in a genome that repeats itself."""
    try:
        genome = {"a.py": text}
        return apply_edits(
            genome, parse_edits(f"<<<<<<< SEARCH\n{text[: len(text) // 2]}\n=======\n>>>>>>> REPLACE\n", genome)
        )
    except BadEdit as bad:
        return bad


def turn(text: str) -> object:
    try:
        return finished_turn(text)
    except UnfinishedTurn as unfinished:
        return unfinished


def turned(text: str) -> str:
    return "\n".join(reversed(text.splitlines()))


STALLS: dict[str, tuple[Callable[[str], object], Callable[[int], str]]] = {
    "blanks in a metric": (parse_metrics, lambda n: "METRIC loss=1" + " " * n + "2"),
    "blanks before a metric's error": (parse_metrics, lambda n: "METRIC loss=1" + " " * n + "2 ± 3"),
    "a long unit before a metric's error": (parse_metrics, lambda n: "METRIC loss=1 " + "a" * n + " b ± 3"),
    "brackets before a metric": (parse_metrics, lambda n: "[a] " * (n // 4) + "METRIC"),
    "thousands of a metric": (parse_metrics, lambda n: "METRIC loss=1" + ",111" * (n // 4) + "="),
    "blanks of feedback": (parse_feedback, lambda n: "FEEDBACK" + " " * n),
    "words of feedback": (parse_feedback, lambda n: "FEEDBACK " + "a " * (n // 2)),
    "a claim": (parse_claims, lambda n: "loss:" + " " * n + "1 2"),
    "errors": (crash_summary, lambda n: "a." * (n // 2)),
    "escapes": (plain, lambda n: "\x1b[0\x1b]0" * (n // 6)),
    "a hypothesis": (one_line, lambda n: "\x1b[" + "0 " * (n // 2)),
    "words with dots in a patch to share": (find_private, lambda n: "a." * (n // 2)),
    "beginnings of tokens in a patch to share": (find_private, lambda n: "eyJ-" * (n // 4)),
    "addresses in a text to share": (scrub, lambda n: "a://b:" * (n // 6)),
    "markers": (
        lambda text: frozen_change("a.py", text, text + "x", EVOLVE_BLOCK),
        lambda n: "# EVOLVE-BLOCK-START\n# EVOLVE-BLOCK-END\n" * (n // 40),
    ),
    "hunks": (lambda text: (touched(text), changed_lines(text)), lambda n: "diff a\n@@ -1 +1 @@\n-a\n+b\n" * (n // 25)),
    "hypotheses": (lambda text: alike(text, text), lambda n: "a1 " * (n // 3)),
    "fences": (lambda text: fenced(text, 4000), lambda n: "`" * n),
    "an answer that thinks": (turn, lambda n: "<think" * (n // 6)),
    "a label of a hypothesis": (turn, lambda n: "hypothesis" + ":" * n),
    "an edit of lines that repeat": (edited, lambda n: "a\n" * (n // 2)),
    "two programs of the same lines": (
        lambda text: line_diff(text, turned(text)),
        lambda n: "".join(f"x{k}\n" for k in range(110)) * (n // 430),
    ),
}


@pytest.mark.parametrize("how", STALLS)
def test_four_times_the_text_takes_four_times_as_long(how: str) -> None:
    work, make = STALLS[how]
    assert growth(work, make, 250_000) < 10
