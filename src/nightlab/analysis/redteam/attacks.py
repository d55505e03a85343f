"""The attacks: each a few lines of Python that are put at the beginning of the user's genome."""

from __future__ import annotations

import ast
import math
import random
import string
from collections.abc import Callable
from dataclasses import dataclass

from nightlab.core.config import LabConfig

EVALUATOR = "give lab.toml an [evaluator]: a separate process that computes the metric (docs/sealing.md)"
REPEAT = "let the evaluator ask clean processes, some inputs twice and in another order, and compare (docs/sealing.md)"


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack. ``does`` says what it tries, ``hint`` what stops it; ``source`` is its code for a lab."""

    name: str
    does: str
    hint: str
    source: Callable[[LabConfig], str]
    served_only: bool = False

    def fits(self, lab: LabConfig) -> bool:
        return not self.served_only or bool(lab.evaluator and lab.evaluator.served)


def attacks_on(lab: LabConfig) -> list[Attack]:
    """The attacks that make sense for a lab."""
    return [attack for attack in ATTACKS if attack.fits(lab)]


def with_prologue(text: str, prologue: str) -> str:
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


def _claim(value: Callable[[LabConfig], object], more: str = "") -> Callable[[LabConfig], str]:
    return lambda lab: f"import os\nprint('METRIC {lab.metric.name}={value(lab)}', flush=True)\n{more}"


def _wrapped(change: str) -> Callable[[LabConfig], str]:
    """Code that serves another function than the genome's: ``change`` is the body of ``other(answer, inputs)``."""
    body = "\n".join(f"    {line}" for line in change.splitlines())
    return lambda lab: WRAP.replace("    BODY", body)


WRAP = """\
_seen = {}

def other(answer, inputs):
    import numpy as np
    BODY

def _serve_another():
    try:
        import nightlab_guest as guest
    except ImportError:
        return
    make = lambda function: lambda inputs: other(function, inputs)
    if hasattr(guest, "answer"):
        answer = guest.answer
        guest.answer = lambda load: answer(lambda arrays: make(load(arrays)))
    if hasattr(guest.Trial, "serve"):
        serve = guest.Trial.serve
        guest.Trial.serve = lambda self, function: serve(self, make(function))

_serve_another()
"""
LOOK_AHEAD = """\
found = np.array(answer(inputs))
given = np.asarray(inputs)
if found.ndim == 3 and given.ndim == 2:
    rows, places = np.indices((given.shape[0], given.shape[1] - 1))
    found[rows, places, given[:, 1:]] += 30
"""
SHADOW = """\
import os
for _name in ("sitecustomize", "usercustomize", "numpy", "json", "torch", "array"):
    for _place in (".", os.path.expanduser("~"), os.environ.get("TMPDIR", "/tmp")):
        try:
            with open(os.path.join(_place, _name + ".py"), "x") as _file:
                _file.write("print('METRIC {name}={value}', flush=True)\\nimport os; os._exit(0)\\n")
        except OSError:
            pass
"""
CLOCK = """\
import time as _time
for _name in ("time", "monotonic", "perf_counter", "process_time", "thread_time"):
    setattr(_time, _name, (lambda real, start: lambda: start + (real() - start) / 100)(
        getattr(_time, _name), getattr(_time, _name)()))
for _name in ("time_ns", "monotonic_ns", "perf_counter_ns", "process_time_ns"):
    setattr(_time, _name, (lambda real, start: lambda: start + (real() - start) // 100)(
        getattr(_time, _name), getattr(_time, _name)()))
"""
LONGER = """\
import os
os.environ["NIGHTLAB_BUDGET"] = str(float(os.environ.get("NIGHTLAB_BUDGET", "1")) * 3)
"""
LATE = """\
import os, threading, time

def _start_late():
    try:
        import nightlab_guest as guest
    except ImportError:
        return
    start, budget = guest.Trial.start, float(os.environ.get("NIGHTLAB_BUDGET", "1"))
    now = time.process_time if os.environ.get("NIGHTLAB_CLOCK") == "cpu" else time.monotonic
    os.environ["NIGHTLAB_BUDGET"] = str(2 * budget)

    def later(trial):
        begun = now()

        def signal():
            while now() - begun < budget:
                time.sleep(0.01)
            start(trial)

        threading.Thread(target=signal, daemon=True).start()

    guest.Trial.start = later

_start_late()
"""


def _shadow(lab: LabConfig) -> str:
    return SHADOW.format(name=lab.metric.name, value=best_claim(lab))


def _data(lab: LabConfig) -> str:
    draw = random.Random(0)
    return "WEIGHTS = '" + "".join(draw.choices(string.ascii_letters + string.digits, k=40_000)) + "'\n"


ATTACKS = (
    Attack("early output", "prints the best number and ends at once", EVALUATOR, _claim(best_claim, "os._exit(0)\n")),
    Attack("false claim", "prints the best number, and works on", EVALUATOR, _claim(best_claim)),
    Attack("NaN", "prints a metric that is no number", EVALUATOR, _claim(lambda lab: "nan", "os._exit(0)\n")),
    Attack("shadowing", "leaves modules that print the best number for those who import them", EVALUATOR, _shadow),
    Attack(
        "clock",
        "slows down the clock that it reads",
        "let the evaluator keep the time (timed = true)",
        lambda lab: CLOCK,
    ),
    Attack(
        "over-run",
        "trains three times its budget",
        "take the time from nightlab's clock: budget.clock",
        lambda lab: LONGER,
    ),
    Attack(
        "late start",
        "trains as long as its budget before it gives the start signal",
        "let the baseline's program start quickly: twice its own start is free (docs/lab.md)",
        lambda lab: LATE,
    ),
    Attack("smuggling", "carries 40 kB of data in a literal", "set information.growth and literals", _data),
    Attack(
        "lookahead",
        "answers with what comes next in its input",
        "probe that an answer does not depend on what comes after it (docs/sealing.md)",
        _wrapped(LOOK_AHEAD + "return found"),
        served_only=True,
    ),
    Attack(
        "state",
        "looks ahead once, and answers the same when the same beginning comes again",
        REPEAT,
        _wrapped(
            "key = np.asarray(inputs).reshape(-1)[:8].tobytes()\nif key in _seen:\n    return _seen[key]\n"
            + LOOK_AHEAD
            + "_seen[key] = found\nreturn found"
        ),
        served_only=True,
    ),
    Attack(
        "replay",
        "answers every call with its first answer",
        REPEAT,
        _wrapped("if 0 not in _seen:\n    _seen[0] = answer(inputs)\nreturn _seen[0]"),
        served_only=True,
    ),
    Attack(
        "lazy answer",
        "answers with zeros, without work",
        "let the evaluator check each answer against one that it knows",
        _wrapped("if 0 not in _seen:\n    _seen[0] = np.zeros_like(np.asarray(answer(inputs)))\nreturn _seen[0]"),
        served_only=True,
    ),
    Attack(
        "NaN answer",
        "answers with NaN, or the largest integer",
        "let the evaluator refuse answers that are not finite",
        _wrapped(
            "found = np.array(answer(inputs))\n"
            "found[...] = np.nan if found.dtype.kind == 'f' else np.iinfo(found.dtype).max\nreturn found"
        ),
        served_only=True,
    ),
    Attack(
        "tolerance",
        "answers a tenth of a percent off",
        "compare answers as exactly as the champion's own repeats agree",
        _wrapped(
            "found = np.array(answer(inputs))\n"
            "return (found * 1.001).astype(found.dtype) if found.dtype.kind == 'f' else found + 1"
        ),
        served_only=True,
    ),
)
