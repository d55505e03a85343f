"""What a session had of the commons: what was measured of whom, what it gained, and what its own ideas gained."""

from __future__ import annotations

from collections import Counter
from typing import Any

from nightlab.commons.finding import COMMONS_PROPOSER
from nightlab.core.events import FindingVerified
from nightlab.session.credit import by_proposer
from nightlab.session.session import Session

TOGETHER = "together"


def benefit_of(session: Session) -> dict[str, Any]:
    """The session's measurements of others' findings, by author, and its gains beside those of own ideas; empty if
    none was measured. What was tried together, often of several authors, is one row, ``TOGETHER``.

    Gains are not confirmed ones: others' are as measured when adopted, own ones are of the bar. ``saved``: the
    experiments that own ideas, at their rate so far, would have needed for the adopted gain, less those that others'
    findings took; None where own ideas gained nothing.
    """
    events = session.ledger.events(FindingVerified)
    if not events:
        return {}
    by: dict[str, dict[str, Any]] = {}
    for event in events:
        who = event.author if event.alone else TOGETHER
        row = by.setdefault(who, {"verdicts": Counter(), "adopted": 0, "gain": 0.0})
        row["verdicts"][event.verdict] += 1
        row["adopted"] += event.adopted
        row["gain"] += (event.gain or 0.0) if event.adopted else 0.0
    rows = by_proposer(session.ledger, session.metric)
    own = [row for row in rows if row.name != COMMONS_PROPOSER]
    tried, others = sum(row.tried for row in own), sum(row.tried for row in rows if row not in own)
    own_gain, gained = sum(row.gained for row in own), sum(row["gain"] for row in by.values())
    return {
        "findings": len({event.target for event in events if event.alone}),
        "combinations": sum(not event.alone for event in events),
        "by": by,
        "adopted": sum(row["adopted"] for row in by.values()),
        "gain": gained,
        "experiments": others,
        "own_kept": sum(row.kept for row in own),
        "own_gain": own_gain,
        "own_experiments": tried,
        "saved": gained * tried / own_gain - others if own_gain > 0 else None,
    }
