"""What kind of number the session's metric is, as its trials show: said once, and recorded so that a resume agrees."""

from __future__ import annotations

from nightlab.core.events import ScaleFound
from nightlab.core.types import Measurement, Scale, Trial
from nightlab.judge import find_scale
from nightlab.loop.scheduler import Scheduler

SAID: dict[Scale, str] = {
    "ratio": "is compared by ratios (on logarithms)",
    "difference": "is compared by differences",
}


class MetricKind:
    """Finds the metric's scale where the contract leaves it open, and notices when the numbers are exact."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler, self.session, self.ledger = scheduler, scheduler.session, scheduler.ledger
        earlier = [measured for _, measured in self.ledger.trials(0, "search") if measured]
        self.precise = bool(earlier[0].standard_error) if earlier else None
        self._told = {True} if scheduler.replicates.noise().rho > 0 else set[bool]()
        """What was said of the seed's part of the noise: that it shows, that it does not any more."""
        self.exact = scheduler.replicates.noise().exact  # what an earlier run has said is not said again

    def learn(self, trial: Trial, measured: Measurement) -> None:
        """Take in a trial that has just been recorded."""
        if trial.purpose not in ("search", "upkeep") or measured.metric is None:
            return
        if self.session.lab.metric.scale == "auto":
            self._learn_scale(measured.metric)
        self._learn_exact()
        self._learn_common_luck()
        self._learn_precision(trial, measured)

    def _learn_scale(self, value: float) -> None:
        known = self.ledger.latest(ScaleFound)
        if known and known.final:
            return
        found = known.scale if known else None
        if value < 0 or (value == 0 and self.session.metric.goal == "minimise"):
            # No time, error or throughput measures that; only a throughput of zero is what a program that fails has.
            why = f"a trial measured {value:g}, which has no ratio"
            self._record(ScaleFound("difference", why, final=True), said=found == "ratio")
        elif (best := find_scale(self.scheduler.replicates.groups(), found)) and best[0] != found:
            self._record(ScaleFound(*best))

    def _record(self, event: ScaleFound, *, said: bool = True) -> None:
        self.ledger.append(event)
        self.scheduler.forget_noise()
        if said:
            self.scheduler.view.say(
                f'{self.session.metric.name} {SAID[event.scale]}: {event.why} (metric.scale = "{event.scale}")'
            )

    def _learn_exact(self) -> None:
        now, name = self.scheduler.replicates.noise().exact, self.session.metric.name
        if now and not self.exact:
            self.scheduler.view.say(
                f"{name} is the same on every seed: the lab is deterministic, each candidate runs once, a gain is exact"
            )
        elif self.exact and not now:
            self.scheduler.view.say(f"{name} differs between seeds after all: close wins run twice from now on")
        self.exact = now

    def _learn_common_luck(self) -> None:
        """Say where part of the noise shows to be the seed's, and where it ceases to: each once in a run."""
        rho = self.scheduler.replicates.noise().rho
        shows = rho > 0
        if (shows or self._told) and shows not in self._told and not self.session.judge.rule.same_seeds:
            self._told.add(shows)
            self.scheduler.view.say(
                f"about {rho:.0%} of the noise's variance is the seed's and common to all programs (rho {rho:.2g}): "
                "it is taken off, by the champion's run on the same seed"
                if shows
                else "no part of the noise shows any more that is the seed's (rho 0): nothing is taken off now"
            )

    def _learn_precision(self, trial: Trial, measured: Measurement) -> None:
        """Say that the lab states how precise its numbers are, and where it ceases to."""
        now, name = bool(measured.standard_error), self.session.metric.name
        if self.precise is None and now:
            self.scheduler.view.say(
                f"{name} comes with its own precision, {measured.own_precision.strip('()')}: no trial counts as more "
                "precise than it says"
            )
        elif self.precise is not None and now != self.precise:
            how = "with" if now else "without"
            self.scheduler.view.say(
                f"  [bold yellow]the metric is of another kind:[/] {name} of #{trial.experiment} comes {how} its own "
                "precision, unlike the one before; at least the session's noise counts for it"
            )
        self.precise = now
