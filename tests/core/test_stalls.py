"""What candidates print, patch and propose holds the orchestrator up no longer for being made to: twenty ways.

Written independently of the code; eight of them stalled it. Each takes time in proportion to the length of its text:
four times as long a one takes less than ten times as long, and a megabyte a few seconds.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.growth import growth
from support.tiers import by_default

from nightlab.commons.scrub import find_private, scrub
from nightlab.core.program.facts import SessionContext, program_facts
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
    "beginnings of tokens with dots in a patch to share": (find_private, lambda n: "eyJ0123456789-." * (n // 15)),
    "a long token in a patch to share": (find_private, lambda n: "-eyJ0123456789.eyJ" + "a-eyJ" * (n // 5)),
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


# Genomes, which a separate process reads: what that finds takes time in proportion to their length, too.
GENOMES: dict[str, Callable[[int], str]] = {
    "functions in functions": lambda n: (
        ("".join(" " * d + f"def f{d}():\n" for d in range(9)) + " " * 9 + "0\n") * (n // 130)
    ),
    "branches": lambda n: "if a: 0\n" + "elif a: 0\n" * (n // 10),
    "sums": lambda n: "".join(f"x{k} = 1{'+1' * 200}\n" for k in range(n // 410)),
    "decorators": lambda n: "@a\n" * (n // 3) + "def f(): 0\n",
    "imports": lambda n: "".join(f"import m{k}\n" for k in range(n // 11)),
    "one name": lambda n: "a=a;" * (n // 4) + "\n",
    "globals": lambda n: "def f():\n global " + ",".join(f"g{k}" for k in range(n // 6)) + "\n",
    "escapes": lambda n: "x = '" + "\\x41" * (n // 4) + "'\n",
    "strings side by side": lambda n: "x = " + "'a' " * (n // 4) + "\n",
    "keys": lambda n: "x = {" + ",".join(f"{k}:{k}" for k in range(n // 11)) + "}\n",
    "arguments": lambda n: "def f(" + ",".join(f"a{k}" for k in range(n // 6)) + "): 0\n",
    "classes of classes": lambda n: "".join(f"class C{k}(C{k - 1}): 0\n" for k in range(1, n // 20)),
    "functions that call each other": lambda n: "".join(
        f"def f{k}(): return f{k * 7919 % (n // 30)}()\n" for k in range(n // 30)
    ),
    "comprehensions": lambda n: "".join(f"x{k} = [i for i in range({k}) if i]\n" for k in range(n // 36)),
    "lambdas": lambda n: "".join(f"x{k} = lambda a, b=x{k - 1}: a\n" for k in range(1, n // 26)),
    "variables of a function": lambda n: "def f():\n" + "".join(f" v{k} = v{k - 1}\n" for k in range(1, n // 12)),
    "seeds": lambda n: "".join(f"seed{k} = f(seed={k})\n" for k in range(n // 20)),
    "cases": lambda n: "match a:\n" + "".join(f" case {k}: 0\n" for k in range(n // 12)),
    "attempts": lambda n: "try: 0\nexcept a: 0\n" * (n // 19),
    "lines that go on": lambda n: "y = 1" + " \\\n" * (n // 3) + "\n",
}


@pytest.mark.parametrize("kind", by_default("globals", of=GENOMES))
def test_a_genome_of_four_times_the_length_takes_four_times_as_long(kind: str) -> None:
    before = {"a.py": "A = 1\n"}
    context = SessionContext("cpu", (), before, 8000, data=False)

    def facts(text: str) -> object:
        return program_facts({"a.py": f"A = 1\n{text}"}, before, ["a.py"], context)

    assert growth(facts, GENOMES[kind], 5000) < 10
