"""What a trial computes beside its training, and what of that counts as training: all learning is budget.

An honest program needs some time before its start signal, to load what was handed over, and for each answer. How
much is learned from the baseline's own trials; what goes beyond a multiple of it is added to the training. Figures are
seconds on the budget's clock, by name: ``start``, ``load`` (of the slowest process), ``answer`` (of one answer). A
start or a load takes longer where no cache has what compilers make, and less where imports were made ahead: such
figures have separate names (``start ahead compiled``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # each trial's supervisor imports this module, and should start soon
    from nightlab.core.types import Budget, Measurement

Figures = Mapping[str, float]

TIMES = {"start": 2.0, "load": 2.0, "answer": 4.0}  # times the baseline's figure is free
STEP = 1.5  # times the baseline's own overrun of its budget is no longer training
GRACE = 0.02  # of the budget, for the step under way at its end
SMALL = {"cpu": 0.25, "wall": 1.0}  # seconds that sampling can't tell from nothing


class Answers:
    """What one process took, from its turn on, to answer: until its first answer, and for all of them.

    ``kind`` is ``load``, or its name where a compiler worked; ``load`` is None before the first answer; ``used`` are
    all its seconds, and ``given`` its answers: 0 where the evaluator does not say.
    """

    def __init__(self, kind: str = "load", load: float | None = None, used: float = 0.0, given: int = 0) -> None:
        self.kind, self.load, self.used, self.given = kind, load, used, given


class Excess(NamedTuple):
    """Seconds that a trial used for something, and those that were free."""

    what: str
    used: float
    free: float

    def __str__(self) -> str:
        return f"{self.used:.2f} s {self.what}, {self.free:.2f} s are free"


def clock_beside(clock: str, device: str | None) -> str:
    """The clock of what is done beside training, ``cpu`` or ``wall``; for a budget of work, by the device."""
    return "cpu" if clock == "cpu" or (clock == "work" and device == "cpu") else "wall"


def learned(measurements: Iterable[Measurement], budget: Budget) -> dict[str, float] | None:
    """What is free for all, from the baseline's trials under ``budget``: the largest of each figure.

    ``signals`` is 1 if its program says when training begins, and ``over`` how far it overran its budget. None before
    one has been measured.
    """
    found: dict[str, float] = {}
    for measured in measurements:
        if not measured.measured:
            continue
        found["signals"] = max(found.get("signals", 0.0), float(measured.startup_seconds > 0))
        if measured.overhead is None:  # measured by a nightlab that did not look
            continue
        over = measured.training_seconds - budget.amount if budget.clock != "work" else 0.0
        for name, value in {**measured.overhead, "over": round(max(over, 0.0), 3)}.items():
            if name != "charged":
                found[name] = max(found.get(name, 0.0), value)
    return found or None


def grace(budget: Budget, free: Figures | None) -> float | None:
    """Seconds by which training may overrun; None where the baseline has not shown how precisely it can stop."""
    if free is None or "over" not in free:
        return None
    return max(GRACE * budget.amount + SMALL["cpu" if budget.clock == "cpu" else "wall"], STEP * free["over"])


def needs(free: Figures, name: str) -> float:
    """The baseline's figure; where it has none of that name, the largest of the same phase.

    Without a head start there is no limit if the baseline always had one.
    """
    if name in free:
        return free[name]
    phase, *kind = name.split()
    ahead = [key for key in free if key.split()[0] == phase and "ahead" in key]
    others = [value for key, value in free.items() if key.split()[0] == phase and key not in ahead]
    if "ahead" not in kind and ahead and not others:
        return math.inf
    return max([*others, *(free[key] for key in ahead)], default=0.0)


def allowed(free: Figures, name: str) -> float:
    """Seconds that are no training for one figure."""
    return TIMES[name.split()[0]] * needs(free, name)


def beyond(free: Figures | None, start: tuple[str, float] | None, answers: Iterable[Answers]) -> list[Excess]:
    """Where a trial took more than is free: ``start`` is what came before its start signal."""
    if free is None or "over" not in free:
        return []
    found = [Excess("before its start signal", start[1], allowed(free, start[0]))] if start else []
    for process in answers:
        used, most, what = process.used, allowed(free, process.kind), "to load what was handed over"
        if process.given:
            most, what = most + process.given * allowed(free, "answer"), f"for {process.given} answers"
        elif process.load is not None:
            used = process.load
        found.append(Excess(what, used, most))
    return [one for one in found if one.used > one.free]


def charged(excess: Iterable[Excess], clock: str) -> float:
    """Seconds of it that count as training, on the ``cpu`` or ``wall`` clock."""
    return max(sum(one.used - one.free for one in excess) - SMALL[clock], 0.0)


def figures(start: tuple[str, float] | None, answers: Iterable[Answers]) -> dict[str, float]:
    """A trial's own figures, by name."""
    found = {start[0]: round(start[1], 3)} if start else {}
    served = [process for process in answers if process.used]
    for process in served:
        load = process.used if process.load is None else process.load
        found[process.kind] = round(max(found.get(process.kind, 0.0), load), 3)
    if given := sum(process.given for process in served):
        answering = sum(process.used - (process.load or 0.0) for process in served if process.given)
        found["answer"] = round(max(answering, 0.0) / given, 6)
    return found


def words(free: Figures | None, clock: str) -> str:
    """The learned figures in one line; empty without any."""
    if free is None or "over" not in free:
        return ""
    known = [f"{name} {value:.3g} s" for name, value in sorted(free.items()) if name.split()[0] in TIMES and value]
    if not known:
        return ""
    unit = "CPU time" if clock == "cpu" else "time"
    free_times = ", ".join(f"{factor:g} times {name}" for name, factor in TIMES.items())
    said = f"beside training the baseline takes: {', '.join(known)} ({unit})"
    return f"{said}; more counts as training, beyond {free_times}"
