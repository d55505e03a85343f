"""What there is to see of a session at one moment: plain frozen records, made by ``following`` and drawn by windows.

No I/O, and nothing here knows how it is drawn. What candidates and proposers wrote comes as it is in the ledger: who
draws it makes it harmless.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from functools import reduce
from typing import Any

from nightlab.core.config import LabConfig
from nightlab.core.events import (
    ClusterWaits,
    HookAfter,
    HookBefore,
    LedgerEvent,
    MachineChanged,
    OrderTaken,
    RunStarted,
    SessionStarted,
    SlotLost,
)
from nightlab.core.types import Budget, Experiment, Metric, Platform, ProposerShare, ProposerUsage, Purpose, Status
from nightlab.judge import in_sigmas


@dataclass(frozen=True, slots=True)
class About:
    """What holds for the whole session. ``begun``: when it did, in seconds since the epoch, as all times here."""

    tag: str
    lab: str
    metric: Metric
    budget: Budget
    platform: str
    sealing: str
    rule: str
    begun: float


@dataclass(frozen=True, slots=True)
class ExperimentPoint:
    """One experiment. ``parent`` is the experiment it was made on, if there is one.

    ``gain``: how much better than its parent's bar it measured, when it was judged; negative when it was worse.
    ``level`` is how far its gain over the baseline has been shown, and ``interval`` the two-sided one of that.
    """

    number: int
    status: Status | None
    reason: str
    detail: str
    metric: float | None
    bar: float | None
    gain: float | None
    proposer: str
    hypothesis: str
    changes: tuple[str, ...]
    commit: str
    parent: int | None
    proposed_at: float
    judged_at: float | None
    level: str
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class ChampionStep:
    """A kept experiment as a step of the staircase: what it counts as, its luck taken off, where that is known."""

    number: int
    value: float


@dataclass(frozen=True, slots=True)
class TrialSnapshot:
    """A trial under way. ``left``: seconds of training left, as far as anybody can say.

    ``curve`` is what its candidate claims of its loss, as (share of the budget, loss), and nothing more than a claim.
    """

    id: str
    experiment: int
    purpose: Purpose
    seed: int
    slot: int | None
    phase: str
    since: float
    budget: Budget
    left: float | None
    curve: tuple[tuple[float, float], ...]
    proposer: str
    hypothesis: str
    changes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StopRuleStatus:
    """A stop rule: how far it is, in words, as a share, and in how many seconds it ends the session at this pace."""

    name: str
    words: str
    share: float
    left: float | None = None


@dataclass(frozen=True, slots=True)
class TimedMessage:
    """Something the session has to tell its human."""

    at: float
    words: str


@dataclass(frozen=True, slots=True)
class Peer:
    """Another author of the commons: how many findings came of theirs, and what was measured here of these.

    ``trust`` is None while nothing of theirs was measured here. ``gain``: of the ``adopted`` ones, when kept.
    """

    author: str
    trust: float | None
    quarantined: bool
    findings: int
    verdicts: dict[str, int]
    adopted: int = 0
    gain: float = 0.0


@dataclass(frozen=True, slots=True)
class Verified:
    """A finding that was measured here, as experiment ``number``; ``elsewhere``: not on the genome it was made on."""

    number: int
    author: str
    verdict: str
    adopted: bool
    elsewhere: bool
    detail: str
    hypothesis: str
    at: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something that a remote had, and that was refused ``times`` times."""

    author: str
    category: str
    detail: str
    times: int


@dataclass(frozen=True, slots=True)
class CommonsStatus:
    """What a session has to do with its commons. Words in it are strangers', made harmless.

    ``peers``, ``latest``, ``refusals`` and ``threats`` (ids of findings, and what they say of themselves) are the first
    of as many as ``authors``, ``verdicts``, ``refused`` and ``threatening`` say. ``verdicts`` counts what was measured
    in this session, ``shared`` one's own records by their kind. ``declined``: why findings are not run here, with how
    many. ``spared``: left alone because trusted labs refuted them. ``saved``: experiments that own ideas would have
    needed for the adopted ``gain``; None if unknown. ``combinations`` were tried as one, which says nothing
    of one peer; ``combined_gain`` is that of the adopted ones. ``fault``: why this is not how things stand now.
    """

    peers: tuple[Peer, ...] = ()
    authors: int = 0
    findings: int = 0
    quarantined: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)
    adopted: int = 0
    latest: tuple[Verified, ...] = ()
    refused: int = 0
    refusals: tuple[Refusal, ...] = ()
    shared: dict[str, int] = field(default_factory=dict)
    threats: tuple[tuple[str, str], ...] = ()
    threatening: int = 0
    gain: float = 0.0
    own_gain: float = 0.0
    experiments: int = 0
    own_experiments: int = 0
    saved: float | None = None
    spared: int = 0
    combinations: int = 0
    combined_gain: float = 0.0
    declined: tuple[tuple[str, int], ...] = ()
    fault: str = ""


@dataclass(frozen=True, slots=True)
class SessionSnapshot:
    """A session as it stands.

    ``points`` are the latest experiments, oldest first, and ``steps`` all that were kept. ``tally`` counts the judged
    ones by status, the baseline among them. ``sigma`` is one trial's noise, from ``replicates`` trials, and
    ``relative`` the same as a share of a value, where values are compared by ratios. ``duty``: the share of this
    run's wall clock that trials spent training, per slot, and ``duty_hour`` that of the last hour. ``rate``:
    experiments per hour, lately. ``alive``: whether a process runs the session; ``stopped``: why the last run ended.
    ``commons``: of a session that takes part in a commons. ``fault``: why this is not how things stand now.
    """

    about: About
    points: tuple[ExperimentPoint, ...] = ()
    steps: tuple[ChampionStep, ...] = ()
    champion: ExperimentPoint | None = None
    running: tuple[TrialSnapshot, ...] = ()
    tally: dict[str, int] = field(default_factory=dict)
    proposers: dict[str, ProposerShare] = field(default_factory=dict)
    sigma: float = 0.0
    relative: float = 0.0
    replicates: int = 0
    self_tests: int = 0
    self_kept: int = 0
    looks: int = 0
    parted: int = 0
    alarms: tuple[TimedMessage, ...] = ()
    troubles: tuple[TimedMessage, ...] = ()
    run_begun: float = 0.0
    duty: float | None = None
    duty_hour: float | None = None
    rate: float | None = None
    rules: tuple[StopRuleStatus, ...] = ()
    paused: bool = False
    pinned: int | None = None
    alive: bool = False
    stopped: str = ""
    last_event_at: float = 0.0
    commons: CommonsStatus | None = None
    machine: dict[str, float | str] = field(default_factory=dict)
    free_mb: float = 0.0
    seq: int = 0
    fault: str = ""

    @property
    def spent(self) -> ProposerUsage:
        """What all proposers' turns took together."""
        return reduce(ProposerUsage.and_also, (share.spent for share in self.proposers.values()), ProposerUsage())

    @property
    def refused(self) -> int:
        """Turns that became no experiment."""
        return sum(share.failed for share in self.proposers.values())

    @property
    def done(self) -> int:
        """Experiments judged so far, the baseline not counted."""
        return max(sum(self.tally.values()) - 1, 0)

    @property
    def left(self) -> float | None:
        """Seconds until the first stop rule ends the session, as far as anybody can say."""
        return min((rule.left for rule in self.rules if rule.left is not None), default=None)

    def sigmas(self, point: ExperimentPoint) -> float | None:
        """An experiment's gain in units of noise; None where there is no gain, or no noise is known."""
        if point.gain is None:
            return None
        return in_sigmas(self.about.metric, point.metric, point.gain, self.sigma, self.relative)


def about(session: SessionStarted, lab: LabConfig, run: RunStarted | None) -> About:
    """What holds for a session, by the event that began it; ``run``: the latest, whose sandbox may lack protections."""
    claimed = session.claim if session.claim is not None else not lab.evaluator
    metric = "only the candidate's claim" if claimed else "computed by an evaluator"
    missing = run.allowed if run else ()
    seal = f"NOT sealed: no protection of {', '.join(missing)}" if missing else "sealed"
    return About(
        tag=session.tag,
        lab=lab.name,
        metric=lab.metric.record(),
        budget=Budget(session.budget["clock"], session.budget["amount"]),
        platform=str(Platform(**session.platform)),
        sealing=f"{seal} · metric {metric}",
        rule=lab.judge.rule,
        begun=session.at,
    )


def trouble_words(event: LedgerEvent) -> str:
    """What went wrong, as people are told it; empty for an event that tells of nothing wrong."""
    match event:
        case SlotLost():
            return f"slot {event.slot} is lost: {event.why}"
        case ClusterWaits():
            return f"all trials wait: {event.why}"
        case MachineChanged():
            return f"the machine has changed: {event.why}"
        case HookBefore() | HookAfter() if event.fault:
            return f"the hook {event.kind.removeprefix('hook ')} failed: {event.fault}"
        case OrderTaken() if event.refused:
            return f"not done: {event.order}: {event.refused}"
        case _:
            return ""


def point_of(experiment: Experiment, metric: Metric, parent: int | None) -> ExperimentPoint:
    """An experiment as a point; ``parent`` is the experiment with its parent's commit."""
    candidate, verdict, measured = experiment.candidate, experiment.verdict, experiment.measurement
    shown = [evidence for evidence in experiment.evidence if evidence.against == 0]
    return ExperimentPoint(
        number=experiment.number,
        status=verdict.status if verdict else None,
        reason=verdict.reason if verdict else "",
        detail=verdict.detail if verdict else "",
        metric=measured.metric if measured else None,
        bar=experiment.bar,
        gain=None if experiment.gap is None else metric.gain(0.0, experiment.gap),
        proposer=candidate.proposer,
        hypothesis=candidate.hypothesis,
        changes=candidate.changes,
        commit=candidate.commit,
        parent=parent,
        proposed_at=experiment.proposed_at,
        judged_at=experiment.judged_at,
        level=experiment.level,
        interval=(shown[-1].gain.low, shown[-1].gain.high) if shown else None,
    )


def as_json(snapshot: SessionSnapshot) -> dict[str, Any]:
    """A picture for ``json.dumps``: what is no finite number is None, and each point knows its gain in sigma."""
    facts: dict[str, Any] = _finite(asdict(snapshot))
    for point, told in zip(snapshot.points, facts["points"], strict=True):
        told["sigmas"] = _finite(snapshot.sigmas(point))
    if snapshot.champion:
        facts["champion"]["sigmas"] = _finite(snapshot.sigmas(snapshot.champion))
    facts |= {"done": snapshot.done, "refused": snapshot.refused}
    facts |= {"left": _finite(snapshot.left), "spent": _finite(asdict(snapshot.spent))}
    return facts


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(inside) for key, inside in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inside) for inside in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
