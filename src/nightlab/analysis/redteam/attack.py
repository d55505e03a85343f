"""One attack: what it tries, what stops it, and how its code comes into a genome."""

from __future__ import annotations

import ast
import math
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from nightlab.core.config import LabConfig
from nightlab.core.regions import Between, regions

Target = Literal["program", "answers", "timed answers", "files", "C", "text"]
EVALUATOR = "give lab.toml an [evaluator]: a separate process that computes the metric (docs/sealing.md)"
C = (".c", ".cc", ".cpp", ".cxx")
NO_CODE = re.compile(r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'""", re.DOTALL)  # of C
LATER = "_nightlab_redteam()"  # what an attack is in where it is put into an indented part of a program
INFORMATION = "set information.growth and literals"


def with_prologue(text: str, prologue: str, path: str = "") -> str:
    """A program, or an indented part of one, that first does something else.

    In a part, that is done in a function: a part may be the body of a class. Raises SyntaxError for a text that does
    not parse.
    """
    body, line = ast.parse(textwrap.dedent(text)).body, 0
    for n, node in enumerate(body):
        docstring = not n and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not docstring and not (isinstance(node, ast.ImportFrom) and node.module == "__future__"):
            break
        line = node.end_lineno or 0
    if margin := text[: len(text) - len(text.lstrip())].rpartition("\n")[2]:
        call = f"def {LATER}:\n{textwrap.indent(prologue, '    ')}\n{LATER}\n"
        prologue = textwrap.indent(call, margin)
    lines = text.splitlines(keepends=True)
    return "".join([*lines[:line], *([] if not line else ["\n"]), prologue, "\n", *lines[line:]])


def best_claim(lab: LabConfig) -> float:
    """The best number that a liar could name: the bound of what is possible, or far beyond anything."""
    bound = lab.metric.lowest if lab.metric.goal == "minimise" else lab.metric.highest
    return bound if math.isfinite(bound) else math.copysign(1e6, bound)


def prints(lab: LabConfig, value: object) -> str:
    """The line that names a lab's metric."""
    return f"METRIC {lab.metric.name}={value}"


def in_region(text: str, between: Between, put: Callable[[str], str], path: str = "") -> str:
    """A text changed by ``put``; where markers bound what may change, only in the first region that has room for it.

    Raises SyntaxError where none has: it is empty, a part of an expression, or a part of a function in C.
    """
    bounds = regions(text, between)
    if bounds is None:
        return put(text)
    lines, fault = text.split("\n"), SyntaxError("there is nothing between the markers")
    for first in sorted(line for line in bounds.free if line - 1 not in bounds.free):
        last = first
        while last + 1 in bounds.free:
            last += 1
        before, part = "\n".join(lines[: first - 1]), "\n".join([*lines[first - 1 : last], ""])
        try:
            found = "\n".join([before, put(part), *lines[last:]])
            if path.endswith(".py"):
                ast.parse(found)
            elif path.endswith(C) and (code := NO_CODE.sub("", before)).count("{") > code.count("}"):
                raise SyntaxError("the markers are in a function")
            return found
        except SyntaxError as error:
            fault = error
    raise fault


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack. ``does`` says what it tries, ``hint`` what stops it, ``on`` what it is made for.

    ``source`` is its code for a lab, and ``put`` changes a genome file: of its text, the code and its path.
    """

    name: str
    does: str
    hint: str
    source: Callable[[LabConfig], str]
    on: tuple[Target, ...] = ("program",)
    put: Callable[[str, str, str], str] = with_prologue
    must_be_refused: bool = False
    """Whether it is a hole that it may run, whatever it measures: its code only carries what others would use."""

    def on_genome(self, lab: LabConfig, path: str, text: str) -> str:
        """A genome file with the attack in it. Raises SyntaxError where no part that may change has room for it."""
        return in_region(text, lab.between, lambda part: self.put(part, self.source(lab), path), path)
