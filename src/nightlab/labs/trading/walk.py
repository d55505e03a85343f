"""Frozen: walks forward through the years, asks the genome for positions on each day, and keeps the account.

nightlab runs it as the evaluator, in a separate process. By hand: python prepare.py && python walk.py
"""

import json
import math
import os
import statistics
import sys
from array import array
from itertools import pairwise

from prepare import DAYS, PRICES

try:
    import nightlab_guest
except ImportError:
    nightlab_guest = None

YEARS, COST = 8, 0.001  # that count; what trading takes of what is traded. The years after those are held out


def walk(rows, positions):
    """The account's return on each day: of the positions that were answered the day before, less what trading costs."""
    returns, held = [], [0.0] * len(rows[0])
    for today, tomorrow in pairwise(rows):
        wanted = [float(p) for p in positions(today)]
        if len(wanted) != len(held) or not all(-1 <= p <= 1 for p in wanted):
            raise ValueError(f"positions have to be {len(held)} numbers from -1 to 1: {str(wanted)[:80]}")
        traded = sum(abs(new - old) for new, old in zip(wanted, held, strict=True))
        gained = sum(p * (after / before - 1) for p, before, after in zip(wanted, today, tomorrow, strict=True))
        returns.append((gained - COST * traded) / len(held))
        held = wanted
    return returns


def sharpe(returns):
    """The mean return over its standard deviation, a year. Of an account that never moves: nothing."""
    deviation = statistics.pstdev(returns)
    return statistics.fmean(returns) / deviation * math.sqrt(DAYS) if deviation > 1e-9 else 0.0


def served():
    """The genome's function in its process, which is told one day after the other."""
    link = nightlab_guest.Served()
    return lambda today: next(link.map([array("d", today)], "d", (len(today),)))


def by_hand():
    import strategy

    history = []

    def positions(today):
        history.append(tuple(today))
        return strategy.positions(history)

    return positions


def main():
    rows, end = json.loads(PRICES.read_text()), DAYS * YEARS
    if len(rows) <= end + 2:
        sys.exit(f"{PRICES} has {len(rows)} days: {end} count, and those after them are held out")
    held_out = os.environ.get("NIGHTLAB_HELD_OUT") == "1"
    try:
        returns = walk(rows if held_out else rows[: end + 1], served() if nightlab_guest else by_hand())
    except Exception as error:
        print(f"no metric: {error}")
        sys.exit(4)
    if held_out:
        print(f"METRIC held_out={sharpe(returns[end:]):.5f}")
    print(f"METRIC sharpe={sharpe(returns[:end]):.5f}")


if __name__ == "__main__":
    main()
