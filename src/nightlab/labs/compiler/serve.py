"""Frozen: hands the compiled genome over, and answers the evaluator with it from clean processes."""

import sys
from array import array

import build

try:
    import nightlab_guest
except ImportError:
    sys.exit("nightlab runs this file; by hand: python bench.py")


def load(arrays):
    smooth = build.loaded(bytes(arrays["library"]))

    def answer(call):
        """A call is the series, and then the width."""
        numbers = array("d")
        numbers.frombytes(call.cast("B"))
        return smooth(numbers, int(numbers.pop()))

    return answer


nightlab_guest.answer(load)
trial = nightlab_guest.trial()
trial.start()
trial.hand_over({"library": build.compiled()})
