"""What proposers earn: the gain of their turns for what these cost, and who should have the next one.

Thompson sampling over gain per cost (after Xia et al., IJCAI 2015, arXiv:1505.00146), the older a turn the less it
counts (after Raj and Kalyani 2017, arXiv:1707.09727), for early ideas are good and fade. Keeps are taken to come as a
Poisson process in the cost, so a proposer's rate has a gamma distribution; a keep of one is taken to gain what its
keeps did, and one of the others'.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

HALF_LIFE = 40.0  # turns of anybody after which one counts half
FLOOR = 0.2  # of an even share, that everybody has: who fails now may have the best idea later
DOLLAR = 1800.0  # seconds of a slot for which a dollar counts: about an hour of a large GPU is two
PRIOR = 1.0  # keeps, at the rate of all together, that everybody is believed to have had


@dataclass(slots=True)
class CreditAccount:
    """Of one proposer: turns, keeps, what these gained without their luck, and the cost of all in seconds of a slot."""

    turns: float = 0.0
    keeps: float = 0.0
    gain: float = 0.0
    cost: float = 0.0

    def fade(self, part: float) -> None:
        self.turns, self.keeps, self.gain, self.cost = (
            part * x for x in (self.turns, self.keeps, self.gain, self.cost)
        )


class ProposerCredit:
    """The accounts of the proposers ``names``. ``seed``: the randomness of who is next."""

    def __init__(self, names: Collection[str], seed: int | str = 0) -> None:
        self.accounts = {name: CreditAccount() for name in names}
        self.random = random.Random(f"{seed}/shares")
        self._lock = threading.Lock()  # one's turn may begin while another's experiment is judged

    def turn(self, name: str) -> None:
        """It had a turn: from now on all that was before counts less."""
        with self._lock:
            if name in self.accounts:
                for account in self.accounts.values():
                    account.fade(0.5 ** (1 / HALF_LIFE))
                self.accounts[name].turns += 1

    def add(self, name: str, gain: float, cost: float) -> None:
        """A turn cost so many seconds, and its experiment, when kept, gained so much; a gain of 0 is no keep."""
        with self._lock:
            if account := self.accounts.get(name):
                account.cost += max(cost, 0.0)
                if gain > 0:
                    account.keeps, account.gain = account.keeps + 1, account.gain + gain

    def order(self) -> list[str]:
        """Who should be asked first, and who if that one has nothing."""
        turns, n = sum(one.turns for one in self.accounts.values()), len(self.accounts)
        starving = {name for name, one in self.accounts.items() if one.turns < FLOOR / n * turns}
        drawn = {name: self._draw(name) for name in self.accounts}
        return sorted(self.accounts, key=lambda name: (name not in starving, -drawn[name]))

    def _draw(self, name: str) -> float:
        """A gain per second that it may have, by what is known."""
        one, everybody = self.accounts[name], self.accounts.values()
        keeps, gain, cost = (sum(getattr(each, what) for each in everybody) for what in ("keeps", "gain", "cost"))
        typical = gain / keeps if keeps else 1.0
        time = PRIOR * cost / (keeps + PRIOR) if cost else 1.0
        rate = self.random.gammavariate(PRIOR + one.keeps, 1 / (time + one.cost))
        return rate * (typical + one.gain) / (1 + one.keeps)


def cost_of(usage: Mapping[str, Any], trials: float = 0.0) -> float:
    """What a turn cost, in seconds of a slot: its trials, the time that a slot waited for it, and its money."""
    waited, dollars = (max(float(usage.get(name) or 0.0), 0.0) for name in ("waited", "cost_usd"))
    return trials + waited + DOLLAR * dollars
