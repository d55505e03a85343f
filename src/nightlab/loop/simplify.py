"""A champion without the changes that earn nothing: measured against the champion, and kept if it is as good."""

from __future__ import annotations

from nightlab.core.types import Experiment, TrialRequest, Verdict
from nightlab.judge import Contestant, judge_ablation
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.measure import measure
from nightlab.loop.scheduler import RunInterrupted
from nightlab.session.replicates import ABLATION, SIMPLIFY_SEED


def simplify(loop: ExperimentLoop, commit: str, hypothesis: str, pairs: int) -> Experiment:
    """Let a champion without some of its changes replace it, if it is as good on ``pairs`` fresh seeds.

    Raises OutOfScope when it is no candidate, NightlabError when it can't be measured.
    """
    champion, metric = loop.session.champion(), loop.session.metric
    seeds = range(SIMPLIFY_SEED, SIMPLIFY_SEED + pairs)
    with loop.scheduler.on_duty():
        loop.resume()
        candidate = loop.candidates.making.candidate(commit, champion.candidate.commit, ABLATION, hypothesis)
        waiting = [e for e in loop.ledger.unjudged() if e.candidate.tree == candidate.tree]
        # What is left may be a genome of before: it is measured again, as what it is now.
        number = waiting[0].number if waiting else loop.candidates.making.admit(candidate, twins=True)
        experiment = loop.ledger.experiment(number)
        if (refusal := _refusal(loop, experiment, champion)) is not None:
            loop.record(experiment, loop.scheduler.contestant(experiment), refusal, champion)
            return loop.ledger.experiment(number)
        budget = loop.session.budget.record()
        asked = [TrialRequest(n, "ablate", seed, budget) for seed in seeds for n in (champion.number, number)]
        found = measure(loop.scheduler, asked)
        sides = found[::2], found[1::2]
        values = [[m.metric for m in side if m.metric is not None] for side in sides]
        bar = loop.scheduler.contestant(champion).bar
        assert bar is not None
        verdict = judge_ablation(metric, bar, values[0], values[1], loop.scheduler.replicates.noise())
        measured = Contestant(dict(zip(seeds, sides[1], strict=True)), candidate.lines)
        loop.record(experiment, measured, verdict, champion)
    return loop.ledger.experiment(number)


def _refusal(loop: ExperimentLoop, experiment: Experiment, champion: Experiment) -> Verdict | None:
    """Run an experiment once as the search would, with its checks: the verdict if it may not be kept at all."""
    while not (candidate := loop.scheduler.contestant(experiment)).runs:
        loop.scheduler.drain()
        if loop.scheduler.asked_to_stop:
            raise RunInterrupted
        loop.scheduler.start(experiment.number, "search", candidate.first)
        loop.scheduler.drain()
    return loop.session.judge.refusal(loop.scheduler.contestant(champion), candidate)
