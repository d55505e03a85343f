"""Which answer a trial starts from, where the contract says that trials start from the champion's (``warm_start``)."""

from __future__ import annotations

from dataclasses import replace

from nightlab.core.types import Experiment, Metric, Purpose, Verdict, WarmStart
from nightlab.session.session import Session
from nightlab.storage.ledger import Ledger

LOOKED_FOR: tuple[Purpose, ...] = ("search", "upkeep")  # purposes of trials whose answers later ones may start from
AS_BEFORE: tuple[Purpose, ...] = ("search", "upkeep", "replay", "confirm")  # an experiment always starts from the same


def best_answer(ledger: Ledger, metric: Metric, number: int) -> WarmStart | None:
    """The best answer that an experiment's trials left; None where there is none."""
    best: WarmStart | None = None
    for trial, measured in ledger.trials(number):
        if trial.purpose not in LOOKED_FOR or measured is None or not measured.answer or measured.disturbed:
            continue
        if measured.metric is not None and (best is None or metric.better(measured.metric, best.metric)):
            best = WarmStart(number, measured.answer, measured.metric)
    return best


def start_of(ledger: Ledger, metric: Metric, number: int, purpose: Purpose) -> WarmStart | None:
    """What the next trial of an experiment starts from; None: from nothing, as the baseline always does.

    All trials of an experiment that are compared start from what its first one did, so that a re-check is no new
    experiment. The two sides of an ablation start from what the champion did.
    """
    champion = ledger.champion()
    if not number or champion is None:
        return None
    if purpose == "ablate":
        return had_start(ledger, champion.number)
    if purpose not in AS_BEFORE:
        return None
    if purpose == "search" and not ledger.trials(number, "search"):
        return best_answer(ledger, metric, champion.number)
    return had_start(ledger, number)


def had_start(ledger: Ledger, number: int) -> WarmStart | None:
    """What an experiment's first trial started from."""
    return next((trial.warm_start for trial, _ in ledger.trials(number, "search")), None)


def bar_with(bar: float, metric: Metric, best: WarmStart | None) -> float:
    """A champion's bar, no worse than its best answer: a program that only returns that must not beat it."""
    return best.metric if best and metric.better(best.metric, bar) else bar


def bar_of(session: Session, number: int, bar: float) -> float:
    """An experiment's bar: no worse than its best answer, where trials start from that."""
    if not session.lab.warm_start:
        return bar
    return bar_with(bar, session.metric, best_answer(session.ledger, session.metric, number))


def verdict_with_start(session: Session, number: int, verdict: Verdict) -> Verdict:
    """An experiment's verdict that says what it started from; the bar of a keep is no worse than its best answer."""
    if not session.lab.warm_start:
        return verdict
    start = had_start(session.ledger, number)
    detail, bar = "; ".join(filter(None, (verdict.detail, start.words if start else ""))), verdict.bar
    return replace(verdict, detail=detail, bar=None if bar is None else bar_of(session, number, bar))


def forget_answers(session: Session, experiment: Experiment) -> None:
    """Remove the answers of an experiment that was not kept, as far as no other experiment has the same."""
    if session.lab.warm_start and not experiment.kept:
        others = [one for one in session.ledger.experiments(status="keep") if one.number != experiment.number]
        needed = {answer for one in (*others, *session.ledger.unjudged()) for answer in _answers(session, one)}
        session.local_engine.answers.keep_only(_answers(session, experiment), needed)


def _answers(session: Session, experiment: Experiment) -> set[str]:
    trials = session.ledger.trials(experiment.number)
    return {measured.answer for _, measured in trials if measured and measured.answer}
