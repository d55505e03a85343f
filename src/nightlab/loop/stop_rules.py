"""When a session ends by itself: hours, experiments, tokens, money, a target, a stall, or little to be expected."""

from __future__ import annotations

import time

from nightlab.core.config import StopRules
from nightlab.core.events import ProposalRefused
from nightlab.core.text import counted
from nightlab.judge import LEVEL, GainRate, gain_rate
from nightlab.loop.candidate_queue import CandidateQueue
from nightlab.proposers.shares import cost_of
from nightlab.session.credit import credit_of, iter_credits
from nightlab.session.session import Session

LATELY = 75  # experiments whose gains and costs say what to expect of the next
KEEPS = 10  # the last ones, of which the largest says what one more may gain
HOUR = 3600.0


class StopConditions:
    """The stop rules of one run of a session. Its hours are wall-clock time, pauses included."""

    def __init__(self, stop: StopRules, session: Session, candidates: CandidateQueue) -> None:
        self.stop, self.session, self.ledger, self.candidates = stop, session, session.ledger, candidates
        self._begun = time.monotonic()  # a clock that is set, or a machine that sleeps, takes nothing of the hours
        if any(cap is not None for cap in (stop.tokens, stop.money, stop.requests)):
            candidates.turns.spent = self.ledger.spent()
        candidates.turns.stop_rules = stop
        self._expected: tuple[int, GainRate | None] = (-1, None)  # the number of experiments, and what they say

    def done(self) -> int:
        """Experiments judged so far, the baseline not counted."""
        return max(self.ledger.next_number() - 1 - len(self.ledger.unjudged()), 0)

    def reason(self) -> str:
        """Why the session has to end, whatever what is in flight brings; empty while it has not."""
        stop, spent = self.stop, self.candidates.turns.spent
        if self.candidates.nothing_left:
            return self.candidates.nothing_left
        if stop.experiments is not None and self.ledger.next_number() - 1 >= stop.experiments:
            return f"{counted(stop.experiments, 'experiment')} {'is' if stop.experiments == 1 else 'are'} done"
        if stop.hours is not None and time.monotonic() - self._begun > self._search_hours() * 3600:
            return f"{stop.hours:g} hours are over" + (" but for confirming" if self.session.lab.judge.confirm else "")
        if stop.tokens is not None and spent.tokens >= stop.tokens:
            return f"{spent.tokens:,} tokens are spent, of {stop.tokens:,}"
        if stop.money is not None and spent.money >= stop.money:
            return f"${spent.money:.2f} are spent, of ${stop.money:.2f}"
        if stop.requests is not None and spent.requests >= stop.requests:
            return f"{spent.requests:,} requests are sent, of {stop.requests:,}"
        return ""

    def stalled(self) -> str:
        """Why it may as well end, unless what is in flight is kept."""
        champion, target = self.ledger.champion(), self.stop.target
        bar = champion.bar if champion else None
        if target is not None and bar is not None and not self.session.metric.better(target, bar):
            return f"the target of {target:g} is reached: the champion's bar is {bar:g}"
        if self.stop.stall is not None:
            champion = self.ledger.champion()
            since = self.done() - champion.number if champion else 0
            if since >= self.stop.stall:
                return f"{counted(since, 'experiment')} in a row brought no keep"
        asked, expected = self.stop.gain_per_hour, self.expected()
        if asked is not None and expected and expected.most < asked:
            return (
                f"the last {LATELY} experiments gained {expected.gain:.3g} per hour of a slot; if the next are like "
                f"them, that is {expected.most:.3g} at most (a {LEVEL:.0%} bound), and {asked:g} are asked for"
            )
        return ""

    def expected(self) -> GainRate | None:
        """What an hour of a slot may gain, if the next experiments are like the last; None while there are too few.

        One more keep is believed to gain as much as the largest of late, or as the noise if that is more.
        """
        if self.stop.gain_per_hour is None or (done := self.done()) < LATELY:
            return None
        if self._expected[0] != done:
            self._expected = done, self._prospect()
        return self._expected[1]

    def _prospect(self) -> GainRate:
        ledger, metric = self.ledger, self.session.metric
        recent = list(iter_credits(ledger, metric, LATELY))
        begun = recent[0].experiment.proposed_at
        failed = (one for one in ledger.events(ProposalRefused, last=10 * LATELY) if one.at > begun)
        cost = sum(one.cost for one in recent) + sum(cost_of(one.usage) for one in failed)
        keeps = [e for e in ledger.experiments(KEEPS, "keep") if e.number]
        gains = [credit_of(ledger, metric, e, ledger.champion(before=e.judged_at)).gain for e in keeps]
        another = max([self.candidates.noise().sigma, *gains])  # keeps that gained next to nothing say little
        return gain_rate([one.gain for one in recent], cost / HOUR, another)

    def _search_hours(self) -> float:
        """Hours for the search: what the session has, less the share for confirming."""
        return (self.stop.hours or 0) * (1 - self.session.lab.judge.confirm)
