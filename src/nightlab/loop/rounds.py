"""Rounds of a candidate and the champion in turn, on the same cores: what a metric that is a time is kept by."""

from __future__ import annotations

from dataclasses import dataclass

from nightlab.core.types import Experiment, Measurement, TrialRequest, Verdict
from nightlab.judge import Contestant, Judge
from nightlab.judge.rounds import MOST, compare_rounds
from nightlab.loop.scheduler import Scheduler
from nightlab.session.replicates import ROUND_SEED, in_rounds


@dataclass(frozen=True, slots=True)
class Rounds:
    """What a candidate and the champion measured in their rounds, by seed, and the trial that comes next.

    ``next``: None after the last round. ``held``: the cores that it has to run on are taken.
    """

    candidate: dict[int, Measurement]
    champion: dict[int, Measurement]
    precision: float
    next: TrialRequest | None
    held: bool = False

    def judge(self, judge: Judge, contestant: Contestant, decision: Verdict) -> tuple[Contestant, Verdict] | None:
        """The verdict and what it rests on; None where the next trial is needed first."""
        if not self.candidate:
            return None
        rest = Contestant(self.candidate, contestant.lines, information=contestant.information)
        if refusal := judge.refusal(None, rest):
            return rest, refusal
        before, after = Contestant(self.champion, 0).values(), rest.values()
        pairs = [(before[seed], after[seed]) for seed in after if seed in before]
        verdict = compare_rounds(judge.metric, pairs, self.precision, decision, last=self.next is None)
        return (rest, verdict) if verdict else None


def rounds(scheduler: Scheduler, experiment: Experiment, champion: Experiment) -> Rounds | None:
    """The rounds of a candidate, of a metric that is a time; None for others, and where no re-checks are wanted."""
    lab, ledger = scheduler.session.lab, scheduler.ledger
    if not lab.timed or not lab.judge.upkeep:
        return None
    first = ROUND_SEED + MOST * champion.number  # those beside another champion are none beside this one
    seeds = range(first, first + MOST)
    own, other = experiment.candidate.commit, champion.candidate.commit
    sides = {commit: in_rounds(ledger, experiment.number, commit, scheduler.since) for commit in (own, other)}
    sides = {commit: {seed: run for seed, run in side.items() if seed in seeds} for commit, side in sides.items()}
    turns = ((seed, commit) for seed in seeds for commit in ((own, other) if seed % 2 else (other, own)))  # ABBA
    missing = next(((seed, commit) for seed, commit in turns if seed not in sides[commit]), None)
    request = TrialRequest(experiment.number, "round", missing[0], commit=missing[1]) if missing else None
    return Rounds(sides[own], sides[other], lab.metric.precision, request, scheduler.must_wait(experiment.number))
