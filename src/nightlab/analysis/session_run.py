"""A whole run of a session: search, measure again what was gained, write down what it came to."""

from __future__ import annotations

import time
from dataclasses import replace

from nightlab.analysis import report
from nightlab.analysis.confirm import Confirmer
from nightlab.core.types import Evidence, Experiment, RunResult
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.scheduler import RunInterrupted
from nightlab.session.session import Session
from nightlab.storage.ledger import write_results


def run_session(search: ExperimentLoop, confirm: int | None = None) -> RunResult:
    """Run a session until a stop rule or the user ends it, then confirm what it gained, and write the report.

    The champion is measured again on ``confirm`` pairs of fresh seeds; 0: not at all; None: on as many as the
    contract's share of the session pays for, and if something is left, each kept change is taken out again too.
    Nothing is measured again once the user has stopped or paused the session, or the champion's gain was looked at.

    Raises NightlabError when the baseline or the champion can't be measured, or the disk is full.
    """
    session, scheduler, begun = search.session, search.scheduler, time.monotonic()
    try:
        reason = search.run()
        stopped = bool(scheduler.asked_to_stop)
    except RunInterrupted:
        reason, stopped = "stopped now; what was in flight runs again next time", True
    result = replace(
        _result(session, reason, stopped, time.monotonic() - begun, scheduler.trained), slots=len(scheduler.slots)
    )
    search.view.searched(result)
    if result.baseline is None or result.baseline.verdict is None:
        return result
    write_results(session.results, session.metric, session.ledger)
    report.write_report(session)
    if stopped or scheduler.paused or not _to_confirm(search, confirm):
        return result
    result = _confirmed(search, result, confirm)
    report.write_report(session)
    return result


def _result(session: Session, reason: str, stopped: bool, seconds: float, trained: float) -> RunResult:
    tally, champion = session.ledger.tally(), session.ledger.champion()
    baseline = session.ledger.experiment(0) if tally else None
    return RunResult(reason, stopped, tally, baseline, champion, seconds, trained, _shown(champion))


def _shown(champion: Experiment | None) -> Evidence | None:
    """What has been shown of the champion's gain over the baseline so far."""
    return next((e for e in reversed(champion.evidence) if e.against == 0), None) if champion else None


def _to_confirm(search: ExperimentLoop, pairs: int | None) -> bool:
    """Whether the champion's gain was not measured yet, and the contract or the caller wants it."""
    wanted = search.session.lab.judge.confirm > 0 if pairs is None else pairs > 0
    return wanted and Confirmer(search.scheduler).unconfirmed()


def _confirmed(search: ExperimentLoop, result: RunResult, pairs: int | None) -> RunResult:
    """Measure the champion again."""
    session, view, claims = search.session, search.view, Confirmer(search.scheduler)
    experiments = sum(result.tally.values())
    pairs = pairs or claims.affordable(experiments)
    view.confirming(pairs)
    try:
        if evidence := claims.confirm(pairs):
            view.confirmed(evidence, *claims.values)
        if (seeds := claims.affordable_ablation(experiments, pairs)) > 0:
            contributions = tuple(claims.ablate(seeds))
            view.ablated(contributions)
            result = replace(result, contributions=contributions)
    except RunInterrupted:
        result = replace(result, stopped=True)
    champion = session.ledger.champion()
    return replace(result, champion=champion, evidence=_shown(champion))
