"""Measuring genomes outside the search: what an experiment yields on given seeds, in as many slots as there are."""

from __future__ import annotations

from collections.abc import Sequence

from nightlab.core.types import Budget, Measurement, NightlabError, Trial, TrialRequest
from nightlab.loop.scheduler import RunInterrupted, Scheduler
from nightlab.session.replicates import ATTEMPTS, runs


def measure(scheduler: Scheduler, asked: Sequence[TrialRequest]) -> list[Measurement]:
    """What was asked for: taken from the ledger, or run now, in this order and more than once if it must be.

    Raises NightlabError when one can't be measured, and RunInterrupted when the user wants to stop.
    """
    found: dict[TrialRequest, Measurement] = {}
    running: dict[str, TrialRequest] = {}  # by the trial's id
    while True:
        for ask in asked:
            if ask in found or ask in running.values():
                continue
            if known := _known(scheduler, ask):
                found[ask] = known
            elif scheduler.free and not scheduler.asked_to_stop:
                running[_launch(scheduler, ask).id] = ask
        if len(found) == len(set(asked)):
            return [found[ask] for ask in asked]
        if scheduler.asked_to_stop and not scheduler.running:
            raise RunInterrupted
        scheduler.wait()
        for trial, measured in scheduler.finished():
            variant = trial.id in running and bool(running.pop(trial.id).commit)
            scheduler.view.measured(trial, measured, scheduler.session.metric, variant)


def replay(scheduler: Scheduler, number: int, seed: int, times: int, budget: Budget) -> list[Measurement]:
    """Run an experiment's genome again, ``times`` times in turn, and say what each trial yielded.

    Raises RunInterrupted when the user wants to stop.
    """
    found = []
    with scheduler.on_duty():
        scheduler.adopt_running()
        scheduler.drain()
        for _ in range(times):
            if scheduler.asked_to_stop:
                raise RunInterrupted
            trial = _launch(scheduler, TrialRequest(number, "replay", seed, budget))
            found.append(scheduler.drain()[trial.id])
            scheduler.view.measured(trial, found[-1], scheduler.session.metric)
    return found


def _launch(scheduler: Scheduler, ask: TrialRequest) -> Trial:
    return scheduler.start(ask.number, ask.purpose, ask.seed, budget=ask.budget, commit=ask.commit)


def _known(scheduler: Scheduler, ask: TrialRequest) -> Measurement | None:
    """What the ledger has of it since the machine is as it is. Raises NightlabError for what can't be measured."""
    commit = ask.commit or scheduler.ledger.experiment(ask.number).candidate.commit
    budget = ask.budget or scheduler.session.budget.record()
    same = [
        (t, m)
        for t, m in scheduler.ledger.trials(ask.number, ask.purpose, max(ask.since, scheduler.since))
        if (t.seed, t.commit, t.budget) == (ask.seed, commit, budget)
    ]
    # A trial that failed may have met an accident: it stands only if none of the attempts yields a number.
    good = [m for _, m in same if m is not None and m.metric is not None and not m.disturbed]
    found = good[0] if good else runs(same, ask.purpose).get(ask.seed)
    if found is not None and found.metric is None and len(same) >= ATTEMPTS:
        raise NightlabError(
            f"{ask} can't be measured: with seed {ask.seed} it {found.outcome}: {found.detail}",
            f"look at its log: nightlab show {ask.number}",
        )
    return found if found is not None and found.metric is not None else None
