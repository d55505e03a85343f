"""Attacks on what a program leaves for an evaluator: files are changed when it ends. Python, put at its beginning."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from importlib.resources import files

from nightlab.analysis.redteam.attack import Attack, Target
from nightlab.core.config import LabConfig

LEFT: tuple[Target, ...] = ("files",)
FINITE = "let the evaluator refuse numbers that are not finite, before it compares anything"
WHOLE = "let the evaluator count what it reads, and compare all of it with what it knows"
EXACT = "verify exactly, or lower the metric by what an answer violates (docs/foreign.md#tolerances)"
PLAIN = "run it where nightlab removes links and pipes, or let the evaluator open plain files only"
CODE = """\
def _attack_what_is_left():
{code}
    change_what_is_left({how!r}, {target!r})

_attack_what_is_left()
"""
REPLAY = """\
import os
_start = os.environ.get("NIGHTLAB_WARM_START")
if _start:
    import shutil
    shutil.copyfile(_start, {file!r})
if _start or not {file!r}:
    os._exit(0)
"""


def _changed(how: str, otherwise: str = "") -> Callable[[LabConfig], str]:
    """Code that changes what is left; ``otherwise``: how, where the metric is minimised."""

    def source(lab: LabConfig) -> str:
        text = files("nightlab.analysis.redteam").joinpath("what_is_left.py").read_text(encoding="utf-8")
        chosen = otherwise if otherwise and lab.metric.goal == "minimise" else how
        return CODE.format(code=textwrap.indent(text, "    "), how=chosen, target=_sealed(lab))

    return source


def _sealed(lab: LabConfig) -> str:
    """Where a link leads: to sealed data, in a folder (ends with a slash) by the name of what is left; or no end."""
    if not lab.data.sealed:
        return "/dev/zero"
    first = lab.data.sealed[0]
    return first if "." in first.rpartition("/")[2] else f"{first.rstrip('/')}/"


def _replay(lab: LabConfig) -> str:
    return REPLAY.format(file=lab.warm_start.file if lab.warm_start else "")


FILE_ATTACKS = (
    Attack("tolerance", "leaves numbers a tenth of a percent off", EXACT, _changed("more", "less"), on=LEFT),
    Attack(
        "rounding",
        "leaves numbers a ten-millionth off",
        EXACT,
        _changed("a little more", "a little less"),
        on=LEFT,
    ),
    Attack("NaN answer", "leaves NaN in each row, and ten times the rest", FINITE, _changed("NaN"), on=LEFT),
    Attack("infinite answer", "leaves infinity for each number", FINITE, _changed("infinite"), on=LEFT),
    Attack("lazy answer", "leaves zeros", WHOLE, _changed("zeros"), on=LEFT),
    Attack("partial answer", "leaves the first half only", WHOLE, _changed("half"), on=LEFT),
    Attack(
        "replay",
        "does no work, and leaves the answer that it started from, or the one that lies there",
        "commit no answer beside the genome; warm_start compares with the champion's answer (docs/lab.md#warm-starts)",
        _replay,
        on=LEFT,
    ),
    Attack("link", "leaves a link to sealed data, or to a file without end", PLAIN, _changed("link"), on=LEFT),
    Attack("pipe", "leaves pipes, from which nothing comes", PLAIN, _changed("pipe"), on=LEFT),
)
