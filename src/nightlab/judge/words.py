"""A gain in words, in the unit that it is judged in."""

from __future__ import annotations

import math

from nightlab.judge.noise import Noise

SMALL = 0.1  # gain of a logarithm below which it is said in percent


def better(gain: float, noise: Noise) -> str:
    """A gain on the scale of ``noise``, e.g. ``0.3 better, 2.1 sigma`` or ``1.8 times better, 3.0 sigma``."""
    return f"{_size(gain, noise)} better{_in_sigmas(gain, noise)}"


def worse(gain: float, noise: Noise) -> str:
    """A loss (a negative gain) on the scale of ``noise``."""
    return f"{_size(-gain, noise)} worse{_in_sigmas(gain, noise)}"


def times_words(log_ratio: float) -> str:
    """How many times better a gain of the logarithm is: ``1.8 times``, or ``3.1 %`` where it is small."""
    if abs(log_ratio) < SMALL:
        return f"{100 * math.expm1(log_ratio):.3g} %"
    return f"{math.exp(log_ratio):.3g} times" if log_ratio < 300 else "more than 1e+130 times"


def _size(gain: float, noise: Noise) -> str:
    return times_words(gain) if noise.scale == "ratio" else f"{gain:.6f}"


def _in_sigmas(gain: float, noise: Noise) -> str:
    return f", {abs(gain) / noise.sigma:.1f} sigma" if noise.sigma > 0 else ""
