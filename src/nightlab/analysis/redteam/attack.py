"""One attack: what it tries, what stops it, and how its code comes into a genome."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from nightlab.core.config import LabConfig
from nightlab.core.regions import Between, regions

Target = Literal["program", "answers", "timed answers", "files", "C", "text"]
EVALUATOR = "give lab.toml an [evaluator]: a separate process that computes the metric (docs/sealing.md)"
INFORMATION = "set information.growth and literals"


def with_prologue(text: str, prologue: str, path: str = "") -> str:
    """A program that first does something else. Raises SyntaxError for one that does not parse."""
    body, line = ast.parse(text).body, 0
    for n, node in enumerate(body):
        docstring = not n and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not docstring and not (isinstance(node, ast.ImportFrom) and node.module == "__future__"):
            break
        line = node.end_lineno or 0
    lines = text.splitlines(keepends=True)
    return "".join([*lines[:line], *([] if not line else ["\n"]), prologue, "\n", *lines[line:]])


def best_claim(lab: LabConfig) -> float:
    """The best number that a liar could name: the bound of what is possible, or far beyond anything."""
    bound = lab.metric.lowest if lab.metric.goal == "minimise" else lab.metric.highest
    return bound if math.isfinite(bound) else math.copysign(1e6, bound)


def prints(lab: LabConfig, value: object) -> str:
    """The line that names a lab's metric."""
    return f"METRIC {lab.metric.name}={value}"


def in_region(text: str, between: Between, put: Callable[[str], str]) -> str:
    """A text changed by ``put``; where markers bound what may change, only between the first two of them.

    Such a region that is no program by itself, but a part of a function, is left: then all of the text is changed.
    """
    bounds = regions(text, between)
    if bounds is None or not bounds.free:
        return put(text)
    first = last = min(bounds.free)
    while last + 1 in bounds.free:
        last += 1
    lines = text.split("\n")
    try:
        return "\n".join([*lines[: first - 1], put("\n".join([*lines[first - 1 : last], ""])), *lines[last:]])
    except SyntaxError:
        return put(text)


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
        """A genome file with the attack in it."""
        return in_region(text, lab.between, lambda part: self.put(part, self.source(lab), path))
