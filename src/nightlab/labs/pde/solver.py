"""The genome: solves the Kuramoto-Sivashinsky equation, u_t = -u u_x - u_xx - u_xxxx, on a periodic domain."""

import numpy as np

STEP = 0.001             # of time [0.0002..1 log]


def solve(start, length, end):
    """The solution at the time ``end``, at the same equally spaced points as ``start``.

    In Fourier space: the linear terms by the implicit Euler method, the other by the explicit one.
    """
    size = len(start)
    waves = 2 * np.pi * np.fft.rfftfreq(size, length / size)
    linear, steps = waves**2 - waves**4, max(round(end / STEP), 1)
    step = end / steps
    state = np.fft.rfft(start)
    for _ in range(steps):
        now = np.fft.irfft(state, size)
        state = (state - 0.5j * step * waves * np.fft.rfft(now**2)) / (1 - step * linear)
    return np.fft.irfft(state, size)
