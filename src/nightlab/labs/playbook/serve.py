"""Frozen: answers the evaluator with the genome's function.

There is nothing to train, so nothing is handed over: the answering process imports the genome anew.
"""

import sys
from array import array
from collections import namedtuple

import policy

try:
    import nightlab_guest
except ImportError:
    sys.exit("nightlab runs this file; by hand: python days.py")

KINDS = ("disk", "login", "network", "deploy", "database")
Incident = namedtuple("Incident", "kind weight opened due")


def answer(call):
    """The index of the incident to take. A call is the time, and then four numbers for each that waits."""
    now, *flat = call.tolist()
    rows = zip(flat[0::4], flat[1::4], flat[2::4], flat[3::4], strict=True)
    return array("q", [policy.choose(now, [Incident(KINDS[int(kind)], *rest) for kind, *rest in rows])])


nightlab_guest.answer(lambda arrays: answer)
trial = nightlab_guest.trial()
trial.start()
trial.hand_over({})
