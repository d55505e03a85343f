"""The scheduler: starts a session's trials, several at once if asked to, waits for them and writes down what came."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from nightlab.core.events import MachineChanged, Rechecked, RunStopped, SlotLost
from nightlab.core.observer import Observer, RunningTrialStatus
from nightlab.core.types import (
    Budget,
    Candidate,
    Experiment,
    Measurement,
    NightlabError,
    Purpose,
    Segment,
    Trial,
    WarmStart,
)
from nightlab.engines.base import Engine, Handle
from nightlab.engines.local.handles import wait_for_any
from nightlab.engines.local.held import AHEAD, worth_holding
from nightlab.engines.local.machine_monitor import SLOW, too_short
from nightlab.engines.local.trial_folder import kill_leftovers
from nightlab.engines.slots import Slot, leaves_a_core
from nightlab.judge import Contestant, Noise
from nightlab.judge.judge import next_seed
from nightlab.session.free import free_of_charge, numbers_of_the_baseline
from nightlab.session.machine_checks import require_disk
from nightlab.session.replicates import ATTEMPTS, Replicates, contestant, replicates
from nightlab.session.seeds import drawn_seed, trial_name
from nightlab.session.session import Session
from nightlab.session.warm_starts import bar_of, start_of

POLL = 0.05  # seconds between looks at the trials in flight
# A trial that starts before the verdict on the one before saves the seconds of an evaluation, some 4 % of a trial, and
# costs a whole one where both are kept: it pays where fewer than a fifth of the LATELY judged experiments were.
LATELY, OFTEN = 20, 0.2


class RunInterrupted(KeyboardInterrupt):
    """The user wants to stop now."""


class Scheduler:
    """Runs the trials of one session on an ``engine``, this machine if left out.

    ``slots``: how many may run at once; None: as many as there is room for.
    Raises NightlabError when there is no room for that number.
    """

    def __init__(self, session: Session, view: Observer, slots: int | None = 1, engine: Engine | None = None) -> None:
        self.session, self.ledger, self.view = session, session.ledger, view
        self.engine: Engine = engine or session.local_engine
        self.slots = self.engine.slots(slots)
        self.running: dict[str, Handle] = {}
        self.trained = 0.0  # seconds that this scheduler's trials spent training
        self.asked_to_stop = 0
        self.stopped_by = "the user"
        self.paused = False  # nothing new is launched
        self._replicates: Replicates | None = None
        session.local_engine.shared = len(self.slots) > 1
        self.upcoming: Callable[[], Candidate | None] = lambda: None  # that of the next trial, as far as it is known
        self._disturbed = 0  # trials in a row
        self._started_at: dict[str, float] = {}
        self._slot_of: dict[int, int] = {}  # the latest, by experiment

    def start(
        self,
        number: int,
        purpose: Purpose,
        seed: int,
        *,
        budget: Budget | None = None,
        commit: str | None = None,
        segment: Segment | None = None,
    ) -> Trial:
        """Start the next attempt at a trial of an experiment, or with ``commit`` of a variant of it, in a free slot."""
        require_disk(self.session.folder)
        experiment = self.ledger.experiment(number)
        trial = self._trial(number, purpose, seed, commit or experiment.candidate.commit, budget, segment)
        self.ledger.start(trial)
        self.running[trial.id] = self.engine.start(trial, self._slot_for(trial))
        self._started_at[trial.id] = time.time()
        self.view.started(experiment, trial)
        return trial

    def _trial(
        self,
        number: int,
        purpose: Purpose,
        seed: int,
        commit: str,
        budget: Budget | None = None,
        segment: Segment | None = None,
    ) -> Trial:
        """The next attempt at a trial."""
        secret = self.session.facts.secret
        attempt = self.ledger.attempts(number, purpose, seed) + 1
        return Trial(
            id=trial_name(secret, number, purpose, seed, attempt),
            experiment=number,
            commit=commit,
            seed=seed,
            purpose=purpose,
            budget=budget or self.session.budget.record(),
            attempt=attempt,
            drawn=drawn_seed(secret, seed) if secret else None,
            free=self._free(number, purpose, seed),
            baseline=numbers_of_the_baseline(self.ledger) if number and self.session.lab.evaluator else None,
            segment=segment,
            warm_start=self._start(number, purpose),
        )

    def _start(self, number: int, purpose: Purpose) -> WarmStart | None:
        """The answer that a trial starts from, where the contract says so."""
        return start_of(self.ledger, self.session.metric, number, purpose) if self.session.lab.warm_start else None

    def _free(self, number: int, purpose: Purpose, seed: int) -> dict[str, float] | None:
        """What a trial may do beside its training; one that runs again is also compared with the baseline's since."""
        if not number or purpose in ("transfer", "population"):
            return None
        own = [trial.id for trial, _ in self.ledger.trials(number, purpose, self.since) if trial.seed == seed]
        again = self.ledger.trials_before(own[0]) if own else None
        return free_of_charge(self.ledger, self.session.budget.record(), self.since, again)

    @property
    def free(self) -> list[Slot]:
        """Slots without a trial, or with one that makes way for the next.

        One that was adopted may be in a slot that this scheduler does not have.
        """
        busy = [running for running in self.running.values() if not self._makes_way(running)]
        taken = {running.slot.number for running in busy}
        return [slot for slot in self.slots if slot.number not in taken][: max(len(self.slots) - len(busy), 0)]

    @property
    def overlapping(self) -> bool:
        """Whether a trial runs beside the evaluation of the one before, in the same slot."""
        taken = [running.slot.number for running in self.running.values()]
        return len(set(taken)) < len(taken)

    def _makes_way(self, running: Handle) -> bool:
        """Whether the next trial starts while this one is evaluated, on the core that training leaves.

        Not where that would tell on what is compared: a time, or a limit on one. Nor where the verdict is likely to
        move the champion, because many of the latest did, or because it was close and runs again: a next one that is
        good too would be tried once more, on the new champion.
        """
        lab, trial = self.session.lab, running.trial
        if lab.compares_times or self.overlapping or self.engine is not self.session.local_engine:
            return False
        if not (trial.experiment and trial.purpose == "search" and self._leaves_a_core(running.slot)):
            return False
        if running.phase()[0] != "evaluating" or len(self.ledger.trials(trial.experiment)) > 1:
            return False
        return self._champion_stays()

    def _champion_stays(self) -> bool:
        """Whether few of the latest experiments moved the champion, so that the next will probably not."""
        lately = [each.kept for each in self.ledger.judged(LATELY) if each.number]
        return sum(lately) < max(OFTEN * len(lately), 1)

    def _leaves_a_core(self, slot: Slot) -> bool:
        session = self.session
        return leaves_a_core(slot, session.device, session.budget.clock, session.lab.resources.cpus)

    def must_wait(self, number: int) -> bool:
        """Whether the slot in which an experiment ran is taken: what its trials are compared with runs in the same."""
        had = self._slot_of.get(number)
        return any(slot.number == had for slot in self.slots) and all(slot.number != had for slot in self.free)

    def _slot_for(self, trial: Trial) -> Slot:
        """A free slot; for a round the one that the experiment had before."""
        free, had = self.free or self.slots, self._slot_of.get(trial.experiment)  # a verdict since may have closed it
        slot = next((one for one in free if trial.purpose == "round" and one.number == had), free[0])
        self._slot_of[trial.experiment] = slot.number
        return slot

    @property
    def since(self) -> int:
        """How many trials ran before the machine was as it is now: their numbers don't compare with later ones."""
        change = self.ledger.latest(MachineChanged)
        return change.since if change else 0

    @property
    def machine_changed(self) -> bool:
        """Whether the machine has changed since the champion was last measured."""
        change, champion = self.ledger.latest(MachineChanged), self.ledger.champion()
        measured = [event.at for event in self.ledger.events(Rechecked, last=1)]
        if champion and champion.judged_at:
            measured.append(champion.judged_at)
        return bool(change and measured and max(measured) < change.at)

    def machine_has_changed(self, since: int, why: str) -> None:
        self.ledger.append(MachineChanged(since, why))
        self._replicates = None

    def forget_noise(self) -> None:
        """Read the replicates again when they are next asked for."""
        self._replicates = None

    @property
    def replicates(self) -> Replicates:
        """The session's replicates, read again only when they have changed."""
        if self._replicates is None:
            self._replicates = replicates(self.ledger, self.session.budget.record(), self.session.lab)
        return self._replicates

    def noise_in_unit(self) -> Noise:
        """The noise of one trial of the champion, in the metric's unit."""
        champion = self.ledger.champion()
        return self.replicates.noise().local(champion.value if champion else self.replicates.baseline)

    def contestant(self, experiment: Experiment) -> Contestant:
        """An experiment's genome as the session's judge sees it."""
        same, champion = self.session.judge.rule.same_seeds, self.ledger.champion()
        found = contestant(self.ledger, experiment, same_seeds=same, since=self.since, champion=champion)
        if found.bar is None:
            return found
        return replace(found, bar=bar_of(self.session, experiment.number, found.bar))

    def finished(self) -> Iterator[tuple[Trial, Measurement]]:
        """Trials that have ended since the last look, written down."""
        for running in list(self.running.values()):
            if running.finished():
                del self.running[running.trial.id]
                self._started_at.pop(running.trial.id, None)
                measurement = self._settled(running.trial, self._of_a_sound_slot(running))
                self.ledger.finish(running.trial, measurement)
                if not self.slots:
                    raise NightlabError(
                        f"no slot is left: {measurement.detail}",
                        "see what nvidia-smi says, fix the machine, then run the same command: it resumes",
                    )
                self.trained += measurement.training_seconds
                if self.ledger.tells_noise(running.trial.id):
                    self._replicates = None
                yield running.trial, measurement

    def drain(self) -> dict[str, Measurement]:
        """Wait until nothing is in flight; returns what the trials yielded, by their ids."""
        landed: dict[str, Measurement] = {}
        while self.running:
            landed |= {trial.id: measured for trial, measured in self.finished()}
            if self.running:
                self.wait()
        return landed

    def ask_to_stop(self, now: bool = False, by: str = "the user") -> None:
        """Start nothing more; ``now``: end what runs, too. From any thread. The first call says ``by`` whom."""
        if not self.asked_to_stop:
            self.stopped_by = by
        self.asked_to_stop = max(self.asked_to_stop, 2 if now else 1)

    def wait(self, rest: Callable[[float], None] = time.sleep) -> None:
        """Wait for a trial to take a step, a moment at most; ``rest`` is how, where none runs."""
        for running, status in zip(self.running.values(), self.tick(), strict=True):
            if self._may_stand_by(status.phase, running.slot):
                self.engine.stand_by(running.trial, running.slot)
            self._hold_next(status.phase, running)
        if self.running:
            wait_for_any(self.running.values(), POLL)
        else:
            rest(POLL)

    def tick(self) -> list[RunningTrialStatus]:
        """Show how far the trials are. Raises RunInterrupted when the user asked to stop now."""
        if self.asked_to_stop > 1:
            self.stop_now()
            raise RunInterrupted
        statuses = [self._status(running) for running in self.running.values()]
        self.view.tick(statuses)
        return statuses

    def _may_stand_by(self, phase: str, slot: Slot) -> bool:
        """Whether the next trial of a slot may be started ahead: when that disturbs none that runs.

        On a CPU that is while an evaluator works that does not keep the time, or training leaves a core.
        """
        lab = self.session.lab
        idle = phase == "evaluating" and lab.evaluator is not None and not lab.evaluator.timed
        idle |= phase == "training" and self._leaves_a_core(slot)
        idle &= not self.overlapping
        return not (self.asked_to_stop or self.paused) and (idle or self.session.device != "cpu")

    def _hold_next(self, phase: str, running: Handle) -> None:
        """Have the next trial's program begin while this one trains: it is held at its start signal.

        Only on a core that training leaves, where no times are compared, starts take long, but not beside a budget, and
        the champion is not likely to move before that: then it would have begun in vain. Not beside the baseline.
        """
        engine, trial = self.session.local_engine, running.trial
        if self.engine is not engine or not engine.can_hold(running.slot):
            return
        if self.asked_to_stop or self.paused:
            engine.hold(None, running.slot)
        elif phase == "training" and trial.experiment and not self.overlapping:
            candidate, number = self.upcoming(), self.ledger.next_number()
            if candidate is None:
                engine.hold(None, running.slot)
            elif not engine.holds(candidate.commit, number, running.slot) and self._may_hold(trial):
                seed = next_seed(self.contestant(Experiment(number, candidate, time.time())))
                engine.hold(self._trial(number, "search", seed, candidate.commit), running.slot)

    def _may_hold(self, trial: Trial) -> bool:
        lab, lately = self.session.lab, [each.measurement for each in self.ledger.judged(LATELY) if each.measurement]
        if lab.compares_times or {"startup_seconds", "wall_seconds"} & lab.objectives.keys():
            return False
        starts = [value for each in lately for name, value in (each.overhead or {}).items() if name.startswith(AHEAD)]
        return worth_holding(trial.free, starts, trial.budget.amount) and self._champion_stays()

    def adopt_running(self) -> int:
        """Adopt the trials that an earlier orchestrator left, running, finished or lost. Returns how many."""
        left = self.ledger.open_trials()
        for trial in left:
            self.running[trial.id] = self.engine.adopt(trial)
        if not left:
            kill_leftovers(self.session.local_engine.folder)
        return len(left)

    @contextmanager
    def on_duty(self) -> Iterator[None]:
        """While the block runs, the observer can ask to stop, and the engine may have something standing by."""
        self.view.began(self.ask_to_stop)
        try:
            with self.session.repo.hearing(self.tick):
                yield
        finally:
            self.engine.dismiss()
            self.view.ended()

    def _of_a_sound_slot(self, running: Handle) -> Measurement:
        """What a trial yielded; nothing is said of a candidate whose GPU failed, and the slot is used no more."""
        measurement = self.engine.collect(running)
        if measurement.measured or not (why := self.engine.slot_failure(running.slot)):
            return measurement
        self.slots = [slot for slot in self.slots if slot.number != running.slot.number]
        self.ledger.append(SlotLost(running.slot.number, why))
        self.view.say(f"  [bold red]slot {running.slot.number} is lost:[/] {why}; its trial runs again elsewhere")
        return replace(measurement, outcome="lost", detail=why)

    def _settled(self, trial: Trial, measurement: Measurement) -> Measurement:
        """Whether a disturbed machine is an accident, or how things are now: then its numbers count, flagged."""
        why = measurement.disturbed
        if why and measurement.outcome in SLOW:
            if trial.attempt < ATTEMPTS:
                self.view.say(f"  [bold yellow]{measurement.outcome}, but {why}:[/] the trial runs again")
                return measurement
            return replace(measurement, disturbed="", machine={**measurement.machine, "disturbed": why})
        if why and not self.session.lab.timed and self.replicates.noise().exact:
            return replace(measurement, disturbed="")  # the same to the last digit every time: speed does not matter
        if not why and too_short(measurement.machine):
            return measurement  # of what was before nothing can be said to have ended
        was = self._disturbed >= ATTEMPTS
        self._disturbed = self._disturbed + 1 if why else 0
        stays = self._disturbed >= ATTEMPTS
        if stays != was:
            self.machine_has_changed(self.ledger.trials_before(trial.id), why or "the machine is calm again")
        if why and not stays:
            self.view.say(f"  [bold yellow]not counted:[/] {why}; the trial runs again")
        elif why:
            if not was:
                self.view.say(f"  [bold yellow]going on all the same:[/] {why}, and that does not end")
            return replace(measurement, disturbed="", machine={**measurement.machine, "disturbed": why})
        return measurement

    def _status(self, running: Handle) -> RunningTrialStatus:
        phase, since = running.phase()
        return RunningTrialStatus(running.trial, phase, since or self._started_at.get(running.trial.id, time.time()))

    def stop_now(self) -> None:
        """End the trials in flight. Their experiments stay unjudged and run again at the next start."""
        for trial in self.ledger.open_trials():  # an interrupt may have come while one was started
            self.running.setdefault(trial.id, self.engine.adopt(trial))
        for running in self.running.values():
            running.stop()
        until = time.monotonic() + 10
        for running in self.running.values():
            while not running.finished() and time.monotonic() < until:
                time.sleep(POLL)
            measurement = self.engine.collect(running)
            if measurement.outcome == "lost":  # stopped before its supervisor could say so
                measurement = replace(measurement, outcome="interrupted", detail=f"stopped by {self.stopped_by}")
            self.ledger.finish(running.trial, measurement)
        self.running.clear()
        self.ledger.append(RunStopped(f"stopped by {self.stopped_by}"))
