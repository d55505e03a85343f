"""Frozen: hands the genome's function over to the evaluator, which calls it and keeps the time."""

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


trial = nightlab_guest.trial()
trial.start()
trial.serve(answer)
