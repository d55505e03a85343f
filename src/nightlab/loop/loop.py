"""The loop of a session: propose, run, judge, record, repeat. ``plan`` decides the next action; this carries it out."""

from __future__ import annotations

from collections.abc import Mapping

from nightlab.core.config import StopRules
from nightlab.core.events import RunStarted, RunStopped, SlotsMeasured
from nightlab.core.observer import SessionOpened
from nightlab.core.types import Candidate, Experiment, Measurement, NightlabError, Trial, TrialRequest, Verdict
from nightlab.engines.slots import LEAST_SPEED, contention, describe_slots
from nightlab.judge import Contestant
from nightlab.loop.candidate_queue import CandidateQueue
from nightlab.loop.champion_recheck import ChampionRecheck
from nightlab.loop.controls import SessionControl, paused_words
from nightlab.loop.early_stopping import EarlyStopping
from nightlab.loop.forecast import forecast, slots_words
from nightlab.loop.hooks import Hooks
from nightlab.loop.metric_kind import MetricKind
from nightlab.loop.notifications import Notifications
from nightlab.loop.pilots import Pilots
from nightlab.loop.plan import (
    Finish,
    LoopSnapshot,
    PendingExperiment,
    RecordRecheck,
    RecordVerdict,
    RunHook,
    RunTrial,
    TakeNext,
    Wait,
    next_action,
)
from nightlab.loop.rounds import rounds
from nightlab.loop.scheduler import RunInterrupted, Scheduler
from nightlab.loop.stop_rules import StopConditions
from nightlab.proposers import Proposer
from nightlab.proposers.requirements import uncounted
from nightlab.proposers.selection import Selection
from nightlab.sandbox.bubblewrap import Isolation
from nightlab.session.check import unmeasured
from nightlab.session.replicates import ABLATION, SUBMITTERS
from nightlab.session.session import Session
from nightlab.session.warm_starts import forget_answers, verdict_with_start
from nightlab.storage.ledger import append_result, repair_results, require_kept


class ExperimentLoop:
    """Runs experiments in one session until a stop rule, or the user, ends it. ``seed``: the proposers' randomness.

    ``proposers``, each with its share, come beside those of the contract; ``selection`` takes the place of its search.
    """

    def __init__(
        self,
        session: Session,
        stop: StopRules,
        scheduler: Scheduler,
        *,
        seed: int = 0,
        proposers: Mapping[str, tuple[Proposer, float]] | None = None,
        selection: Selection | None = None,
    ) -> None:
        self.session, self.ledger, self.scheduler, self.view = session, session.ledger, scheduler, scheduler.view
        self.recheck, self.early_stopping, self.hooks, self.steering = (
            ChampionRecheck(scheduler),
            EarlyStopping(scheduler),
            Hooks(scheduler),
            SessionControl(scheduler),
        )
        self.notices, self.kind = Notifications(scheduler), MetricKind(scheduler)
        search = session.lab.search
        self.pilots = Pilots(scheduler, search.pilot, search.eta) if search.pilot else None
        self.candidates = CandidateQueue(
            session,
            scheduler.view,
            seed,
            len(scheduler.slots),
            scheduler.noise_in_unit,
            self._pinned,
            proposers,
            selection,
            scheduler.tick,
        )
        self.stopping = StopConditions(stop, session, self.candidates)
        self.answering = False  # only what was handed in
        if not (self.pilots or session.lab.hooks.before):  # the next trial is one of the candidate that comes next
            scheduler.upcoming = self._upcoming

    def _upcoming(self) -> Candidate | None:
        """The candidate of the next trial, as far as it is known."""
        return None if self.answering or self._final_reason() else self.candidates.upcoming()

    def _pinned(self) -> int | None:
        """The experiment that every proposal starts from, where there is one."""
        independent = self.session.lab.search.strategy == "independent" and self.ledger.champion() is not None
        pinned = self.steering.state.pinned
        return 0 if pinned is None and independent else pinned

    # -- propose, run, judge, record, repeat -----------------------------------------------------

    def run(self) -> str:
        """Run until something ends the session; returns what it was.

        Raises NightlabError when the baseline can't be measured, or the disk is full.
        """
        scheduler = self.scheduler
        with scheduler.on_duty():
            self.resume()
            self._say_paused()
            try:
                while not (reason := self.step()):
                    scheduler.wait(self.candidates.turns.rest)
                self.ledger.append(RunStopped(reason))
                self.notices.ended(reason)
                return reason
            except RunInterrupted:
                self.candidates.stop()
                raise
            except (NightlabError, OSError) as error:
                self.notices.ended(str(error), trouble=True)
                require_kept(self.ledger, self.session.repo.lab)  # which may be why
                raise
            finally:
                self.candidates.turns.halt()
                self.hooks.stop()
                self.notices.stop()

    def step(self) -> str:
        """Do all that can be done now; returns why the session has ended, once it has."""
        self.update()
        action = self._start_trials()
        if isinstance(action, Finish):
            self.candidates.stop()
            return action.reason
        self._propose()
        self.early_stopping.poll()
        return ""

    def update(self) -> None:
        """Follow the user's orders, and record and judge what has finished."""
        require_kept(self.ledger, self.session.repo.lab)
        self.steering.apply_pending()
        self.hooks.poll()
        self.notices.poll()
        finished = list(self.scheduler.finished())
        for trial, measurement in finished:
            self.candidates.turns.on_result(measurement.wall_seconds)
            self.kind.learn(trial, measurement)
            if trial.purpose != "search":
                variant = trial.commit != self.ledger.experiment(trial.experiment).candidate.commit
                self.view.measured(trial, measurement, self.session.metric, variant)
        if finished:  # also where no slot is free: the next trial may run already
            self.judge_all()

    def _start_trials(self) -> Wait | Finish:
        """Judge, record, and start trials until every slot is taken or nothing more can start."""
        while self.scheduler.free:
            action = self._next_trial()
            if not isinstance(action, RunTrial):
                return action
            self.start(action.request)
        return Wait()

    def _propose(self) -> None:
        """Let the proposers prepare candidates while trials run; a turn knows what came of the trial before."""
        if self._final_reason():
            self.candidates.turns.halt()
        elif not (self.scheduler.paused or self.scheduler.overlapping or self.stopping.stalled()):
            self.candidates.propose_ahead()

    def answer(self) -> None:
        """Measure and judge what users have submitted, and propose nothing; a pause ends that too.

        Raises RunInterrupted when the user asks to stop; what is left is measured next time.
        """
        with self.scheduler.on_duty():
            self.resume()
            self.answer_now()
        self._say_paused()

    def answer_now(self) -> None:
        """As ``answer``, of a loop that has resumed and is on duty."""
        self.answering = True
        try:
            self.update()
            self._start_trials()
            while self.scheduler.running or self.hooks.busy:
                self.scheduler.wait()
                self.update()
                self._start_trials()
        finally:
            self.hooks.stop()
        if self.scheduler.asked_to_stop:
            raise RunInterrupted

    # -- single steps, for callers that run the trials themselves --------------------------------

    def next_request(self) -> TrialRequest | None:
        """The trial to run next, after judging what can be judged; None when none can start now."""
        action = self._next_trial()
        return action.request if isinstance(action, RunTrial) else None

    def start(self, request: TrialRequest) -> Trial:
        """Start a trial in a free slot."""
        if request.why:
            self.view.again(self.ledger.experiment(request.number), request.why)
        return self.scheduler.start(
            request.number, request.purpose, request.seed, budget=request.budget, commit=request.commit
        )

    def judge_all(self) -> None:
        """Judge what can be judged, and start nothing."""
        self._next_trial(start=False)

    def end(self, reason: str) -> None:
        """There is no next step."""
        self.candidates.stop()
        self.hooks.stop()
        self.notices.stop()
        self.scheduler.engine.dismiss()
        self.ledger.append(RunStopped(reason))

    # -- planning, and carrying out the plan -----------------------------------------------------

    def _next_trial(self, *, start: bool = True) -> RunTrial | Wait | Finish:
        """Carry out the planned actions up to the next trial to start. Without ``start``, plan no trial."""
        queue_empty = False
        while True:
            state = self._state(queue_empty=queue_empty, start=start)
            action = next_action(state, self.session.judge, self.scheduler.replicates.noise())
            match action:
                case RunHook():
                    self.hooks.run_before(self.ledger.experiment(action.number))
                case RecordVerdict():
                    experiment = self.ledger.experiment(action.number)
                    self.steering.skipped.discard(action.number)
                    self.record(experiment, action.contestant, action.verdict, self.ledger.champion())
                case RecordRecheck():
                    self.recheck.record(action.result)
                case TakeNext():
                    queue_empty = self._take_next() is None
                case _:
                    return action

    def _take_next(self) -> int | None:
        """The number of the next experiment in the queue; None when none is ready."""
        if self.answering:
            return self.candidates.next_try()
        return self.candidates.next(idle=not self.scheduler.running)

    def _state(self, *, queue_empty: bool, start: bool) -> LoopSnapshot:
        """A snapshot of the session."""
        scheduler, champion = self.scheduler, self.ledger.champion()
        stop_reason = "" if self.answering else self._final_reason() or self.stopping.stalled()
        changed = scheduler.machine_changed
        stopping = (self.answering or bool(stop_reason)) and not changed
        trials = [running.trial for running in scheduler.running.values()]
        return LoopSnapshot(
            champion=(champion.number, scheduler.contestant(champion)) if champion else None,
            pending=tuple(self._pending(experiment, champion) for experiment in self._open_experiments()),
            running=frozenset((trial.experiment, trial.purpose, trial.seed) for trial in trials),
            recheck=self.recheck.next_step(self.stopping.done(), stopping=stopping) if champion else None,
            machine_changed=changed,
            queue_empty=queue_empty,
            hook_running=self.hooks.before_running,
            hooks_due=self.hooks.busy,
            stop_requested=scheduler.asked_to_stop > 0,
            paused=scheduler.paused or not start,
            stop_reason=stop_reason,
        )

    def _pending(self, experiment: Experiment, champion: Experiment | None) -> PendingExperiment:
        return PendingExperiment(
            experiment.number,
            self.scheduler.contestant(experiment),
            pilot=self.pilots.judge(experiment, champion) if champion and self.pilots else None,
            skipped=experiment.number in self.steering.skipped,
            needs_hook=self.hooks.needs_before(experiment),
            beside=self.recheck.beside(experiment, champion) if champion else None,
            baseline=self.recheck.baseline_beside(experiment),
            rounds=rounds(self.scheduler, experiment, champion) if champion else None,
        )

    def _open_experiments(self) -> list[Experiment]:
        """The experiments without a verdict that this loop goes on with, or that the user has skipped."""
        return [e for e in self.ledger.unjudged() if e.number in self.steering.skipped or self._is_ours(e)]

    def _is_ours(self, experiment: Experiment) -> bool:
        proposer = experiment.candidate.proposer
        if self.answering:
            return proposer in SUBMITTERS or not experiment.number
        return proposer != ABLATION  # which only `confirm --simplify` can answer

    # -- recording -------------------------------------------------------------------------------

    def record(
        self, experiment: Experiment, candidate: Contestant, verdict: Verdict, champion: Experiment | None
    ) -> None:
        """Record a verdict, and tell everything that follows it. Raises NightlabError if it is a baseline's crash."""
        verdict = verdict_with_start(self.session, experiment.number, verdict)
        self.ledger.judge(experiment.number, _of(candidate), verdict)
        experiment = self.ledger.experiment(experiment.number)
        forget_answers(self.session, experiment)
        self.candidates.judged(experiment)
        self.hooks.judged()
        append_result(self.session.results, experiment)
        if experiment.kept and not self.session.sync():
            self.view.say(f"{self.session.branch} is checked out somewhere: it moves when you switch away")
        self.view.judged(experiment, champion)
        if experiment.number:
            return
        if verdict.status != "keep":
            self.candidates.stop()
            logs = self.session.local_engine.folder / f"{self.ledger.trials(0)[-1][0].id}"
            failed = _of(candidate).outcome == "no metric" or "the evaluator" in verdict.detail
            log = logs / ("evaluator.log" if failed and self.session.lab.evaluator else "candidate.log")
            raise NightlabError(
                f"the baseline can't be measured: {verdict.reason}: {verdict.detail}",
                f"read {log}, fix the lab, commit, and run again (a fresh session starts){self._unsealing()}",
            )
        if words := slots_words(self.session, _of(candidate).wall_seconds, len(self.scheduler.slots)):
            self.view.say(words)
        for check in unmeasured(self.session.lab, _of(candidate)):
            self.view.say(f"{check.what}: {check.hint}")

    def _unsealing(self) -> str:
        """What else helps where another system's evaluator calls the candidate in a separate process."""
        evaluator = self.session.lab.evaluator
        if evaluator is None or "nightlab_bridge." not in evaluator.command:
            return ""
        return "; if its evaluator needs the program in its own process, make the lab anew: nightlab open --unsealed"

    # -- beginning and ending --------------------------------------------------------------------

    def _note_machine(self) -> None:
        """Remember what this runs on; what was measured before a change does not compare with what comes after."""
        slots, past = describe_slots(self.scheduler.slots), self.ledger.latest(RunStarted)
        now = f"{self.scheduler.engine.platform}{slots and f', {slots}'}"
        if old := self.session.local_engine.caches.outdated:
            self.view.say(
                f"the compiled kernels are for NVIDIA driver {old}, another than now: each trial compiles anew; "
                "a new session (nightlab run --tag NAME) makes them once"
            )
        missing, stop = tuple(self.scheduler.engine.sandbox.missing), self.stopping.stop.model_dump(exclude_none=True)
        self.ledger.append(RunStarted(now, missing, len(self.scheduler.slots), stop))
        if past and past.platform != now:
            self.scheduler.machine_has_changed(self.ledger.trials_before(), f"it was {past.platform}")
            self.view.say(f"the machine has changed since last time ({past.platform}): the champion runs again")

    def resume(self) -> None:
        """Go on where an earlier orchestrator stopped, however it did."""
        session = self.session
        if self.ledger.next_number() == 0:
            self.candidates.making.admit(self.candidates.making.baseline())
        adopted = self.scheduler.adopt_running()
        self._note_machine()
        repair_results(session.results, session.metric, self.ledger)
        session.sync()
        self.view.opened(
            SessionOpened(
                tag=session.tag,
                lab=session.lab.name,
                metric=session.metric,
                budget=str(session.budget.record()),
                platform=str(session.platform),
                sandbox=_sealing(self.scheduler.engine.sandbox),
                experiments=self.stopping.done(),
                champion=self.ledger.champion(),
                adopted=adopted,
                folder=session.folder,
                forecast=forecast(session, self.stopping.stop, len(self.scheduler.slots)),
            )
        )
        for words in uncounted(session.lab, self.stopping.stop, session.sandbox):
            self.view.say(words)
        if self.scheduler.slots[0].cores and session.device == "cpu" and not adopted:
            self._look_at_slots()

    def _look_at_slots(self) -> None:
        """How much the slots are in each other's way: they share caches and the way to the memory."""
        speed = contention(self.scheduler.slots)
        self.ledger.append(SlotsMeasured(describe_slots(self.scheduler.slots), speed))
        words = f"{describe_slots(self.scheduler.slots)}: while all work, each is {speed:.0%} as fast as alone"
        if speed < LEAST_SPEED:
            words += "; a trial gets less done in its budget, and noise grows when a slot is idle at times"
        self.view.say(words)

    def _say_paused(self) -> None:
        if self.scheduler.paused:
            self.view.say(f"[bold yellow]paused:[/] {paused_words(self.session.tag)}")

    def _final_reason(self) -> str:
        """Why the session ends, whatever what is in flight brings."""
        scheduler = self.scheduler
        return f"stopped by {scheduler.stopped_by}" if scheduler.asked_to_stop else self.stopping.reason()


def _sealing(sandbox: Isolation) -> str:
    """What the trials of this session are sealed in, and what it lacks, in words."""
    if not sandbox.missing:
        return f"each trial is sealed in {sandbox.name}"
    return f"NOT sealed: no protection of {', '.join(sandbox.missing)} ({sandbox.why})"


def _of(candidate: Contestant) -> Measurement:
    """What an experiment measured: the mean of its trials, or the one that ended it."""
    measured = list(candidate.runs.values())
    return candidate.mean if all(m.measured for m in measured) else next(m for m in measured if not m.measured)
