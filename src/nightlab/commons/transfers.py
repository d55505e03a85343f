"""What ``nightlab transfer`` showed of findings, as records: at which other budgets, sizes and data they hold."""

from __future__ import annotations

from typing import Any

from nightlab.commons.exchange import Commons
from nightlab.commons.finding import platform_of, task_of
from nightlab.commons.instants import format_instant
from nightlab.commons.record import Finding, Transfer, genome_id
from nightlab.commons.scrub import scrub
from nightlab.commons.sync import Body, own_records
from nightlab.core.events import FindingVerified
from nightlab.core.text import one_line
from nightlab.core.types import Evidence, Experiment
from nightlab.session.session import Session


def transfers_to_share(session: Session, commons: Commons) -> list[tuple[int, Body]]:
    """The records of the session's transfers that were not shared yet: of findings that this user shared, and of those
    of others that are kept here."""
    mine, task = [(signed.id, signed.record) for signed in own_records(commons)], task_of(session).id
    shared = {record.genome: name for name, record in mine if isinstance(record, Finding) and record.task.id == task}
    adopted = {
        each.number: each.target for each in session.ledger.events(FindingVerified) if each.adopted and each.alone
    }
    said = {(r.target, r.setting, r.pairs) for _, r in mine if isinstance(r, Transfer)}
    found = list[tuple[int, Body]]()
    for experiment in session.ledger.experiments(status="keep"):
        for evidence in (one for one in experiment.evidence if one.level == "transferred" and one.against == 0):
            genome = genome_id(session.genome(experiment.candidate.commit))
            target = adopted.get(experiment.number) or shared.get(genome, "")
            body = _body(session, experiment, evidence, target)
            if target and (target, body["setting"], body["pairs"]) not in said:
                found.append((experiment.number, (body, None)))
    return found


def _body(session: Session, experiment: Experiment, evidence: Evidence, target: str) -> dict[str, Any]:
    budgets = {str(t.budget): t.budget for t, _ in session.ledger.trials(experiment.number, "transfer")}
    only = budgets.get(evidence.what)  # a setting that is another budget says nothing else
    gain = evidence.gain
    return {
        "kind": "transfer",
        "at": format_instant(),
        "target": target,
        "setting": one_line(scrub(evidence.what)),
        "budget": {"clock": only.clock, "amount": only.amount} if only else None,
        "platform": platform_of(session).model_dump(),
        "gain": gain.mean,
        "low": gain.low,
        "high": gain.high,
        "pairs": gain.pairs,
    }
