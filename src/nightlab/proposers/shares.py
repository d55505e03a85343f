"""Allocates turns to proposers by the gain of their past turns per cost.

Thompson sampling over gain per cost (after Xia et al., IJCAI 2015, arXiv:1505.00146), with older turns discounted (
Raj and Kalyani 2017, arXiv:1707.09727), because early ideas are good and fade. Keeps are modelled as a Poisson process
in the cost, so a proposer's rate has a gamma distribution; the gain per keep is shrunk towards that of all proposers.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

HALF_LIFE = 40.0  # turns (of all proposers) after which a turn counts half
FLOOR = 0.2  # guaranteed share of an even share: a proposer that fails now may have the best idea later
DOLLAR = 1800.0  # seconds of a slot that one US dollar counts for: an hour of a large GPU costs about two dollars
PRIOR = 1.0  # prior number of keeps per proposer, at the average rate


@dataclass(slots=True)
class CreditAccount:
    """One proposer's turns, keeps, gain (corrected for selection bias), and cost in seconds of a slot; discounted."""

    turns: float = 0.0
    keeps: float = 0.0
    gain: float = 0.0
    cost: float = 0.0

    def fade(self, part: float) -> None:
        self.turns, self.keeps, self.gain, self.cost = (
            part * x for x in (self.turns, self.keeps, self.gain, self.cost)
        )


class ProposerCredit:
    """The accounts of the proposers ``names``. ``seed``: for the sampling."""

    def __init__(self, names: Collection[str], seed: int | str = 0) -> None:
        self.accounts = {name: CreditAccount() for name in names}
        self.random = random.Random(f"{seed}/shares")
        self._lock = threading.Lock()  # a turn may begin in one thread while an experiment is judged in another

    def turn(self, name: str) -> None:
        """Count a turn, and discount everything before it."""
        with self._lock:
            if name in self.accounts:
                for account in self.accounts.values():
                    account.fade(0.5 ** (1 / HALF_LIFE))
                self.accounts[name].turns += 1

    def add(self, name: str, gain: float, cost: float) -> None:
        """Add a turn's cost in seconds, and the gain of its experiment; 0 if it was not kept."""
        with self._lock:
            if account := self.accounts.get(name):
                account.cost += max(cost, 0.0)
                if gain > 0:
                    account.keeps, account.gain = account.keeps + 1, account.gain + gain

    def order(self) -> list[str]:
        """The order in which to ask the proposers."""
        turns, n = sum(one.turns for one in self.accounts.values()), len(self.accounts)
        starving = {name for name, one in self.accounts.items() if one.turns < FLOOR / n * turns}
        drawn = {name: self._draw(name) for name in self.accounts}
        return sorted(self.accounts, key=lambda name: (name not in starving, -drawn[name]))

    def _draw(self, name: str) -> float:
        """A sample of the proposer's gain per second."""
        one, everybody = self.accounts[name], self.accounts.values()
        keeps, gain, cost = (sum(getattr(each, what) for each in everybody) for what in ("keeps", "gain", "cost"))
        typical = gain / keeps if keeps else 1.0
        time = PRIOR * cost / (keeps + PRIOR) if cost else 1.0
        rate = self.random.gammavariate(PRIOR + one.keeps, 1 / (time + one.cost))
        return rate * (typical + one.gain) / (1 + one.keeps)


def cost_of(usage: Mapping[str, Any], trials: float = 0.0) -> float:
    """The cost of a turn in seconds of a slot: its trials, the time a slot waited for it, and its price in USD."""
    waited, dollars = (max(float(usage.get(name) or 0.0), 0.0) for name in ("waited", "cost_usd"))
    return trials + waited + DOLLAR * dollars
