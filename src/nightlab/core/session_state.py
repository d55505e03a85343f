"""What the events of a session come to: one fold, which the monitor, the report and every screen share.

Pure: a state depends on the events that it was given and on nothing else. ``storage.ledger.state`` reads the same state
from the ledger's tables, without going through all events.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from nightlab.core.events import (
    NOT_ASKED,
    Alarm,
    ClusterWaits,
    HookAfter,
    HookBefore,
    Judged,
    LedgerEvent,
    MachineChanged,
    OrderTaken,
    ProposalRefused,
    Proposed,
    Rechecked,
    RunStarted,
    RunStopped,
    SessionStarted,
    SlotLost,
    TrialFinished,
    TrialStarted,
)
from nightlab.core.orders import ControlState
from nightlab.core.types import ProposerShare, Trial

HOUR = 3600.0  # seconds of the past over which paces are taken
RECENT = 5  # experiments whose pace counts, where they take longer than an hour
TROUBLES = 20  # of the latest events that tell of something wrong are kept
MACHINES = 10  # finished trials, the latest, among which one that says how the machine was is looked for
TROUBLE = (SlotLost, ClusterWaits, MachineChanged, HookBefore, HookAfter)


@dataclass(frozen=True, slots=True)
class SelfTests:
    """How often the rule was ``asked`` of an unchanged champion, and how often it ``kept`` it.

    ``looks``: comparisons with held-out data, of which ``parted`` showed a smaller gain there.
    """

    asked: int = 0
    kept: int = 0
    looks: int = 0
    parted: int = 0

    def plus(self, event: Rechecked) -> SelfTests:
        """With another re-check."""
        return SelfTests(
            self.asked + (event.would != NOT_ASKED),
            self.kept + (event.would == "keep"),
            self.looks + (event.look is not None),
            self.parted + (event.look is not None and event.look.parted),
        )


@dataclass(slots=True)
class SessionState:
    """A session after its events.

    ``tally``: judged experiments by status. ``shares``: what each proposer had, the baseline's among them.
    ``unjudged``: the proposers of experiments without a verdict. ``steps``: the value of each kept experiment (its bar,
    or its metric where it has no bar), in the order of the verdicts; ``champion`` is the last of them. ``open``: trials
    under way, by id.

    Of the latest run: ``trained`` (seconds), ``recent`` (for each trial that ended in the last hour, when it did and
    how many seconds it had trained) and ``verdicts`` (their times: those of the last hour, or the last few).

    ``troubles``: the latest events that tell of something wrong, without the alarms.
    """

    seq: int = 0
    at: float = 0.0
    session: SessionStarted | None = None
    runs: list[RunStarted] = field(default_factory=list)
    last_stop: RunStopped | None = None
    control: ControlState = field(default_factory=ControlState)
    tally: dict[str, int] = field(default_factory=dict)
    shares: dict[str, ProposerShare] = field(default_factory=dict)
    unjudged: dict[int, str] = field(default_factory=dict)
    steps: dict[int, float | None] = field(default_factory=dict)
    champion: int | None = None
    self_tests: SelfTests = field(default_factory=SelfTests)
    open: dict[str, Trial] = field(default_factory=dict)
    trained: float = 0.0
    recent: deque[tuple[float, float]] = field(default_factory=deque)
    verdicts: deque[float] = field(default_factory=deque)
    machines: deque[dict[str, float | str]] = field(default_factory=lambda: deque(maxlen=MACHINES))
    alarms: list[Alarm] = field(default_factory=list)
    troubles: deque[LedgerEvent] = field(default_factory=lambda: deque(maxlen=TROUBLES))

    @property
    def run(self) -> RunStarted | None:
        """The latest run."""
        return self.runs[-1] if self.runs else None

    @property
    def stopped(self) -> str:
        """Why the latest run ended; empty while it goes on, and after a kill."""
        begun = self.run.seq if self.run else 0
        return self.last_stop.reason if self.last_stop and self.last_stop.seq > begun else ""

    @property
    def missing(self) -> list[str]:
        """The protections that the sandbox of any run lacked."""
        return sorted({name for run in self.runs for name in run.allowed})

    @property
    def machine(self) -> dict[str, float | str]:
        """How the machine was during the last trial that says so."""
        return next((machine for machine in reversed(self.machines) if machine), {})

    @property
    def refused(self) -> int:
        """Turns of proposers that became no experiment."""
        return sum(share.failed for share in self.shares.values())

    def apply(self, event: LedgerEvent) -> None:
        """Take in the next event."""
        self.seq, self.at = event.seq, event.at
        match event:
            case SessionStarted():
                self.session = self.session or event
            case RunStarted():
                self._run_started(event)
            case RunStopped():
                self.last_stop = event
            case Proposed():
                self._proposed(event)
            case ProposalRefused():
                had = self.share(event.proposer)
                spent = had.spent.plus(event.usage)
                self.shares[event.proposer] = replace(had, failed=had.failed + 1, spent=spent)
            case TrialStarted():
                self.open[event.trial.id] = event.trial
            case TrialFinished():
                self._finished(event)
            case Judged():
                self._judged(event)
            case Rechecked():
                self._rechecked(event)
            case OrderTaken():
                self._ordered(event)
            case Alarm():
                self.alarms.append(event)
        if isinstance(event, TROUBLE) and event.fault:
            self.troubles.append(event)
        self.forget()

    def share(self, proposer: str) -> ProposerShare:
        return self.shares.get(proposer, ProposerShare())

    def forget(self) -> None:
        """Drop what is too old to count for a pace."""
        while self.recent and self.recent[0][0] < self.at - HOUR:
            self.recent.popleft()
        while len(self.verdicts) > RECENT + 1 and self.verdicts[0] < self.at - HOUR:
            self.verdicts.popleft()

    def _run_started(self, event: RunStarted) -> None:
        self.runs.append(event)
        self.trained = 0.0
        self.recent.clear()
        self.verdicts.clear()

    def _proposed(self, event: Proposed) -> None:
        candidate, had = event.candidate, self.share(event.candidate.proposer)
        self.unjudged[event.number] = candidate.proposer
        spent = had.spent.plus(candidate.usage)
        self.shares[candidate.proposer] = replace(had, tried=had.tried + 1, spent=spent)

    def _finished(self, event: TrialFinished) -> None:
        measured = event.measurement
        self.open.pop(event.id, None)
        self.trained += measured.training_seconds
        self.recent.append((event.at, measured.training_seconds))
        self.machines.append(measured.machine)

    def _judged(self, event: Judged) -> None:
        proposer, verdict = self.unjudged.pop(event.number, None), event.verdict
        if proposer is None:
            return  # an experiment has one verdict
        self.tally[verdict.status] = self.tally.get(verdict.status, 0) + 1
        self.verdicts.append(event.at)
        if verdict.status == "keep":
            self.champion, had = event.number, self.share(proposer)
            self.shares[proposer] = replace(had, kept=had.kept + 1)
            self.steps[event.number] = verdict.bar if verdict.bar is not None else event.measurement.metric

    def _rechecked(self, event: Rechecked) -> None:
        self.self_tests = self.self_tests.plus(event)
        if event.number in self.steps:
            self.steps[event.number] = event.bar

    def _ordered(self, event: OrderTaken) -> None:
        if event.refused:
            self.troubles.append(event)
        else:
            self.control = self.control.and_then(event.order)
