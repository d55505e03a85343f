"""The loop: propose, run, judge, record, repeat. It introduces the rooms to each other and owns nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from nightlab.core.config import StopRules
from nightlab.core.events import RunStarted, RunStopped, SlotsMeasured
from nightlab.core.observer import SessionOpened
from nightlab.core.types import SEED, Experiment, Measurement, NightlabError, Trial, TrialRequest, Verdict
from nightlab.engines.slots import LEAST_SPEED, contention, describe_slots
from nightlab.judge import Contestant, NeedsTrial, judge_ablation
from nightlab.loop.candidate_queue import CandidateQueue
from nightlab.loop.champion_recheck import ChampionRecheck
from nightlab.loop.controls import SessionControl, paused_words
from nightlab.loop.early_stopping import EarlyStopping
from nightlab.loop.hooks import Hooks
from nightlab.loop.measure import measure
from nightlab.loop.notifications import Notifications
from nightlab.loop.pilots import Pilots
from nightlab.loop.scheduler import Interrupted, Scheduler
from nightlab.loop.stop_rules import StopConditions
from nightlab.proposers import Proposer
from nightlab.proposers.selection import Selection
from nightlab.sandbox.bubblewrap import Isolation
from nightlab.session.replicates import ABLATION, HUMAN, SIMPLIFY_SEED
from nightlab.session.session import Session
from nightlab.storage.ledger import append_result, repair_results


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
        self.upkeep, self.pacing, self.hooks, self.steering = (
            ChampionRecheck(scheduler),
            EarlyStopping(scheduler),
            Hooks(scheduler),
            SessionControl(scheduler),
        )
        self.notices = Notifications(scheduler)
        search = session.lab.search
        self.pilots = Pilots(scheduler, search.pilot, search.eta) if search.pilot else None
        self.candidates = CandidateQueue(
            session,
            scheduler.view,
            seed,
            len(scheduler.slots),
            lambda: scheduler.replicates.noise(),
            lambda: self.steering.state.pinned,
            proposers,
            selection,
        )
        self.stopping = StopConditions(stop, session, self.candidates)
        self.answering = False  # only what somebody handed in

    # -- the sentence ----------------------------------------------------------------------------

    def run(self) -> str:
        """Run until something ends the session; returns what it was.

        Raises NightlabError when the baseline can't be measured, or the disk is full.
        """
        scheduler = self.scheduler
        with scheduler.on_duty():
            self.resume()
            if scheduler.paused:
                self.view.say(f"[bold yellow]paused:[/] {paused_words(self.session.tag)}")
            try:
                while not (reason := self._turn()):
                    scheduler.wait()
                self.ledger.append(RunStopped(reason))
                self.notices.ended(reason)
                return reason
            except Interrupted:
                self.candidates.stop()
                raise
            except NightlabError as error:
                self.notices.ended(str(error), trouble=True)
                raise
            finally:
                self.candidates.halt()
                self.hooks.stop()
                self.notices.stop()

    def _turn(self) -> str:
        """Look, and have the next thought; returns why the session has ended, once it has."""
        scheduler = self.scheduler
        self._look()
        final = self._final_reason()
        reason = final or self.stopping.stalled()
        if reason and not scheduler.running and not self.hooks.busy:
            self.candidates.stop()
            return reason
        if final:
            self.candidates.halt()
        elif not (reason or scheduler.paused):
            self.candidates.think()
        self.pacing.look()
        return ""

    def _look(self) -> None:
        """Look at everything once, and start what can be started."""
        self.look()
        while self.scheduler.free and (wanted := self.next_request()):
            self.start(wanted)

    # -- its steps, also for who takes them one by one -------------------------------------------

    def look(self) -> None:
        """Take up orders, and write down what has ended since the last look."""
        self.steering.apply_pending()
        self.hooks.look()
        self.notices.look()
        for trial, measurement in self.scheduler.finished():
            self.candidates.news()
            if trial.purpose != "search":
                self.view.measured(trial, measurement, self.session.metric)

    def start(self, wanted: TrialRequest) -> Trial:
        """Start a trial in a free slot."""
        if wanted.why:
            self.view.again(self.ledger.experiment(wanted.number), wanted.why)
        return self.scheduler.start(wanted.number, wanted.purpose, wanted.seed, budget=wanted.budget)

    def judge_all(self) -> None:
        """Judge whatever can be judged, and start nothing."""
        for experiment in self.ledger.unjudged():
            if self._ours(experiment) and experiment.number not in self.steering.skipped:
                self._judge(experiment)

    def end(self, reason: str) -> None:
        """There is no next step."""
        self.candidates.stop()
        self.hooks.stop()
        self.notices.stop()
        self.scheduler.engine.dismiss()
        self.ledger.append(RunStopped(reason))

    def answer(self) -> None:
        """See what somebody handed in through to its verdicts, and propose nothing else; a pause ends that too.

        Raises Interrupted when the user wants to stop; what waits then is taken up next time.
        """
        self.answering = True
        with self.scheduler.on_duty():
            self.resume()
            try:
                self._look()
                while self.scheduler.running or self.hooks.busy:
                    self.scheduler.wait()
                    self._look()
            finally:
                self.hooks.stop()
            if self.scheduler.asked_to_stop:
                raise Interrupted
        if self.scheduler.paused:
            self.view.say(f"[bold yellow]paused:[/] {paused_words(self.session.tag)}")

    def simplify(self, commit: str, hypothesis: str, pairs: int) -> Experiment:
        """Let a champion without some of its changes replace it, if it is as good on so many fresh seeds.

        Raises OutOfScope when it is no candidate, NightlabError when it can't be measured.
        """
        champion, metric = self.session.champion(), self.session.metric
        seeds = range(SIMPLIFY_SEED, SIMPLIFY_SEED + pairs)
        with self.scheduler.on_duty():
            self.resume()
            candidate = self.candidates.making.candidate(commit, champion.candidate.commit, ABLATION, hypothesis)
            waiting = [e for e in self.ledger.unjudged() if e.candidate.tree == candidate.tree]
            # What is left may be a genome of before: it is measured again, as what it is now.
            number = waiting[0].number if waiting else self.candidates.making.admit(candidate, twins=True)
            experiment = self.ledger.experiment(number)
            if (refusal := self._fitness(experiment, champion)) is not None:
                self._record(experiment, self.scheduler.contestant(experiment), refusal, champion)
                return self.ledger.experiment(number)
            budget = self.session.budget.record()
            asked = [TrialRequest(n, "ablate", seed, budget) for seed in seeds for n in (champion.number, number)]
            found = measure(self.scheduler, asked)
            sides = found[::2], found[1::2]
            values = [[m.metric for m in side if m.metric is not None] for side in sides]
            bar = self.scheduler.contestant(champion).bar
            assert bar is not None
            verdict = judge_ablation(metric, bar, values[0], values[1], self.scheduler.replicates.noise())
            measured = Contestant(dict(zip(seeds, sides[1], strict=True)), candidate.lines)
            self._record(experiment, measured, verdict, champion)
        return self.ledger.experiment(number)

    def _fitness(self, experiment: Experiment, champion: Experiment) -> Verdict | None:
        """Run an experiment once as the search would, with its checks: the verdict if it may not be kept at all."""
        while not (candidate := self.scheduler.contestant(experiment)).runs:
            self.scheduler.drain()
            if self.scheduler.asked_to_stop:
                raise Interrupted
            self.scheduler.start(experiment.number, "search", candidate.first)
            self.scheduler.drain()
        return self.session.judge.refusal(self.scheduler.contestant(champion), candidate)

    # -- what next -------------------------------------------------------------------------------

    def next_request(self) -> TrialRequest | None:
        """The trial to run next, after judging whatever can be judged; None when there is none to start now."""
        champion, asked = self.ledger.champion(), self.scheduler.asked_to_stop or self.scheduler.paused
        if (
            champion and self.scheduler.machine_changed
        ):  # first of all, or others would be compared with another machine's
            wanted = self.upkeep.wanted(self.stopping.done(), stopping=False)
            if wanted or asked:
                return None if asked or (wanted and self.scheduler.is_running(wanted)) else wanted
        for experiment in self.ledger.unjudged():
            if experiment.number in self.steering.skipped:
                self._skip(experiment, champion)
            elif self._ours(experiment):
                wanted = self._judge(experiment)
                if wanted and not self.scheduler.is_running(wanted) and not asked:
                    return wanted if self.hooks.before(experiment) else None
        if asked or self.ledger.champion() is None:
            return None  # without a baseline there is nothing to measure anything else against
        stopping = self.answering or bool(self._final_reason() or self.stopping.stalled())
        wanted = self.upkeep.wanted(self.stopping.done(), stopping=stopping)
        if wanted and not self.scheduler.is_running(wanted):
            return wanted
        if self.answering:
            number = self.candidates.next_try()
        else:
            number = None if stopping else self.candidates.next(idle=not self.scheduler.running)
        if number is None or not self.hooks.before(experiment := self.ledger.experiment(number)):
            return None
        return self._judge(experiment)

    def _ours(self, experiment: Experiment) -> bool:
        """Whether an experiment without a verdict is for this loop to go on with."""
        proposer = experiment.candidate.proposer
        if self.answering:
            return proposer == HUMAN or not experiment.number
        return proposer != ABLATION  # which only `confirm --simplify` can answer

    # -- judging ---------------------------------------------------------------------------------

    def _judge(self, experiment: Experiment) -> TrialRequest | None:
        """Judge an experiment, or say which trial that takes."""
        champion = self.ledger.champion()
        if champion and self.pilots:
            pilot = self.pilots.judge(experiment, champion)
            if isinstance(pilot, TrialRequest):
                return pilot
            if pilot:
                self._record(experiment, *pilot, champion)
                return None
        candidate = self.scheduler.contestant(experiment)
        decision = self.session.judge.judge(
            self.scheduler.contestant(champion) if champion else None, candidate, self.scheduler.replicates.noise()
        )
        if isinstance(decision, NeedsTrial):
            who = champion if decision.who == "champion" and champion else experiment
            return TrialRequest(who.number, "search", decision.seed, why=decision.why if candidate.runs else "")
        self._record(experiment, candidate, decision, champion)
        return None

    def _skip(self, experiment: Experiment, champion: Experiment | None) -> None:
        """Discard what the human does not want run, once none of its trials is in flight."""
        if all(running.trial.experiment != experiment.number for running in self.scheduler.running.values()):
            self.steering.skipped.discard(experiment.number)
            nothing = Contestant({SEED: Measurement("interrupted", detail="skipped")}, experiment.candidate.lines)
            self._record(experiment, nothing, Verdict("discard", "skipped", "by the user"), champion)

    def _record(
        self, experiment: Experiment, candidate: Contestant, verdict: Verdict, champion: Experiment | None
    ) -> None:
        self.ledger.judge(experiment.number, _of(candidate), verdict)
        experiment = self.ledger.experiment(experiment.number)
        self.candidates.judged(experiment)
        self.hooks.judged()
        append_result(self.session.results, experiment)
        if experiment.kept and not self.session.sync():
            self.view.say(f"{self.session.branch} is checked out somewhere: it moves when you switch away")
        self.view.judged(experiment, champion)
        if experiment.number == 0 and verdict.status != "keep":
            self.candidates.stop()
            log = self.session.box.folder / f"{self.ledger.trials(0)[-1][0].id}" / "candidate.log"
            raise NightlabError(
                f"the baseline can't be measured: {verdict.reason}: {verdict.detail}",
                f"read {log}, mend the lab, commit, and run again (a fresh session starts)",
            )

    # -- beginning and ending --------------------------------------------------------------------

    def _note_machine(self) -> None:
        """Remember what this runs on; what was measured before a change does not compare with what comes after."""
        slots, past = describe_slots(self.scheduler.slots), self.ledger.latest(RunStarted)
        now = f"{self.scheduler.engine.platform}{slots and f', {slots}'}"
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
            )
        )
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

    def _final_reason(self) -> str:
        """Why the session ends, whatever what is in flight brings."""
        return "stopped by the user" if self.scheduler.asked_to_stop else self.stopping.reason()


def _sealing(box: Isolation) -> str:
    """What the trials of this session are sealed in, and what it lacks, in words."""
    if not box.missing:
        return f"each trial is sealed in {box.name}"
    return f"NOT sealed: no protection of {', '.join(box.missing)} ({box.why})"


def _of(candidate: Contestant) -> Measurement:
    """What an experiment measured: the mean of its trials, or the one that ended it."""
    measured = list(candidate.runs.values())
    return candidate.mean if all(m.measured for m in measured) else next(m for m in measured if not m.measured)
