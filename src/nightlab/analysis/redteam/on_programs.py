"""Attacks of a program on the metric that it is measured by: Python, put at the beginning of the genome."""

from __future__ import annotations

import random
import string
from collections.abc import Callable

from nightlab.analysis.redteam.attack import EVALUATOR, INFORMATION, Attack, best_claim, prints
from nightlab.core.config import LabConfig


def _claim(value: Callable[[LabConfig], object], more: str = "") -> Callable[[LabConfig], str]:
    return lambda lab: f"import os\nprint('{prints(lab, value(lab))}', flush=True)\n{more}"


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


PROGRAM_ATTACKS = (
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
    Attack("smuggling", "carries 40 kB of data in a literal", INFORMATION, _data, must_be_refused=True),
)
