"""What a session does next: one action, decided from a snapshot of it. Reads nothing and changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from nightlab.core.types import COMPARED, SEED, Measurement, Purpose, TrialRequest, Verdict
from nightlab.judge import Contestant, Judge, NeedsTrial, Noise
from nightlab.loop.champion_recheck import CompletedRecheck
from nightlab.loop.rounds import Rounds

CLOSE = 2.0  # times the champion's time: a load rarely makes a program slower than that

# -- the snapshot --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PendingExperiment:
    """An experiment without a verdict.

    ``pilot``: the pilot that it needs first, or the verdict that it gets after its pilot; None for a whole trial.
    ``needs_hook``: the contract's ``before`` hook has to run before its first trial.
    ``beside``: of a candidate with a time, the trial of the champion that a close comparison needs first.
    ``baseline``: of one that came over its budget on a busy machine, the baseline's trial that its next one needs.
    ``rounds``: of one with a time, what it and the champion measured in turn, which decides whether it is kept.
    """

    number: int
    contestant: Contestant
    pilot: TrialRequest | tuple[Contestant, Verdict] | None = None
    skipped: bool = False
    needs_hook: bool = False
    beside: TrialRequest | None = None
    baseline: TrialRequest | None = None
    rounds: Rounds | None = None


@dataclass(frozen=True, slots=True)
class LoopSnapshot:
    """What the next action depends on.

    ``champion``: its number and measurements, None before the baseline is measured. ``pending``: the experiments to go
    on with, in order of their numbers. ``running``: experiment, purpose and seed of each running trial.
    ``recheck``: the next trial of the champion's recheck, its result if that is complete, None when none is due.
    ``machine_changed``: nothing compares with the champion before it has been measured again.
    ``queue_empty``: the queue has just been asked, and had no experiment to start now.
    ``hook_running``: a ``before`` hook runs. ``hooks_due``: the session waits for a hook before it ends.
    ``stop_requested``, ``paused``: no trial is started. ``stop_reason``: why no experiment is added, empty otherwise.
    """

    champion: tuple[int, Contestant] | None
    pending: tuple[PendingExperiment, ...]
    running: frozenset[tuple[int, Purpose, int]]
    recheck: TrialRequest | CompletedRecheck | None = None
    machine_changed: bool = False
    queue_empty: bool = False
    hook_running: bool = False
    hooks_due: bool = False
    stop_requested: bool = False
    paused: bool = False
    stop_reason: str = ""

    @property
    def starts_nothing(self) -> bool:
        return self.stop_requested or self.paused

    def is_running(self, request: TrialRequest) -> bool:
        return (request.number, request.purpose, request.seed) in self.running


# -- the actions ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunTrial:
    """Start a trial in a free slot."""

    request: TrialRequest


@dataclass(frozen=True, slots=True)
class RunHook:
    """Start the ``before`` hook of an experiment."""

    number: int


@dataclass(frozen=True, slots=True)
class RecordVerdict:
    """Record the verdict on an experiment, and the measurements that it rests on."""

    number: int
    contestant: Contestant
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class RecordRecheck:
    """Record the result of the champion's recheck."""

    result: CompletedRecheck


@dataclass(frozen=True, slots=True)
class TakeNext:
    """Take the next experiment from the queue."""


@dataclass(frozen=True, slots=True)
class Wait:
    """There is nothing to do until a trial, a hook or a proposer has finished."""


@dataclass(frozen=True, slots=True)
class Finish:
    """The session ends."""

    reason: str


Action = RunTrial | RunHook | RecordVerdict | RecordRecheck | TakeNext | Wait | Finish


# -- the decision --------------------------------------------------------------------------------


def next_action(state: LoopSnapshot, judge: Judge, noise: Noise) -> Action:
    """The next action: first what the machine's change requires, then verdicts, trials, and new experiments."""
    if state.champion and state.machine_changed:
        return _recheck(state) or _wait(state)
    for experiment in state.pending:
        if action := _pending(state, experiment, judge, noise):
            return action
    if state.starts_nothing or state.champion is None:
        return _wait(state)
    if action := _recheck(state):
        return action
    if state.stop_reason or state.queue_empty:
        return _wait(state)
    return TakeNext()


def _recheck(state: LoopSnapshot) -> Action | None:
    """The next step of the champion's recheck, if one can be taken now."""
    if isinstance(state.recheck, CompletedRecheck):
        return RecordRecheck(state.recheck)
    if state.recheck is None or state.starts_nothing or state.is_running(state.recheck):
        return None
    return RunTrial(state.recheck)


def _pending(state: LoopSnapshot, experiment: PendingExperiment, judge: Judge, noise: Noise) -> Action | None:
    """What an experiment without a verdict needs, if that can be done now."""
    if experiment.skipped:
        running = any(number == experiment.number for number, _, _ in state.running)
        return None if running else _skip(experiment)
    decision = _decide(state, experiment, judge, noise)
    if isinstance(decision, RecordVerdict):
        if experiment.beside is not None and _is_close(state, decision):
            return _beside(state, experiment.beside)
        if experiment.rounds is not None and decision.verdict.status == "keep":
            return _in_rounds(state, experiment.rounds, decision, judge)
        return decision
    if state.starts_nothing or state.is_running(decision):
        return None
    if experiment.baseline is not None:
        return None if state.is_running(experiment.baseline) else RunTrial(experiment.baseline)
    if not experiment.needs_hook:
        return RunTrial(decision)
    return Wait() if state.hook_running else RunHook(experiment.number)


def _beside(state: LoopSnapshot, request: TrialRequest) -> Action | None:
    """The champion's trial beside a candidate's; once it has run, the re-check that takes it into the bar."""
    if state.recheck is not None:
        return _recheck(state)
    if state.starts_nothing or state.is_running(request):
        return None
    return RunTrial(request)


def _in_rounds(state: LoopSnapshot, rounds: Rounds, decision: RecordVerdict, judge: Judge) -> Action | None:
    """The verdict on a candidate that the rule would keep, from rounds beside the champion; or the next of these."""
    if found := rounds.judge(judge, decision.contestant, decision.verdict):
        return RecordVerdict(decision.number, *found)
    if rounds.next is None or state.starts_nothing or rounds.held or state.is_running(rounds.next):
        return None
    return RunTrial(rounds.next)


def _is_close(state: LoopSnapshot, decision: RecordVerdict) -> bool:
    """Whether a verdict may be that of a machine which was slower or faster than when the bar was measured."""
    bar = state.champion[1].bar if state.champion else None
    value = decision.contestant.mean.metric if decision.contestant.runs else None
    if bar is None or value is None or decision.verdict.reason not in COMPARED:
        return False
    return decision.verdict.status == "keep" or abs(value) <= CLOSE * abs(bar)


def _decide(
    state: LoopSnapshot, experiment: PendingExperiment, judge: Judge, noise: Noise
) -> TrialRequest | RecordVerdict:
    """The verdict on an experiment, or the trial that is missing for it."""
    if isinstance(experiment.pilot, TrialRequest):
        return experiment.pilot
    if experiment.pilot:
        return RecordVerdict(experiment.number, *experiment.pilot)
    candidate, number = experiment.contestant, experiment.number
    decision = judge.judge(state.champion[1] if state.champion else None, candidate, noise)
    if not isinstance(decision, NeedsTrial):
        return RecordVerdict(number, candidate, decision)
    if decision.who == "champion" and state.champion:
        number = state.champion[0]
    return TrialRequest(number, "search", decision.seed, why=decision.why if candidate.runs else "")


def _skip(experiment: PendingExperiment) -> RecordVerdict:
    nothing = Contestant({SEED: Measurement("interrupted", detail="skipped")}, experiment.contestant.lines)
    return RecordVerdict(experiment.number, nothing, Verdict("discard", "skipped", "by the user"))


def _wait(state: LoopSnapshot) -> Wait | Finish:
    """Wait, or finish when there is a reason to, and nothing left to wait for."""
    if state.stop_reason and not (state.running or state.hooks_due):
        return Finish(state.stop_reason)
    return Wait()
