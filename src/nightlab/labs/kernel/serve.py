"""Frozen: hands the compiled kernels over, and answers the evaluator with them from clean processes."""

import sys

import build
import model
import numpy as np

try:
    import nightlab_guest
except ImportError:
    sys.exit("nightlab runs this file; by hand: python bench.py")


def load(arrays):
    kernels = {kind: build.Kernels(bytes(arrays[kind])) for kind in build.REALS}

    def answer(call):
        return np.ascontiguousarray(model.answered(np.array(call), kernels[call.format])).ravel()

    return answer


nightlab_guest.answer(load)
trial = nightlab_guest.trial()
trial.start()
trial.hand_over({kind: build.compiled(kind) for kind in build.REALS})
