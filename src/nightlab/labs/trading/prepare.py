"""Frozen: draws twelve years of prices, once on each machine, where the evaluator alone finds them.

Trends that come and go, under noise six times as large on a day: plainer than any market's, so that minutes show a
gain. For a market's prices write them there in their place: a JSON list with a row of closing prices for each day.
"""

import json
import random
from pathlib import Path

STOCKS, DAYS, YEARS = 8, 250, 12
PRICES = Path.home() / ".cache" / "nightlab" / "trading" / "prices.json"


def drawn(draw):
    """A row of prices for each day. A stock's trend lasts for 60 days in the mean, and its risk changes slowly."""
    price, trend, risk = [100.0] * STOCKS, [0.0] * STOCKS, [0.012] * STOCKS
    rows = []
    for _ in range(DAYS * YEARS):
        market = draw.gauss(0.0001, 0.004)
        for stock in range(STOCKS):
            if draw.random() < 1 / 80:
                trend[stock] = draw.choice((-1, 0, 1)) * 0.002
            risk[stock] = min(max(risk[stock] * draw.lognormvariate(0, 0.03), 0.006), 0.03)
            price[stock] *= 1 + max(market + trend[stock] + draw.gauss(0, risk[stock]), -0.5)
        rows.append([round(p, 4) for p in price])
    return rows


if __name__ == "__main__":
    if not PRICES.exists():
        PRICES.parent.mkdir(parents=True, exist_ok=True)
        PRICES.write_text(json.dumps(drawn(random.SystemRandom())))
