"""Frozen: plays days of incidents with the genome's choices, and prints what they cost.

The cost is a share: 1 is what the heaviest incident first would have cost on the same days. Days differ much more than
rules do, and so most of their luck cancels. nightlab runs it as the evaluator, in a separate process. By hand:
python days.py
"""

import heapq
import math
import random
import statistics
import sys
from array import array
from collections import namedtuple

try:
    import nightlab_guest
except ImportError:
    nightlab_guest = None

DAYS, PEOPLE, HOURS, LATE = 40, 2, 10, 200.0
KINDS = ("disk", "login", "network", "deploy", "database")  # and of each: its share, its usual minutes, its weights
SHARES, MINUTES = (30, 30, 15, 15, 10), (10, 15, 40, 60, 120)
WEIGHTS = ((1, 1, 3), (1, 2, 2), (2, 5, 10), (1, 2, 5), (3, 5, 10))
Incident = namedtuple("Incident", "kind weight opened due minutes")
# Not from the seed of the trial, which the genome knows too: it could play the days beforehand.
draw = random.SystemRandom()


def incidents():
    """The incidents of a day, as they come: more than two people can solve at once around noon."""
    now, made = 0.0, []
    while True:
        busy = 1 + math.sin(math.pi * now / (60 * HOURS))
        now += draw.expovariate(busy / 22)
        if now > 60 * HOURS:
            return made
        (kind,) = draw.choices(range(len(KINDS)), SHARES)
        weight = draw.choice(WEIGHTS[kind])
        due = now + draw.choice((60, 120, 240)) + MINUTES[kind]
        made.append(Incident(kind, weight, now, due, MINUTES[kind] * draw.lognormvariate(-0.125, 0.5)))


def play(day, choose):
    """What a day's incidents cost. ``choose`` gets the time and those that wait; how long they take it is not told."""
    coming, waiting, cost = day[::-1], [], 0.0
    free = [0.0] * PEOPLE  # when each person is
    while coming or waiting:
        now = heapq.heappop(free)
        if not waiting:
            now = max(now, coming[-1].opened)
        while coming and coming[-1].opened <= now:
            waiting.append(coming.pop())
        index = choose(now, waiting)
        if not 0 <= index < len(waiting):
            raise ValueError(f"{index} is none of the {len(waiting)} incidents that wait")
        taken = waiting.pop(index)
        end = now + taken.minutes
        heapq.heappush(free, end)
        cost += taken.weight * (end - taken.opened) + LATE * (end > taken.due)
    return cost


def heaviest(now, waiting):
    """The rule that others are compared with; among equals the one that came last."""
    return max(range(len(waiting)), key=lambda index: (waiting[index].weight, index))


def served(process):
    """The genome's function in a process: one call, sent when the one before was answered."""
    link = nightlab_guest.Served(process=process)

    def choose(now, waiting):
        flat = [number for i in waiting for number in (i.kind, i.weight, i.opened, i.due)]
        return next(link.map([array("d", [now, *flat])], "q", (1,)))[0]

    return choose


def by_hand():
    import policy

    return lambda now, waiting: policy.choose(now, [i._replace(kind=KINDS[i.kind], minutes=None) for i in waiting])


def main():
    days = [incidents() for _ in range(DAYS)]
    choose = served(0) if nightlab_guest else by_hand()
    try:
        costs = [play(day, choose) for day in days]
        again = served(1) if nightlab_guest else choose
        order = draw.sample(range(DAYS), DAYS)  # drawn late: nothing may be learned while it is scored
        differ = nightlab_guest and any(play(days[n], again) != costs[n] for n in order)
    except Exception as error:
        print(f"no metric: {error}")
        sys.exit(4)
    if differ:
        print("a day costs something else in another process, which has seen other days before it")
        sys.exit(3)
    others = [play(day, heaviest) for day in days]
    share = sum(costs) / sum(others)
    left = [cost - share * other for cost, other in zip(costs, others, strict=True)]
    error = statistics.stdev(left) / math.sqrt(DAYS) / statistics.fmean(others)
    print(f"METRIC cost={share:.5f} ± {error:.5f}")


if __name__ == "__main__":
    main()
