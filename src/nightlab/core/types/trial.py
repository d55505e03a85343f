"""One run of a genome: which it is, the request for it, and what it yielded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from nightlab.core.types.basics import OMIT, Budget

Purpose = Literal[
    "search", "pilot", "upkeep", "replay", "confirm", "alone", "ablate", "transfer", "arena", "round", "population"
]
Outcome = Literal[
    "measured",
    "reported",
    "crashed",
    "timed out",
    "over budget",
    "over limit",
    "hopeless",
    "no metric",
    "checks failed",
    "tampered",
    "not promoted",
    "interrupted",
    "lost",
]
TOLD = "told by the caller, not measured by nightlab"  # in the detail of a measurement that a program told
SEED = 1  # the baseline's first, and under a rule that compares on the same seeds everybody's


@dataclass(frozen=True, slots=True)
class Segment:
    """The part of a population member's training that one trial does: ``part`` of ``parts``, from 1 on.

    It goes on from ``checkpoint`` (its SHA-256), which the trial ``after`` handed over; both are empty at the first
    part. ``constants``: the values in this part of those that move.
    """

    population: int
    member: int
    part: int
    parts: int
    checkpoint: str = field(default="", metadata=OMIT)
    after: str = field(default="", metadata=OMIT)
    constants: dict[str, Any] = field(default_factory=dict)

    @property
    def last(self) -> bool:
        return self.part == self.parts


@dataclass(frozen=True, slots=True)
class WarmStart:
    """The ``answer`` (SHA-256 of a file) that a trial starts from: that of experiment ``number``, which measured
    ``metric``."""

    number: int
    answer: str
    metric: float

    @property
    def words(self) -> str:
        return f"started from the answer of #{self.number}"


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of one genome, with one seed, under one budget.

    ``seed`` is what the session counts by; ``drawn``: the number that the program is given for it, which does not
    tell what the trial is for; None in a session of before: then they are one. ``free``: what may be done beside
    training (``core.overhead``), as the baseline showed; None where that is not known. ``baseline``: what its
    evaluator is told of the baseline: the secondary numbers, the largest of each; None of the baseline's own.
    ``segment``: of a member of a population, whose ``budget`` is that of its part. ``warm_start``: None where it starts
    from nothing.
    """

    id: str
    experiment: int
    commit: str
    seed: int
    purpose: Purpose
    budget: Budget
    attempt: int = 1
    drawn: int | None = field(default=None, metadata=OMIT)
    free: dict[str, float] | None = field(default=None, compare=False, metadata=OMIT)
    baseline: dict[str, float] | None = field(default=None, compare=False, metadata=OMIT)
    segment: Segment | None = field(default=None, metadata=OMIT)
    warm_start: WarmStart | None = field(default=None, metadata=OMIT)

    @property
    def given_seed(self) -> int:
        """The seed that the program is given."""
        return self.seed if self.drawn is None else self.drawn


@dataclass(frozen=True, slots=True)
class TrialRequest:
    """A trial that should run: of an experiment's genome, or with ``commit`` of a variant of it.

    ``budget``: the session's own if None. ``since``: a trial among the session's first ``since`` ones does not count as
    its outcome. ``why`` is for people.
    """

    number: int
    purpose: Purpose
    seed: int
    budget: Budget | None = None
    commit: str | None = None
    since: int = 0
    why: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"a variant of experiment {self.number}" if self.commit else f"experiment {self.number}"


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a trial yielded. Times in seconds, memory in MB, measured from outside the candidate.

    ``metric`` is on the data of the search, ``held_out`` on data that no decision uses, where the evaluator has
    some. ``machine`` is what the machine did meanwhile, and ``disturbed`` why such a number should not count.
    ``peak_gpu_memory_mb`` is 0 where no NVIDIA device was seen. ``claims`` is what the candidate printed about
    itself: shown, never trusted. ``runs`` says of how many trials this is the mean. ``standard_error`` is that of the
    metric as the lab states it, ``held_out_error`` of the held-out number; of a metric that is made of counts,
    ``successes`` in ``out_of`` trials. None if it does not say.
    ``overhead``: what it took beside its training (``core.overhead``), of which ``charged`` seconds count as training.
    ``said``: what the evaluator says in words, for proposers; untrusted where the candidate can have a part in it.
    ``checkpoint``: SHA-256 of what a member of a population handed over to go on from. ``answer``: that of the file
    that it left for later trials to start from.
    """

    outcome: Outcome
    metric: float | None = None
    secondary: dict[str, float] = field(default_factory=dict)
    training_seconds: float = 0.0
    startup_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_mb: float = 0.0
    peak_gpu_memory_mb: float = 0.0
    detail: str = ""
    claims: dict[str, float] = field(default_factory=dict)
    held_out: float | None = None
    machine: dict[str, float | str] = field(default_factory=dict)
    disturbed: str = ""
    runs: int = 1
    overhead: dict[str, float] | None = field(default=None, metadata=OMIT)
    standard_error: float | None = field(default=None, metadata=OMIT)
    successes: int | None = field(default=None, metadata=OMIT)
    out_of: int | None = field(default=None, metadata=OMIT)
    held_out_error: float | None = field(default=None, metadata=OMIT)
    said: str = field(default="", metadata=OMIT)
    checkpoint: str = field(default="", metadata=OMIT)
    answer: str = field(default="", metadata=OMIT)

    @property
    def own_precision(self) -> str:
        """What the lab says of the metric's precision, in words: ``(61 of 100)`` or ``± 0.02``; empty if nothing."""
        if self.successes is not None:
            return f"({self.successes:,} of {self.out_of:,})"
        return f"± {self.standard_error:.2g}" if self.standard_error else ""

    @property
    def quantities(self) -> dict[str, float]:
        """All that limits and objectives may name: what it used, and the secondary metrics."""
        used = ("peak_memory_mb", "peak_gpu_memory_mb", "startup_seconds", "evaluation_seconds", "wall_seconds")
        return {**{name: getattr(self, name) for name in used}, **self.secondary}

    @property
    def measured(self) -> bool:
        return self.outcome == "measured" and self.metric is not None

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Measurement:
        return cls(**{key: data[key] for key in cls.__dataclass_fields__ if key in data})

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def mean_of(measurements: Sequence[Measurement]) -> Measurement:
    """Several measured trials of one genome as one: means, and the largest memory. The rest is the first's.

    Counts are added up; the standard error is that of the mean.
    """
    first, n = measurements[0], len(measurements)
    if n == 1:
        return first
    errors = [m.standard_error for m in measurements if m.standard_error is not None]
    counts = [(m.successes, m.out_of) for m in measurements if m.successes is not None and m.out_of is not None]
    names = [name for name in first.secondary if all(name in m.secondary for m in measurements)]
    return replace(
        first,
        metric=average([m.metric for m in measurements if m.metric is not None]),
        secondary={name: average([m.secondary[name] for m in measurements]) for name in names},
        training_seconds=average([m.training_seconds for m in measurements]),
        peak_memory_mb=max(m.peak_memory_mb for m in measurements),
        peak_gpu_memory_mb=max(m.peak_gpu_memory_mb for m in measurements),
        runs=n,
        standard_error=math.hypot(*errors) / n if len(errors) == n else None,
        successes=sum(successes for successes, _ in counts) if len(counts) == n else None,
        out_of=sum(out_of for _, out_of in counts) if len(counts) == n else None,
    )


def average(values: Sequence[float]) -> float:
    """The mean; of huge numbers too, whose sum would overflow."""
    return math.fsum(value / len(values) for value in values)
