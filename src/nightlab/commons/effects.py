"""What each step of the labs' genomes gains, estimated from all their measurements together. Pure.

A genome is the sum of its steps, each of them one idea's change. Every trial of a genome says a little of each step in
it, noisy trials in many labs together tell the steps that gain from those that were luck.

Method: best linear unbiased prediction, as in genomic selection (Meuwissen, Hayes and Goddard 2001): the effects are
normal, with the mean and spread of the ideas that were tried here, and each lab's machine has its offset. Values far
off what the others say count less (Huber 1964).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

FEW = 5  # own ideas that the prior counts as, each of minus one sigma
FAR = 9.0  # sigmas, or medians: an idea's gain beyond counts as this one
CLIP = 3.0  # standard errors off what is expected, from which on a value counts less
ROUNDS = 3  # of finding the weights for that
OFFSET = 3.0  # sigmas between two labs' values of one genome
EXACT = 1e-3  # of the largest gain here: the least noise that is reckoned with
LATEST = 600  # steps that are estimated: the work grows with their cube
BOUND = 1e9  # sigmas: the largest gain that is reckoned with


@dataclass(frozen=True, slots=True)
class Effect:
    """What is known of a step's gain."""

    mean: float
    variance: float


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


def prior_effect(gains: Sequence[float], sigma: float) -> Effect:
    """The effect of a step of which nothing is known, by the measured ``gains`` of the ideas that were tried here.

    Never above zero: most ideas gain nothing. Method of moments, less the noise of two trials.
    """
    far = FAR * max(sigma, statistics.median(map(abs, gains)) if gains else 0.0)
    near = [max(-far, min(gain, far)) for gain in gains]
    few = [*near, *[-sigma] * FEW]
    mean = min(math.fsum(few) / len(few), 0.0)
    square = math.fsum(gain**2 for gain in few) / len(few)
    return Effect(mean, max(sigma**2, square - 2 * sigma**2))


def estimate(values: Sequence[GenomeValue], ideas: Sequence[float], sigma: float) -> dict[str, Effect]:
    """The effect of each step in the genomes that were measured: of the latest ones, in the order of ``values``.

    ``ideas``: the gains of the ideas that were tried here; ``sigma``: the noise of one trial. Empty where nothing
    has differed here yet.
    """
    import numpy as np
    from scipy.sparse import csr_array

    tried = ideas or [value.gain for value in values if not value.by and value.steps]
    sigma = max(sigma, EXACT * max(map(abs, tried), default=0.0))
    if not (values and 0 < sigma < math.inf):
        return {}
    scaled = [max(-BOUND, min(value.gain / sigma, BOUND)) for value in values]
    prior = prior_effect([max(-BOUND, min(gain / sigma, BOUND)) for gain in tried], 1.0)
    steps = list(dict.fromkeys(step for value in values for step in sorted(value.steps)))[-LATEST:]
    labs = sorted({value.by for value in values})
    column = {name: place for place, name in enumerate(steps)}
    offset = {name: len(steps) + place for place, name in enumerate(labs)}
    having = [[*(column[step] for step in value.steps if step in column), offset[value.by]] for value in values]
    rows = np.repeat(np.arange(len(values)), [len(each) for each in having])
    places = rows, np.concatenate(having)
    design = csr_array((np.ones(len(rows)), places), shape=(len(values), len(steps) + len(labs)))
    mean = np.array([prior.mean] * len(steps) + [0.0] * len(labs))
    precision = np.array([1 / prior.variance] * len(steps) + [1 / OFFSET**2] * len(labs))
    variance = np.array([1 / one.trials + prior.variance * (1 - one.word) / one.word for one in values])
    surprise = np.array(scaled) - design @ mean
    weight = np.ones(len(values))
    for _ in range(ROUNDS):
        weighted = design.multiply((weight / variance)[:, None]).tocsr()
        covariance = np.linalg.inv(np.diag(precision) + (weighted.T @ design).toarray())
        found = covariance @ (weighted.T @ surprise)
        errors = np.abs(surprise - design @ found) / np.sqrt(variance)
        weight = CLIP / np.maximum(errors, CLIP)
    spread = sigma * np.sqrt(covariance.diagonal())
    return {step: Effect(float(sigma * (mean[at] + found[at])), float(spread[at]) ** 2) for step, at in column.items()}
