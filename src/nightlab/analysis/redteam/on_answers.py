"""Attacks on answers: another function or model is served than the genome's. Python, put at its beginning."""

from __future__ import annotations

from collections.abc import Callable

from nightlab.analysis.redteam.attack import Attack, Target
from nightlab.core.config import LabConfig

SERVED: tuple[Target, ...] = ("answers",)
REPEAT = "let the evaluator ask clean processes, some inputs twice and in another order, and compare (docs/sealing.md)"
KNOWN = "let the evaluator check each answer, and all of it, against one that it knows"


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
HALF = """\
shape = np.asarray(inputs).shape
if shape not in _seen:
    _seen[shape] = np.zeros_like(np.asarray(answer(inputs)))
found = _seen[shape].copy()
try:
    part = np.asarray(answer(inputs[: (len(inputs) + 1) // 2])).reshape(-1)
except Exception:
    part = np.asarray(answer(inputs)).reshape(-1)[: (found.size + 1) // 2]
found.reshape(-1)[: part.size] = part[: found.size]
return found
"""

ANSWER_ATTACKS = (
    Attack(
        "lookahead",
        "answers with what comes next in its input",
        "probe that an answer does not depend on what comes after it (docs/sealing.md)",
        _wrapped(LOOK_AHEAD + "return found"),
        on=SERVED,
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
        on=SERVED,
    ),
    Attack(
        "replay",
        "answers every call with its first answer",
        REPEAT,
        _wrapped("if 0 not in _seen:\n    _seen[0] = answer(inputs)\nreturn _seen[0]"),
        on=SERVED,
    ),
    Attack(
        "lazy answer",
        "answers with zeros, without work",
        KNOWN,
        _wrapped("if 0 not in _seen:\n    _seen[0] = np.zeros_like(np.asarray(answer(inputs)))\nreturn _seen[0]"),
        on=SERVED,
    ),
    Attack(
        "partial answer",
        "works on the first half of its input, and answers the rest with zeros",
        KNOWN,
        _wrapped(HALF),
        on=SERVED,
    ),
    Attack(
        "skipped answers",
        "answers every other call with zeros, without work",
        KNOWN,
        _wrapped(
            "_seen[0] = _seen.get(0, 0) + 1\nif _seen[0] % 2:\n    _seen[1] = np.array(answer(inputs))\n"
            "    return _seen[1]\nreturn np.zeros_like(_seen[1])"
        ),
        on=("timed answers",),
    ),
    Attack(
        "NaN answer",
        "answers with NaN, or the largest integer",
        "let the evaluator refuse answers that are not finite",
        _wrapped(
            "found = np.array(answer(inputs))\n"
            "found[...] = np.nan if found.dtype.kind == 'f' else np.iinfo(found.dtype).max\nreturn found"
        ),
        on=SERVED,
    ),
    Attack(
        "tolerance",
        "answers a tenth of a percent off",
        "compare answers as exactly as the champion's own repeats agree",
        _wrapped(
            "found = np.array(answer(inputs))\n"
            "return (found * 1.001).astype(found.dtype) if found.dtype.kind == 'f' else found + 1"
        ),
        on=SERVED,
    ),
)
