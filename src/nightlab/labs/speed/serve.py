"""Frozen: answers the evaluator with the genome's function. The evaluator keeps the time.

There is nothing to train, so nothing is handed over: each answering process imports the genome anew.
"""

import sys
from array import array

from solve import close_pairs

try:
    import nightlab_guest
except ImportError:
    sys.exit("nightlab runs this file; by hand: python bench.py")


def answer(call):
    """The number of close pairs. A call is x and y of each point, and then the radius."""
    *flat, radius = call.tolist()
    return array("q", [close_pairs(list(zip(flat[0::2], flat[1::2], strict=True)), radius)])


nightlab_guest.answer(lambda arrays: answer)
trial = nightlab_guest.trial()
trial.start()
trial.hand_over({})
