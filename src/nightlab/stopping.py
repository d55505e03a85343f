"""When a session ends by itself: hours, experiments, stall, and what its proposers took in tokens and money."""

from __future__ import annotations

import time

from nightlab.candidates import Candidates
from nightlab.lab import Stop
from nightlab.session import Session


class Stopping:
    """The stop rules of one run of a session. Its hours are wall-clock time, pauses included."""

    def __init__(self, stop: Stop, session: Session, candidates: Candidates) -> None:
        self.stop, self.session, self.ledger, self.candidates = stop, session, session.ledger, candidates
        self.begun = time.time()
        if stop.tokens is not None or stop.money is not None:
            candidates.spent = self.ledger.spent()

    def done(self) -> int:
        """Experiments judged so far, the baseline not counted."""
        return max(self.ledger.next_number() - 1 - len(self.ledger.unjudged()), 0)

    def reason(self) -> str:
        """Why the session has to end, whatever what is in flight brings; empty while it has not."""
        stop, spent = self.stop, self.candidates.spent
        if self.candidates.nothing_left:
            return self.candidates.nothing_left
        if stop.experiments is not None and self.ledger.next_number() - 1 >= stop.experiments:
            return f"{stop.experiments} experiments are done"
        if stop.hours is not None and time.time() - self.begun > self._search_hours() * 3600:
            return f"{stop.hours:g} hours are over" + (" but for confirming" if self.session.lab.judge.confirm else "")
        if stop.tokens is not None and spent.tokens >= stop.tokens:
            return f"{spent.tokens:,} tokens are spent, of {stop.tokens:,}"
        if stop.money is not None and spent.money >= stop.money:
            return f"${spent.money:.2f} are spent, of ${stop.money:.2f}"
        return ""

    def stalled(self) -> str:
        """Why it may as well end, unless what is in flight is kept."""
        if self.stop.stall is not None:
            champion = self.ledger.champion()
            since = self.done() - champion.number if champion else 0
            if since >= self.stop.stall:
                return f"{since} experiments in a row brought no keep"
        return ""

    def goal(self) -> str:
        """How far the stop rules are, in words."""
        stop, done, spent, rules = self.stop, self.done(), self.candidates.spent, []
        if stop.experiments is not None:
            rules.append(f"{done} of {stop.experiments} experiments")
        if stop.hours is not None:
            left = max(self._search_hours() - (time.time() - self.begun) / 3600, 0)
            rules.append(f"{left:.1f} hours left")
        if stop.tokens is not None:
            rules.append(f"{spent.tokens:,} of {stop.tokens:,} tokens{_unsaid(spent.uncounted, spent.turns)}")
        if stop.money is not None:
            rules.append(f"${spent.money:.2f} of ${stop.money:.2f}{_unsaid(spent.unpriced, spent.turns)}")
        return ", ".join(rules) or f"{done} experiments, until Ctrl-C"

    def _search_hours(self) -> float:
        """Hours for the search: what the session has, less the share for confirming."""
        return (self.stop.hours or 0) * (1 - self.session.lab.judge.confirm)


def _unsaid(silent: int, turns: int) -> str:
    return f" ({silent} of {turns} turns did not say)" if silent else ""
