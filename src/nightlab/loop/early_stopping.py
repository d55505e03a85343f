"""Ends candidates' trials early that can't win any more, as often as the contract allows (``judge.hopeless``)."""

from __future__ import annotations

import time

from nightlab.core.types import Experiment, Measurement, Trial
from nightlab.engines.local import curve
from nightlab.judge.curve_stopping import CurveModel, FinishedCurve, is_control
from nightlab.loop.scheduler import Scheduler
from nightlab.session.replicates import ABLATION

EVERY = 0.5  # seconds between looks


class EarlyStopping:
    """Looks at the candidates' first trials in flight. All that it knows is in the ledger and the trials' folders."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler, self.session, self.ledger = scheduler, scheduler.session, scheduler.ledger
        self.risk = self.session.lab.judge.hopeless
        self.ran: dict[int, tuple[tuple[float, ...], float]] = {}  # by experiment: losses by part, and the metric
        self.read = self.since = 0  # how many of the session's trials are in it or passed over, and how many too old
        self.looked = 0.0
        self.seen: dict[str, int] = {}  # parts of the budget that were looked at, by trial

    def poll(self) -> None:
        """Give up what can't win any more. It costs next to nothing until a part of some trial's budget is over."""
        if not self.risk or time.monotonic() - self.looked < EVERY:
            return
        self.looked = time.monotonic()
        for running in self.scheduler.running.values():
            folder = self.session.local_engine.folder / running.trial.id
            if not (folder / "lock").exists():
                continue  # it runs elsewhere, where its supervisor reads no word of ours
            losses = curve.part_losses(curve.load_curve(folder))
            if len(losses) > self.seen.get(running.trial.id, 0):
                self.seen[running.trial.id] = len(losses)
                if self._watched(running.trial) and (why := self._unpromising(losses)):
                    curve.request_stop(folder, why)

    def _watched(self, trial: Trial) -> bool:
        """Whether a trial is a candidate's first, under the usual budget; a second look at a close win runs on."""
        number = trial.experiment
        if trial.purpose != "search" or trial.budget != self.session.budget.record() or is_control(number):
            return False
        experiment = self.ledger.experiment(number)
        waits = experiment.verdict is None and experiment.candidate.proposer != ABLATION
        return waits and not self.scheduler.contestant(experiment).runs

    def _unpromising(self, losses: list[float]) -> str:
        """Why a trial that is so far can't win any more; empty while it may, or it can't be told."""
        self._catch_up()
        champion = self.ledger.champion()
        if champion is None or champion.number not in self.ran:
            return ""
        kept = self.ledger.kept()
        ran = [FinishedCurve(*found, number in kept and number > 0) for number, found in self.ran.items()]
        pace, theirs = CurveModel(self.session.metric, ran, self.risk), self.ran[champion.number][0]
        part = pace.unpromising(losses, theirs, self._least(champion))
        if part is None:
            return ""
        behind = losses[part] - theirs[part]
        return (
            f"at {(part + 1) / curve.PARTS:.0%} its loss was {behind:.3g} above the champion's: "
            f"none of {pace.count} trials made up so much"
        )

    def _least(self, champion: Experiment) -> float:
        """What a candidate has to measure: the bar, but a tie may go to the simpler program."""
        bar = self.scheduler.contestant(champion).bar
        assert bar is not None
        return self.session.metric.worsened(bar, self.scheduler.noise_in_unit().sigma)

    def _catch_up(self) -> None:
        """Read what has run to its end since the last look, on this machine."""
        if self.scheduler.since != self.since:
            self.since = self.read = self.scheduler.since
            self.ran.clear()
        all_ended = True
        for trial, measured in self.ledger.trials(since=self.read):
            all_ended = all_ended and measured is not None
            self.read += all_ended
            if measured is not None:
                self._add(trial, measured)

    def _add(self, trial: Trial, measured: Measurement) -> None:
        """Remember the first trial of an experiment that ran to its end and told how it went."""
        usual = trial.purpose == "search" and trial.budget == self.session.budget.record() and not measured.disturbed
        if usual and measured.metric is not None and trial.experiment not in self.ran:
            losses = curve.part_losses(curve.load_curve(self.session.local_engine.folder / trial.id))
            if len(losses) == curve.PARTS - 1:
                self.ran[trial.experiment] = tuple(losses), measured.metric
