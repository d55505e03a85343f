"""What a session's baseline showed that a trial needs beside its training: that is free, more counts as training."""

from __future__ import annotations

from nightlab.core.overhead import clock_beside, learned, words
from nightlab.core.types import Budget
from nightlab.storage.ledger import Ledger


def free_of_charge(ledger: Ledger, budget: Budget, since: int = 0) -> dict[str, float] | None:
    """What a trial may do beside its training, as the baseline's trials showed: if possible, those after ``since``."""
    places = [since, 0] if since else [0]
    ran = ([m for t, m in ledger.trials(0, "search", place) if m and t.budget == budget] for place in places)
    return next(filter(None, (learned(measured, budget) for measured in ran)), None)


def free_words(ledger: Ledger) -> str:
    """What a session's baseline showed that a trial needs beside training, in one line; empty while it is not known."""
    facts = ledger.session()
    if facts is None or not facts.budget:
        return ""
    budget = Budget(facts.budget["clock"], facts.budget["amount"])
    return words(free_of_charge(ledger, budget), clock_beside(budget.clock, facts.platform.get("device")))
