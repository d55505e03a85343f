"""Measuring genomes outside the search: what an experiment yields on given seeds, in as many slots as there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nightlab.core.types import Budget, Measurement, NightlabError, Purpose, Trial
from nightlab.loop.scheduler import Crew, Interrupted
from nightlab.session.replicates import ATTEMPTS, runs


@dataclass(frozen=True, slots=True)
class Asked:
    """A trial that somebody wants the outcome of: of an experiment's genome, or with ``commit`` of a variant of it.

    What ran in the session's first ``since`` trials is not taken for it.
    """

    number: int
    purpose: Purpose
    seed: int
    budget: Budget
    commit: str | None = None
    since: int = 0

    def __str__(self) -> str:
        return f"a variant of experiment {self.number}" if self.commit else f"experiment {self.number}"


def measure(crew: Crew, asked: Sequence[Asked]) -> list[Measurement]:
    """What was asked for: taken from the ledger, or run now, in this order and more than once if it must be.

    Raises NightlabError when one can't be measured, and Interrupted when the user wants to stop.
    """
    found: dict[Asked, Measurement] = {}
    flying: dict[str, Asked] = {}  # by the trial's id
    while True:
        for ask in asked:
            if ask in found or ask in flying.values():
                continue
            if known := _known(crew, ask):
                found[ask] = known
            elif crew.free and not crew.asked_to_stop:
                flying[_launch(crew, ask).id] = ask
        if len(found) == len(set(asked)):
            return [found[ask] for ask in asked]
        if crew.asked_to_stop and not crew.flying:
            raise Interrupted
        crew.wait()
        for trial, measured in crew.finished():
            variant = trial.id in flying and bool(flying.pop(trial.id).commit)
            crew.view.measured(trial, measured, crew.session.metric, variant)


def replay(crew: Crew, number: int, seed: int, times: int, budget: Budget) -> list[Measurement]:
    """Run an experiment's genome again, so many times in turn, and say what each trial yielded.

    Raises Interrupted when the user wants to stop.
    """
    found = []
    with crew.on_duty():
        crew.take_up()
        crew.land()
        for _ in range(times):
            if crew.asked_to_stop:
                raise Interrupted
            trial = _launch(crew, Asked(number, "replay", seed, budget))
            found.append(crew.land()[trial.id])
            crew.view.measured(trial, found[-1], crew.session.metric)
    return found


def _launch(crew: Crew, ask: Asked) -> Trial:
    return crew.launch(ask.number, ask.purpose, ask.seed, budget=ask.budget, commit=ask.commit)


def _known(crew: Crew, ask: Asked) -> Measurement | None:
    """What the ledger has of it since the machine is as it is. Raises NightlabError for what can't be measured."""
    commit = ask.commit or crew.ledger.experiment(ask.number).candidate.commit
    same = [
        (t, m)
        for t, m in crew.ledger.trials(ask.number, ask.purpose, max(ask.since, crew.since))
        if (t.seed, t.commit, t.budget) == (ask.seed, commit, ask.budget)
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
