"""Attacks of a genome that is no Python: C that a trial loads, and text that the evaluator reads."""

from __future__ import annotations

import csv
import io
import json
import random
import string
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

from nightlab.analysis.redteam.attack import EVALUATOR, INFORMATION, Attack, C, Target, best_claim, prints
from nightlab.analysis.redteam.what_is_left import NUMBER
from nightlab.core.config import LabConfig

COMMENTS = {  # what begins and ends a comment, by the suffix; a text without one gets the bare lines
    **dict.fromkeys((".py", ".toml", ".yaml", ".yml", ".sh", ".r", ".jl", ".rb", ".pl"), ("# ", "")),
    **dict.fromkeys((".wat", ".wast"), ("(;\n", "\n;)")),
    **dict.fromkeys((".c", ".h", ".cc", ".cpp", ".cu", ".cl", ".java", ".js", ".ts", ".rs", ".go"), ("/*\n", "\n*/")),
    **dict.fromkeys((".sql", ".css"), ("/*\n", "\n*/")),
    **dict.fromkeys((".html", ".xml", ".svg"), ("<!--\n", "\n-->")),
}
TAB = "\t"
LITERALS = {
    ".py": "WEIGHTS = '{}'",
    ".wat": '(data "{}")',
    **dict.fromkeys(C, 'const char nightlab_redteam_weights[] = "{}";'),
}
AT_LOAD = """
#include <stdio.h>
#include <stdlib.h>
__attribute__((constructor)) static void nightlab_redteam_at_load(void)
{{
    puts("{line}");
    fflush(stdout);
    {more}
}}
"""
LOADED: tuple[Target, ...] = ("C",)


def _at_load(value: Callable[[LabConfig], object], more: str = "") -> Callable[[LabConfig], str]:
    return lambda lab: AT_LOAD.format(line=prints(lab, value(lab)), more=more)


def at_the_end(text: str, code: str, path: str) -> str:
    """A C program with more code after it."""
    return f"{text.rstrip()}\n{code}"


def in_a_comment(text: str, line: str, path: str) -> str:
    """A text with one more line: in a comment where its language is known to have them, in a value of JSON or CSV."""
    try:
        if path.endswith(".json"):
            return json.dumps(in_a_value(json.loads(text), f"\n{line}\n"), indent=1)
        if path.endswith((".csv", ".tsv")):
            return f"{text.rstrip()}\n{in_a_row(text, line, ',' if path.endswith('.csv') else TAB)}"
    except (ValueError, csv.Error):
        pass  # it is something else than its name says
    begin, end = COMMENTS.get(PurePath(path).suffix.lower(), ("", ""))
    return f"{text.rstrip()}\n{begin}{line}{end}\n"


def in_a_value(value: Any, more: str) -> Any:
    """A value of JSON with more at the end of its first text; without one, with one text more, or in its note."""
    if isinstance(value, dict):
        key = next((key for key, one in value.items() if isinstance(one, str)), "note")
        return {**value, key: f"{value.get(key, '')}{more}"}
    if isinstance(value, list):
        place = next((n for n, one in enumerate(value) if isinstance(one, str | dict)), len(value))
        return [*value[:place], in_a_value(value[place] if value[place:] else "", more), *value[place + 1 :]]
    return value + more if isinstance(value, str) else more


def in_a_row(text: str, line: str, delimiter: str) -> str:
    """The last row of a table once more, with a line in its first cell that is no number, or else in its first."""
    row = [*csv.reader(io.StringIO(text.rstrip()), delimiter=delimiter)][-1:] or [[""]]
    place = next((n for n, cell in enumerate(row[0]) if not NUMBER.fullmatch(cell.strip())), 0)
    made = io.StringIO()
    cells = [f"\n{line}\n" if n == place else cell for n, cell in enumerate(row[0])]
    csv.writer(made, delimiter=delimiter, lineterminator="\n").writerow(cells)
    return made.getvalue()


def as_numbers(text: str, number: str, path: str) -> str:
    """A text with another number in the place of each."""
    return NUMBER.sub(number, text)


def as_data(text: str, data: str, path: str) -> str:
    """A text with more data at its end: where its language drops comments, a literal."""
    literal = LITERALS.get(PurePath(path).suffix)
    if literal is None:
        return in_a_comment(text, data, path)
    end = ")" if path.endswith(".wat") else ""  # of the module
    return f"{text.rstrip().removesuffix(end)}\n{literal.format(data)}{end}\n"


def _data(lab: LabConfig) -> str:
    draw = random.Random(0)
    return " ".join("".join(draw.choices(string.ascii_letters + string.digits, k=60)) for _ in range(666))


TEXT_ATTACKS = (
    Attack("early output", "prints the best number when it is loaded, and ends", EVALUATOR,
           _at_load(best_claim, "_Exit(0);"), LOADED, at_the_end),
    Attack("false claim", "prints the best number when it is loaded, and works on", EVALUATOR,
           _at_load(best_claim), LOADED, at_the_end),
    Attack("NaN", "prints a metric that is no number when it is loaded, and ends", EVALUATOR,
           _at_load(lambda lab: "nan", "_Exit(0);"), LOADED, at_the_end),
    Attack("false claim", "says the best number in its text", "let the evaluator print no line of the genome",
           lambda lab: prints(lab, best_claim(lab)), ("text",), in_a_comment),
    Attack("NaN", "has NaN for each of its numbers", "let the evaluator refuse numbers that are not finite",
           lambda lab: "nan", ("text",), as_numbers),
    Attack("infinity", "has infinity for each of its numbers", "let the evaluator refuse numbers that are not finite",
           lambda lab: "inf", ("text",), as_numbers),
    Attack("smuggling", "carries 40 kB of data", INFORMATION, _data, ("C", "text"), as_data, True),
)  # fmt: skip
