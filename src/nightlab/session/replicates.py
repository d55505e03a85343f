"""Where things stand in a session: what each genome measured so far, and how far luck alone moves a number.

All of it is read from the ledger, so that a session that was killed stands where it stood.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import replace

from nightlab.core.config import LabConfig
from nightlab.core.events import MachineChanged, ScaleFound
from nightlab.core.types import SEED, Budget, Experiment, Measurement, Purpose, Scale, Trial
from nightlab.judge import (
    Contestant,
    Noise,
    pooled,
    prior_sigma,
    same_on_every_seed,
    seeds_of_candidate,
    share_of,
    share_of_seeds,
    varying,
)
from nightlab.storage.ledger import Ledger

ATTEMPTS = 3  # how often a trial may be lost, or disturbed in a row, before that is how things are
REPEATS = 400  # trials of genomes that had run before: what the noise is learned from, known to 4 % then
RECHECKS = 128  # trials of a champion's re-checks that count, the latest: no rule asks for as many at once
OWN_SEED = 10_000
HUMAN = "human"  # the proposer of a submitted candidate: nightlab try
ABLATION = "ablation"  # who proposes a champion without the changes that earn nothing
POPULATION = "pbt"  # who proposes the schedule that a population ended with: nightlab pbt
SUBMITTERS = (HUMAN, POPULATION)  # the proposers of candidates that are handed in, and measured on their own
# Seeds by purpose: what one question has used is fresh for the next.
PILOT_SEED, RECHECK_SEED, CONFIRM_SEED, ABLATE_SEED, SIMPLIFY_SEED = 401, 501, 1001, 2001, 2501
TRANSFER_SEED, ARENA_SEED, ROUND_SEED, POPULATION_SEED = 3001, 4001, 5001, 9001
RECORD_SEED, REFEREE_SEED = 1_000_001, 2_000_001


def runs(trials: Iterable[tuple[Trial, Measurement | None]], purpose: Purpose = "search") -> dict[int, Measurement]:
    """What counts of a genome's trials, by seed: neither interrupted ones, nor those on a disturbed machine.

    A trial that was lost with its supervisor does not count until that has happened ``ATTEMPTS`` times.
    """
    found: dict[int, Measurement] = {}
    lost: Counter[int] = Counter()
    for trial, measured in trials:
        if measured is None or trial.purpose != purpose or measured.outcome == "interrupted" or measured.disturbed:
            continue
        lost[trial.seed] += measured.outcome == "lost"
        if lost[trial.seed] == ATTEMPTS:
            measured = replace(measured, detail=f"lost {ATTEMPTS} times: {measured.detail}")
        if measured.outcome != "lost" or lost[trial.seed] >= ATTEMPTS:
            found.setdefault(trial.seed, measured)
    return found


def contestant(
    ledger: Ledger, experiment: Experiment, *, same_seeds: bool, since: int = 0, champion: Experiment | None = None
) -> Contestant:
    """An experiment's genome as the judge sees it: with its runs after the first ``since`` trials of the session.

    Under a rule that leaves a candidate its seeds, it first gets those of the ``champion`` that it is compared with.
    """
    number = experiment.number
    first = SEED if same_seeds or not number else OWN_SEED + 2 * number  # no rule with own seeds runs it more often
    bar = experiment.bar
    if bar is None and experiment.measurement is not None:  # kept by a nightlab that had no bars
        bar = experiment.measurement.metric
    searched = ledger.trials(number, "search", since)
    found = runs(searched)
    if experiment.kept:  # a champion is re-checked, and after a simplification only the seeds of that question
        own = [pair for pair in ledger.trials(number, "ablate", since) if pair[0].commit == experiment.candidate.commit]
        found = found or runs(own, "ablate")
        found = {**found, **_measured(upkeeps(ledger, number, since))}
        found = {**found, **_measured(in_rounds(ledger, number, experiment.candidate.commit, since))}
    seeds: tuple[int, ...] = ()
    if champion and experiment.verdict is None and not same_seeds:
        seeds = seeds_of_candidate(number, contestant(ledger, champion, same_seeds=False, since=since))
    candidate = experiment.candidate
    warm = any(trial.warm_start for trial, _ in searched)
    return Contestant(found, candidate.lines, bar, first, candidate.information, seeds, warm)


def upkeeps(ledger: Ledger, champion: int, since: int = 0) -> dict[int, Measurement]:
    """What the latest ``RECHECKS`` trials of a champion's re-checks measured, by seed."""
    return runs(ledger.trials(champion, "upkeep", since, last=RECHECKS), "upkeep")


def in_rounds(ledger: Ledger, candidate: int, commit: str, since: int = 0) -> dict[int, Measurement]:
    """What one side measured in a candidate's rounds beside the champion, by seed: the program of this ``commit``."""
    return runs([pair for pair in ledger.trials(candidate, "round", since) if pair[0].commit == commit], "round")


def _measured(found: dict[int, Measurement]) -> dict[int, Measurement]:
    return {seed: measured for seed, measured in found.items() if measured.measured}


class Replicates:
    """The values of the genomes that ran with more than one seed under the session's budget.

    Replays don't count: the same seed again shows less than the luck of a seed. ``scale``: how values are compared,
    None while that is not known; ``settled``: nothing that is measured changes it any more.
    """

    def __init__(self, budget: Budget, stated: float | None, scale: Scale | None = None, settled: bool = False) -> None:
        self.budget, self.stated, self.scale, self.settled = budget, stated, scale, settled
        self.baseline: float | None = None
        self._values: dict[tuple[str, str | None, int], dict[int, float]] = {}  # by program, start and machine
        self._noise: Noise | None = None
        self._latest: Measurement | None = None

    def add(self, trial: Trial, measured: Measurement | None, machine: int = 0) -> None:
        """Add a trial; ``machine`` tells apart what ran before and after the machine changed."""
        if measured is None or measured.metric is None or measured.disturbed:
            return
        if trial.budget == self.budget and trial.purpose != "replay":
            key = trial.commit, trial.warm_start.answer if trial.warm_start else None, machine
            values = self._values.pop(key, {})  # the genome that ran last stands last
            values[trial.seed] = measured.metric
            self._values[key] = values
            self._noise, self._latest = None, measured
            if self.baseline is None and trial.experiment == 0:
                self.baseline = measured.metric

    def groups(self) -> list[list[float]]:
        return [list(values.values()) for values in self._values.values() if len(values) > 1]

    def on_scale(self) -> list[dict[int, float]]:
        """The same by seed, on the metric's scale: of ratios, their logarithms."""
        programs = [values for values in self._values.values() if len(values) > 1]
        if self.scale != "ratio":
            return programs
        return [{seed: math.log(v) for seed, v in values.items() if 0 < v < math.inf} for values in programs]

    def noise(self) -> Noise:
        """The noise of one trial, as the judge takes it."""
        if self._noise is None:
            self._noise = replace(self._pooled(self.groups()), rho=share_of_seeds(self.on_scale()))
        return self._noise

    def noise_without(self, seeds: Collection[int]) -> Noise:
        """The noise as it was known before the runs with these seeds."""
        groups = [[value for seed, value in one.items() if seed not in seeds] for one in self._values.values()]
        return self._pooled([group for group in groups if len(group) > 1])

    def _pooled(self, groups: list[list[float]]) -> Noise:
        prior = prior_sigma(self.baseline, self.stated)
        if self.stated is None and same_on_every_seed(groups):
            prior = 0.0
        if self.scale == "ratio":
            prior = prior / abs(self.baseline) if self.baseline else 0.0
        found = pooled(varying(groups), prior, self.scale or "difference")
        found = replace(found, unsettled=not self.settled and self.scale != "ratio")
        return found.at_least(self._stated())

    def _stated(self) -> float:
        """The standard error that the latest of these trials states, on the metric's scale; 0 if it does not."""
        if self._latest is None:
            return 0.0
        error = self._latest.standard_error
        return (share_of(error, self._latest.metric) if self.scale == "ratio" else error) or 0.0


def replicates(ledger: Ledger, budget: Budget, lab: LabConfig) -> Replicates:
    """The replicates among the last ``REPEATS`` trials of genomes that had run before, each with its first trial.

    Where the machine changed in between, a genome's values are those of two.
    """
    event, stated = ledger.latest(ScaleFound), lab.metric.scale
    scale = stated if stated != "auto" else event.scale if event else None
    found = Replicates(budget, lab.judge.sigma, scale, stated != "auto" or bool(event and event.final))
    changes = [change.since for change in ledger.events(MachineChanged, last=REPEATS)]
    for place, trial, measured in ledger.repeats(REPEATS):
        found.add(trial, measured, max((since for since in changes if since < place), default=0))
    return found
