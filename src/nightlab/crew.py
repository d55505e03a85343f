"""The crew: starts a session's trials, several at once if asked to, waits for them and writes down what came."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import FrameType

from nightlab.judge import Contestant
from nightlab.records import Budget, Experiment, Measurement, NightlabError, Purpose, Trial
from nightlab.session import Session, require_disk
from nightlab.standing import ATTEMPTS, Replicates, contestant, replicates, runs
from nightlab.trial.box import Running, end_leftovers
from nightlab.watch.view import Flight, View

POLL = 0.05  # seconds between looks at the trials in flight


class Interrupted(KeyboardInterrupt):
    """The user wants to stop now."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A trial that should run next."""

    number: int
    purpose: Purpose
    seed: int
    why: str = field(default="", compare=False)
    budget: Budget | None = field(default=None, compare=False)


class Crew:
    """Runs the trials of one session. ``slots``: how many may run at once."""

    def __init__(self, session: Session, view: View, slots: int = 1) -> None:
        self.session, self.ledger, self.view, self.slots = session, session.ledger, view, slots
        self.flying: dict[str, Running] = {}
        self.trained = 0.0  # seconds that this crew's trials spent training
        self.asked_to_stop = 0
        self.goal = ""
        self.replicates: Replicates = replicates(session.ledger, session.budget.record(), session.lab.judge.sigma)
        session.box.shared = slots > 1
        self._disturbed = 0  # trials in a row
        self._launched: dict[str, float] = {}

    def launch(
        self,
        number: int,
        purpose: Purpose,
        seed: int,
        *,
        budget: Budget | None = None,
        commit: str | None = None,
    ) -> Trial:
        """Start the next attempt at a trial of an experiment, or with ``commit`` of a variant of it."""
        require_disk(self.session.folder)
        experiment = self.ledger.experiment(number)
        before = [t for t, _ in self.ledger.trials(number, purpose) if t.seed == seed]
        trial = Trial(
            id=f"{number:04d}-{purpose}-s{seed}-{len(before) + 1}",
            experiment=number,
            commit=commit or experiment.candidate.commit,
            seed=seed,
            purpose=purpose,
            budget=budget or self.session.budget.record(),
            attempt=len(before) + 1,
        )
        self.ledger.start(trial)
        self.flying[trial.id] = self.session.box.start(trial)
        self._launched[trial.id] = time.time()
        self.view.started(experiment, trial)
        return trial

    def flies(self, wanted: Wanted) -> bool:
        """Whether such a trial is under way."""
        trials = (running.trial for running in self.flying.values())
        return any(Wanted(trial.experiment, trial.purpose, trial.seed) == wanted for trial in trials)

    @property
    def since(self) -> int:
        """How many trials ran before the machine was as it is now: their numbers don't compare with later ones."""
        changes = self.ledger.notes("machine")
        return int(changes[-1]["since"]) if changes else 0

    @property
    def machine_changed(self) -> bool:
        """Whether the machine has changed since the champion was last measured."""
        changes, champion = self.ledger.notes("machine"), self.ledger.champion()
        measured = [note["at"] for note in self.ledger.notes("upkeep")]
        if champion and champion.judged_at:
            measured.append(champion.judged_at)
        return bool(changes and measured) and max(measured) < changes[-1]["at"]

    def machine_has_changed(self, since: int, why: str) -> None:
        self.ledger.note("machine", {"since": since, "why": why})

    def contestant(self, experiment: Experiment) -> Contestant:
        """An experiment's genome as the session's judge sees it."""
        return contestant(self.ledger, experiment, same_seeds=self.session.judge.rule.same_seeds, since=self.since)

    def finished(self) -> Iterator[tuple[Trial, Measurement]]:
        """Trials that have ended since the last look, written down."""
        for running in list(self.flying.values()):
            if running.finished():
                del self.flying[running.trial.id]
                measurement = self._settled(running.trial, self.session.box.collect(running))
                self.ledger.finish(running.trial, measurement)
                self.trained += measurement.training_seconds
                self.replicates.add(running.trial, measurement, self.since)
                yield running.trial, measurement

    def value(
        self,
        number: int,
        purpose: Purpose,
        seed: int,
        budget: Budget | None = None,
        commit: str | None = None,
        since: int = 0,
    ) -> Measurement:
        """What a genome measures with a seed: taken from the ledger, or run now, more than once if it must be.

        What ran in the first ``since`` trials, or before the machine changed, is not taken.

        Raises NightlabError when it can't be measured, and Interrupted when the user wants to stop.
        """
        own = self.ledger.experiment(number).candidate.commit
        commit = commit or own
        variant = commit != own
        budget = budget or self.session.budget.record()
        while True:
            same = [
                (t, m)
                for t, m in self.ledger.trials(number, purpose, max(since, self.since))
                if (t.seed, t.commit, t.budget) == (seed, commit, budget)
            ]
            # A trial that failed may have met an accident: it stands only if none of the attempts yields a number.
            good = [m for _, m in same if m is not None and m.metric is not None and not m.disturbed]
            found = good[0] if good else runs(same, purpose).get(seed)
            if found is not None and found.metric is not None:
                return found
            if found is not None and len(same) >= ATTEMPTS:
                raise NightlabError(
                    f"{_named(number, variant)} can't be measured: with seed {seed} it {found.outcome}: {found.detail}",
                    f"look at its log: nightlab show {number}",
                )
            if self.asked_to_stop:
                raise Interrupted
            self._measure(number, purpose, seed, budget, commit, variant)

    def replay(self, number: int, seed: int, times: int, budget: Budget) -> list[Measurement]:
        """Run an experiment's genome again, so many times, and say what each trial yielded.

        Raises Interrupted when the user wants to stop.
        """
        found = []
        with self.on_duty():
            self.take_up()
            self.land()
            for _ in range(times):
                if self.asked_to_stop:
                    raise Interrupted
                found.append(self._measure(number, "replay", seed, budget))
        return found

    def land(self) -> dict[str, Measurement]:
        """Wait until nothing is in flight; returns what the trials yielded, by their ids."""
        landed: dict[str, Measurement] = {}
        while self.flying:
            landed |= {trial.id: measured for trial, measured in self.finished()}
            if self.flying:
                self.wait()
        return landed

    def wait(self) -> None:
        if self.asked_to_stop > 1:
            self._stop_now()
            raise Interrupted
        self.view.tick([self._flight(running) for running in self.flying.values()], self.goal)
        time.sleep(POLL)

    def take_up(self) -> int:
        """Adopt the trials that an earlier orchestrator left, running, finished or lost. Returns how many."""
        left = self.ledger.open_trials()
        for trial in left:
            self.flying[trial.id] = self.session.box.adopt(trial)
        if not left:
            end_leftovers(self.session.box.folder)
        return len(left)

    @contextmanager
    def on_duty(self) -> Iterator[None]:
        """Ctrl-C once finishes what is in flight, twice stops now; a termination stops now.

        A terminal that goes away (SIGHUP) stops nothing: the night goes on without its view.
        """

        def ask(number: int, frame: FrameType | None) -> None:
            self.asked_to_stop += 2 if number == signal.SIGTERM else 1
            if self.asked_to_stop == 1:
                self.view.say("finishing what is in flight; Ctrl-C again stops now")

        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _measure(
        self, number: int, purpose: Purpose, seed: int, budget: Budget, commit: str | None = None, variant: bool = False
    ) -> Measurement:
        """Run one trial to its end, and show what it yielded."""
        trial = self.launch(number, purpose, seed, budget=budget, commit=commit)
        measured = self.land()[trial.id]
        self.view.measured(trial, measured, self.session.metric, variant)
        return measured

    def _settled(self, trial: Trial, measurement: Measurement) -> Measurement:
        """Whether a disturbed machine is an accident, or how things are now: then its numbers count, flagged."""
        why = measurement.disturbed
        if not measurement.machine:
            return measurement  # it ended before anybody could look
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

    def _flight(self, running: Running) -> Flight:
        phase, since = running.phase()
        return Flight(running.trial, phase, since or self._launched.get(running.trial.id, time.time()))

    def _stop_now(self) -> None:
        """End the trials in flight. Their experiments stay unjudged and run again at the next start."""
        for running in self.flying.values():
            running.stop()
        until = time.monotonic() + 10
        for running in self.flying.values():
            while not running.finished() and time.monotonic() < until:
                time.sleep(POLL)
            measurement = self.session.box.collect(running)
            if measurement.outcome == "lost":  # stopped before its supervisor could say so
                measurement = replace(measurement, outcome="interrupted", detail="stopped by the user")
            self.ledger.finish(running.trial, measurement)
        self.flying.clear()
        self.ledger.note("stopped", {"reason": "stopped by the user"})


def _named(number: int, variant: bool) -> str:
    return f"a variant of experiment {number}" if variant else f"experiment {number}"
