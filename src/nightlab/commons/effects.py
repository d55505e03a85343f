"""What each step of the labs' genomes gains, estimated from all their measurements together. Pure.

A genome is the sum of its steps, each of them one idea's change. Every trial of a genome says a little of each step in
it, noisy trials in many labs together tell the steps that gain from those that were luck.

Method: best linear unbiased prediction, as in genomic selection (Meuwissen, Hayes and Goddard 2001): the effects are
normal, with the mean and spread of the ideas that were tried here, and each lab's machine has its offset. Values far
off what the others say count less (Huber 1964). Steps far off what ideas gain, and machines far off the others, are
shrunk less: else theirs would be taken for the gain of other steps. Both by iteratively reweighted least squares.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

FEW = 5  # own ideas that the prior counts as, each of minus one sigma
FAR = 9.0  # sigmas, or medians: an idea's gain beyond counts as this one
CLIP = 3.0  # standard errors off what is expected, from which on a value counts less; likewise deviations of an effect
ROUNDS = 30  # of finding the weights for that, at most
CLOSE = 0.005  # change, in sigma and in parts of an effect, below which they are found
OFFSET = 3.0  # sigmas between two labs' values of one genome
EXACT = 1e-3  # of the median gain here: the least noise that is reckoned with
LATEST = 600  # steps that are estimated: the work grows with their cube
BOUND = 1e6  # sigmas: the largest gain that is reckoned with
LOOSE = 1e4  # sigmas: the largest deviation that an effect is given


@dataclass(frozen=True, slots=True)
class GenomeValue:
    """A lab's measurement of a genome: the steps that it is made of, and its gain over the baseline here."""

    steps: frozenset[str]
    gain: float
    trials: int
    by: str = ""
    """The lab; empty for this one."""
    word: float = 1.0
    """The probability that what it says is so."""


def prior_effect(gains: Sequence[float]) -> tuple[float, float]:
    """Mean and variance of the effect of a step of which nothing is known, by the measured ``gains`` of the ideas that
    were tried here. All are in units of the noise of one trial.

    The mean is never above zero: most ideas gain nothing. Method of moments, less the noise of two trials.
    """
    far = FAR * max(1.0, statistics.median(map(abs, gains)) if gains else 0.0)
    near = [*(max(-far, min(gain, far)) for gain in gains), *[-1.0] * FEW]
    mean = min(math.fsum(near) / len(near), 0.0)
    return mean, max(1.0, math.fsum(gain**2 for gain in near) / len(near) - 2.0)


def estimate(values: Sequence[GenomeValue], ideas: Sequence[float], sigma: float) -> dict[str, float]:
    """The effect of each step in the genomes that were measured: of the latest ones.

    ``values``: each lab's in the order in which it measured them; ``ideas``: the gains of the ideas that were tried
    here; ``sigma``: the noise of one trial. Empty where nothing has differed here yet.
    """
    import numpy as np

    values = [value for value in values if math.isfinite(value.gain)]
    tried = [gain for gain in ideas if math.isfinite(gain)]
    tried = tried or [value.gain for value in values if not value.by and value.steps]
    unit = max(sigma, EXACT * statistics.median([abs(gain) for gain in tried if gain] or [0.0]))
    if not (values and 0 < unit < math.inf):
        return {}

    def scaled(gain: float) -> float:
        return max(-BOUND, min(gain / unit, BOUND))

    mean, spread = prior_effect([scaled(gain) for gain in tried])
    steps, labs = _latest_steps(values), sorted({value.by for value in values})
    prior = np.array([mean] * len(steps) + [0.0] * len(labs))
    scale = np.array([math.sqrt(spread)] * len(steps) + [OFFSET] * len(labs))
    design = _design(values, steps, labs)
    error = np.sqrt([1 / one.trials + spread * (1 - one.word) / one.word for one in values])
    surprise = np.array([scaled(one.gain) for one in values]) - design @ prior
    found = np.zeros(len(prior))  # at first what is far off counts least
    for _ in range(ROUNDS):
        weight = CLIP / np.maximum(np.abs(surprise - design @ found) / error, CLIP)
        loose = np.maximum(scale, np.minimum(np.abs(found) / CLIP, LOOSE))
        weighted, before = design.multiply((weight / error**2)[:, None]).tocsr(), found
        found = np.linalg.solve(np.diag(loose**-2) + (weighted.T @ design).toarray(), weighted.T @ surprise)
        if np.allclose(found, before, CLOSE, CLOSE):
            break
    return {step: unit * float(gain) for step, gain in zip(steps, prior + found, strict=False)}


def _latest_steps(values: Sequence[GenomeValue]) -> list[str]:
    """The ``LATEST`` steps that came last, when the labs' measurements are aligned at their ends."""
    measured = defaultdict[str, list[frozenset[str]]](list)
    for value in reversed(values):
        measured[value.by].append(value.steps)
    newest = list(chain.from_iterable(zip_longest(*measured.values(), fillvalue=frozenset[str]())))
    return list(dict.fromkeys(step for steps in reversed(newest) for step in sorted(steps)))[-LATEST:]


def _design(values: Sequence[GenomeValue], steps: Sequence[str], labs: Sequence[str]) -> Any:
    """The sparse matrix that says which of the steps a genome has, and which lab measured it."""
    import numpy as np
    from scipy.sparse import csr_array

    column = {name: place for place, name in enumerate(steps)}
    offset = {name: len(steps) + place for place, name in enumerate(labs)}
    having = [[*(column[step] for step in value.steps if step in column), offset[value.by]] for value in values]
    rows = np.repeat(np.arange(len(values)), [len(each) for each in having])
    places = rows, np.concatenate(having)
    return csr_array((np.ones(len(rows)), places), shape=(len(values), len(steps) + len(labs)))
