"""The genome: positions for tomorrow, from the prices up to today."""

SLOW = 60                # days that a rule looks back [10..250]
FAST = 5                 # days that count as now [1..10]
STEEP = 20.0             # how soon a position is as large as it may be [1..200 log]


def positions(history):
    """A position from -1 to 1 for each stock. ``history``: a row of prices for each day so far, today's last."""
    found = [signal([row[stock] for row in history[-SLOW:]]) for stock in range(len(history[-1]))]
    return [max(-1.0, min(1.0, STEEP * size)) for size in found]


def signal(prices):
    """How much to hold of a stock: as much as possible, whatever its price did."""
    return 1.0
