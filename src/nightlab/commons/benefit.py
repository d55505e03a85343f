"""What a session had of the commons: what was measured of whom, what it gained, and what its own ideas gained."""

from __future__ import annotations

from collections import Counter
from typing import Any

from nightlab.commons.finding import COMMONS_PROPOSER
from nightlab.core.events import FindingVerified
from nightlab.core.types import Experiment
from nightlab.session.session import Session


def benefit_of(session: Session) -> dict[str, Any]:
    """The session's measurements of others' findings, by author, and its gains beside those of own ideas; empty if
    none was measured. Gains are those measured when a change was kept: not confirmed ones. ``saved``: the experiments
    that own ideas, at their rate so far, would have needed for the adopted gain, less those that others' findings took;
    None where own ideas gained nothing."""
    events = session.ledger.events(FindingVerified)
    if not events:
        return {}
    by: dict[str, dict[str, Any]] = {}
    for event in events:
        row = by.setdefault(event.author, {"verdicts": Counter(), "adopted": 0, "gain": 0.0})
        row["verdicts"][event.verdict] += 1
        row["adopted"] += event.adopted
        row["gain"] += (event.gain or 0.0) if event.adopted else 0.0
    tried = [one for one in session.ledger.experiments() if one.number and one.verdict]
    own = [one for one in tried if one.candidate.proposer != COMMONS_PROPOSER]
    own_gain, gained = sum(_gain(session, one) for one in own if one.kept), sum(row["gain"] for row in by.values())
    return {
        "findings": len({event.target for event in events}),
        "by": by,
        "adopted": sum(row["adopted"] for row in by.values()),
        "gain": gained,
        "experiments": len(tried) - len(own),
        "own_kept": sum(one.kept for one in own),
        "own_gain": own_gain,
        "own_experiments": len(own),
        "saved": gained * len(own) / own_gain - (len(tried) - len(own)) if own_gain > 0 else None,
    }


def _gain(session: Session, experiment: Experiment) -> float:
    """What a kept experiment measured over its parent."""
    parent = session.ledger.by_commit(experiment.candidate.parent)
    if parent is None or parent.value is None or experiment.value is None:
        return 0.0
    return session.metric.gain(parent.value, experiment.value)
