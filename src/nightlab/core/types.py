"""The nouns of nightlab as small frozen records. No I/O, no behaviour beyond what they can say of themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

OMIT = {"omit": True}
"""Metadata of a field that is left out of the JSON of the ledger where it has its default, as in older ledgers."""

Goal = Literal["minimise", "maximise"]
Clock = Literal["wall", "cpu", "work"]
Purpose = Literal[
    "search", "pilot", "upkeep", "replay", "confirm", "alone", "ablate", "transfer", "arena", "round", "population"
]
Level = Literal["confirmed", "held out", "transferred"]
Status = Literal["keep", "discard", "crash"]
FIRST_DAY = 86_400.0  # times below it say only what came before what: of imported experiments
COMPARED = ("improved", "simpler", "regressed", "inconclusive")  # reasons of a rule's verdicts
REPORTED = "reported"  # the reason of a verdict that an imported log claims, and what came of its trial
TOLD = "told by the caller, not measured by nightlab"  # in the detail of a measurement that a program told
BASELINE = "baseline"  # who proposed the genome that a session begins with
SEED = 1  # the baseline's first, and under a rule that compares on the same seeds everybody's
Scale = Literal["difference", "ratio"]
"""How two values of a metric are compared: by their difference, or by their ratio (on logarithms)."""
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


class NightlabError(Exception):
    """Something the user can fix. ``str(error)`` names the thing and the cause, ``hint`` what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Metric:
    """What is measured, and which way is better."""

    name: str
    goal: Goal = "minimise"
    unit: str = ""

    def better(self, a: float, b: float) -> bool:
        """Whether ``a`` is strictly better than ``b``."""
        return a < b if self.goal == "minimise" else a > b

    def gain(self, before: float, after: float) -> float:
        """How much better ``after`` is than ``before``; negative when it is worse."""
        return before - after if self.goal == "minimise" else after - before

    def worsened(self, value: float, by: float) -> float:
        """``value``, made worse by an amount."""
        return value + by if self.goal == "minimise" else value - by


@dataclass(frozen=True, slots=True)
class Budget:
    """How much training one trial may do: seconds of wall or CPU clock, or units of work."""

    clock: Clock
    amount: float

    def __str__(self) -> str:
        if self.clock == "work":
            return f"{self.amount:,.0f} units of work"
        return f"{self.amount:g} s of {'CPU' if self.clock == 'cpu' else 'wall-clock'} time"


@dataclass(frozen=True, slots=True)
class Platform:
    """Hardware and software within which numbers compare."""

    device: str
    accelerator: str
    processor: str
    cores: int
    system: str
    python: str

    def __str__(self) -> str:
        return f"{self.accelerator or self.processor}, {self.cores} cores, {self.system}, {self.python}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A proposed genome: a commit on a parent, with its hypothesis and its proposer.

    ``constants`` are the genome's named constants as resolved from its text, and ``changes`` what really
    differs from the parent: both are computed, never taken from the hypothesis. ``source`` is the entry of
    the proposer's queue that it came from, if it has one. ``usage`` is what the proposer's turn took, as far as the
    proposer says: ``agent``, ``model``, ``input_tokens``, ``output_tokens``, ``cost_usd``, ``seconds``; ``waited`` are
    the seconds of it in which a slot had nothing to do. ``program`` is a hash of the program in canonical form,
    ``theme`` what the change is about: the parts of the genome that differ from the parent. ``information``: bytes
    that its program compresses to; 0 where that is not known.
    """

    commit: str
    parent: str
    tree: str
    proposer: str
    hypothesis: str
    lines: int = 0
    constants: dict[str, Any] = field(default_factory=dict)
    changes: tuple[str, ...] = ()
    source: str = ""
    usage: dict[str, Any] = field(default_factory=dict)
    program: str = ""
    theme: tuple[str, ...] = ()
    information: int = field(default=0, metadata=OMIT)


@dataclass(frozen=True, slots=True)
class ProposerUsage:
    """What proposers' turns took together, refused ones included: as far as they said, what is unknown is 0.

    ``money`` is in US dollars; of ``turns``, ``uncounted`` are those without tokens, ``unpriced`` those without a cost;
    ``waited`` are the seconds in which a slot had nothing to do meanwhile, ``requests`` those to models' endpoints.
    """

    tokens: int = 0
    money: float = 0.0
    turns: int = 0
    uncounted: int = 0
    unpriced: int = 0
    waited: float = 0.0
    requests: int = 0

    def plus(self, usage: Mapping[str, Any]) -> ProposerUsage:
        """With another turn; one without any usage was none."""
        if not usage:
            return self
        counts = [usage[name] for name in ("input_tokens", "output_tokens") if name in usage]
        return ProposerUsage(
            self.tokens + sum(counts),
            self.money + usage.get("cost_usd", 0.0),
            self.turns + 1,
            self.uncounted + (not counts),
            self.unpriced + ("cost_usd" not in usage),
            self.waited + (usage.get("waited") or 0.0),
            self.requests + usage.get("requests", 0),
        )

    def and_also(self, other: ProposerUsage) -> ProposerUsage:
        """Both together."""
        return ProposerUsage(
            self.tokens + other.tokens,
            self.money + other.money,
            self.turns + other.turns,
            self.uncounted + other.uncounted,
            self.unpriced + other.unpriced,
            self.waited + other.waited,
            self.requests + other.requests,
        )


@dataclass(frozen=True, slots=True)
class ProposerShare:
    """What one proposer had of a session: experiments, those of them that were kept, turns that became none."""

    tried: int = 0
    kept: int = 0
    failed: int = 0
    spent: ProposerUsage = field(default_factory=ProposerUsage)


@dataclass(frozen=True, slots=True)
class ProposerStats:
    """What a proposer had, and what it brought: times in seconds of a slot, ``gained`` over bars, without luck.

    ``failed``: turns that became no experiment. ``tokens`` and ``dollars`` are what it said.
    """

    name: str
    tried: int
    kept: int
    failed: int
    gained: float
    trials: float
    waited: float
    tokens: int
    dollars: float


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


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge says of an experiment, and why, in the words of the glossary.

    ``bar`` goes with a keep: what the genome is believed to measure, its luck taken off. Later candidates must
    beat it.
    """

    status: Status
    reason: str
    detail: str = ""
    bar: float | None = None


@dataclass(frozen=True, slots=True)
class PairedGain:
    """The mean gain over paired seeds, in the metric's unit, with its two-sided interval.

    ``times``: of a metric that is compared by ratios, how many times better, with the interval: (mean, low, high).
    """

    mean: float
    low: float
    high: float
    level: float
    pairs: int
    times: tuple[float, float, float] | None = field(default=None, metadata=OMIT)


@dataclass(frozen=True, slots=True)
class Evidence:
    """How far an experiment's gain over ``against`` (the baseline is 0) has been shown, on fresh seeds.

    ``held_out`` is the gain on data that no decision used; the level is ``held out`` only where it shows there
    too. ``what`` says under which other budget or scale, or that a single change was taken out again. ``claim``: why
    the metric is only the candidate's claim; empty if a separate process computed it. ``exact``: both genomes measure
    the same number on every seed, so the gain has no error. ``sequential``: the interval is one of counts that holds
    whenever measuring stops. ``warm_start``: the experiment whose answer the genome started from, None if from
    nothing; ``alone`` is its gain on the same seeds from nothing, as the baseline.
    """

    level: Level
    against: int
    seeds: tuple[int, ...]
    gain: PairedGain
    held_out: PairedGain | None = None
    what: str = ""
    claim: str = field(default="", metadata=OMIT)
    exact: bool = field(default=False, metadata=OMIT)
    sequential: bool = field(default=False, metadata=OMIT)
    warm_start: int | None = field(default=None, metadata=OMIT)
    alone: PairedGain | None = field(default=None, metadata=OMIT)

    @property
    def label(self) -> str:
        """The level, marked as a claim where the metric is one."""
        return f"claim, {self.level}" if self.claim else self.level

    @property
    def shown(self) -> bool:
        """Whether the interval leaves no room for a loss."""
        return self.gain.low > 0


@dataclass(frozen=True, slots=True)
class HeldOutCheck:
    """The answer of a held-out check: whether the gains differ, and if so by about how much."""

    parted: bool
    gap: float | None = None


@dataclass(frozen=True, slots=True)
class Experiment:
    """A candidate with its measurement and its verdict: one row of the log.

    ``bar`` is the kept genome's value without its luck, brought up to date whenever it is measured again. ``gap`` is
    the metric less its parent's bar, when it was judged. Times are seconds since the epoch; of an imported experiment
    they may say no more than its place among the others, and are then below ``FIRST_DAY``.
    """

    number: int
    candidate: Candidate
    proposed_at: float
    measurement: Measurement | None = None
    verdict: Verdict | None = None
    judged_at: float | None = None
    bar: float | None = None
    evidence: tuple[Evidence, ...] = ()
    gap: float | None = None

    @property
    def kept(self) -> bool:
        return self.verdict is not None and self.verdict.status == "keep"

    @property
    def value(self) -> float | None:
        """What the genome counts as: its bar, or its metric where it has no bar."""
        return self.bar if self.bar is not None or self.measurement is None else self.measurement.metric

    @property
    def measured_again(self) -> bool:
        """Whether its gain over the baseline was measured on fresh seeds, under the session's own budget and scale."""
        return any(one.against == 0 and one.level != "transferred" for one in self.evidence)

    def to_dict(self) -> dict[str, Any]:
        """All of it, flat, as programs are told."""
        candidate, verdict, measured = self.candidate, self.verdict, self.measurement
        return {
            "number": self.number,
            "status": verdict.status if verdict else None,
            "reason": verdict.reason if verdict else None,
            "detail": verdict.detail if verdict else None,
            "metric": measured.metric if measured else None,
            "commit": candidate.commit,
            "parent": candidate.parent,
            "proposer": candidate.proposer,
            "hypothesis": candidate.hypothesis,
            "changes": list(candidate.changes),
            "measurement": measured.to_dict() if measured else None,
            "bar": self.bar,
            "evidence": [asdict(evidence) for evidence in self.evidence],
        }

    @property
    def look(self) -> Evidence | None:
        """The last that was shown of its gain over the baseline, under the session's own budget."""
        looks = [e for e in self.evidence if e.level != "transferred" and e.against == 0 and not e.what]
        return looks[-1] if looks else None

    @property
    def level(self) -> str:
        """How far its gain over the baseline has been shown: ``measured`` until more is, empty if there is none.

        What was imported is ``reported``, and never more. A level of a metric that is a claim says so.
        """
        if self.verdict is not None and self.verdict.reason == REPORTED:
            return REPORTED if self.kept and self.number else ""
        shown = {e.level: e.label for e in self.evidence if e.shown and e.against == 0}
        levels: tuple[Level, ...] = ("transferred", "held out", "confirmed")
        found = (shown[level] for level in levels if level in shown)
        return next(found, "measured" if self.kept and self.number else "")


@dataclass(frozen=True, slots=True)
class Contribution:
    """What a kept change adds to the champion: the champion's gain over itself without it.

    ``gain`` is None where the change can't be taken out alone; ``why`` says what stands in the way.
    """

    experiment: Experiment
    gain: PairedGain | None
    why: str = ""

    @property
    def nothing(self) -> bool:
        """Whether it earns nothing that shows: less than one standard error, and not surely more than zero."""
        if self.gain is None or self.gain.low > 0:
            return False
        return self.gain.mean <= (self.gain.high - self.gain.mean) / 2


@dataclass(frozen=True, slots=True)
class RunResult:
    """What one run of a session came to.

    ``reason`` says why it ended, in words, and ``stopped`` whether the user or a callback ended it, not a stop rule.
    ``tally`` counts the session's experiments by status, the baseline among them. ``seconds`` is the wall-clock time
    of the search, ``trained`` the seconds of it that trials trained for. ``evidence`` is how far the champion's gain
    over the baseline has been shown on fresh seeds, in this run or before; None if it has not been measured.
    ``contributions`` says what each kept change is worth, where the run could afford to measure that.
    """

    reason: str
    stopped: bool
    tally: Mapping[str | None, int]
    baseline: Experiment | None
    champion: Experiment | None
    seconds: float
    trained: float
    evidence: Evidence | None = None
    contributions: tuple[Contribution, ...] = ()
