"""Frozen: answers the evaluator with the genome's function, and keeps the prices of the days so far for it.

There is nothing to train, so nothing is handed over: the answering process imports the genome anew.
"""

import sys
from array import array

import strategy

try:
    import nightlab_guest
except ImportError:
    sys.exit("nightlab runs this file; by hand: python prepare.py && python walk.py")


def load(arrays):
    history = []

    def answer(call):
        """Positions for tomorrow. A call is the prices of today."""
        history.append(tuple(call.tolist()))
        return array("d", strategy.positions(history))

    return answer


nightlab_guest.answer(load)
trial = nightlab_guest.trial()
trial.start()
trial.hand_over({})
