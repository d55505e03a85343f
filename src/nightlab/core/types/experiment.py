"""A row of the log: a candidate with its verdict, how far its gain has been shown, and what a run came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from nightlab.core.types.basics import OMIT, REPORTED
from nightlab.core.types.candidate import Candidate
from nightlab.core.types.trial import Measurement

Level = Literal["confirmed", "held out", "transferred"]
Status = Literal["keep", "discard", "crash"]
FIRST_DAY = 86_400.0  # times below it say only what came before what: of imported experiments
COMPARED = ("improved", "simpler", "regressed", "inconclusive")  # reasons of a rule's verdicts


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
    ``contributions`` says what each kept change is worth, where the run could afford to measure that. ``slots``: how
    many trials could run at a time.
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
    slots: int = 1
