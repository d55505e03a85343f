"""What a session's baseline showed that others are held to: what a trial needs beside its training, and its numbers."""

from __future__ import annotations

from nightlab.core.overhead import clock_beside, learned, words
from nightlab.core.types import Budget, Measurement, Purpose
from nightlab.storage.ledger import Ledger


def free_of_charge(ledger: Ledger, budget: Budget, since: int = 0, again: int | None = None) -> dict[str, float] | None:
    """What a trial may do beside its training, as the baseline's trials showed: if possible, those after ``since``.

    ``again``: of a trial that runs again, how many had started before its first attempt. All later ones of the
    baseline, whatever for, show what the machine is like now.
    """
    places = [since, 0] if since else [0]
    now = [] if again is None else _ran(ledger, budget, again)
    usual = (_ran(ledger, budget, place, "search") for place in places)
    return next(filter(None, (learned([*measured, *now], budget) for measured in usual)), None)


def _ran(ledger: Ledger, budget: Budget, since: int, purpose: Purpose | None = None) -> list[Measurement]:
    return [m for t, m in ledger.trials(0, purpose, since) if m and t.budget == budget]


def numbers_of_the_baseline(ledger: Ledger) -> dict[str, float] | None:
    """The secondary numbers of the baseline's trials, the largest of each; None where there is none."""
    found: dict[str, float] = {}
    for _, measured in ledger.trials(0, "search"):
        for name, value in measured.secondary.items() if measured else ():
            found[name] = max(found.get(name, value), value)
    return found or None


def free_words(ledger: Ledger) -> str:
    """What a session's baseline showed that a trial needs beside training, in one line; empty while it is not known."""
    facts = ledger.session()
    if facts is None or not facts.budget:
        return ""
    budget = Budget(facts.budget["clock"], facts.budget["amount"])
    return words(free_of_charge(ledger, budget), clock_beside(budget.clock, facts.platform.get("device")))
