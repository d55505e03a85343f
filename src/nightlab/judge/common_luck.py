"""Common random numbers: how much of the noise is the seed's, and comparing on the champion's seeds where that pays.

A seed may favour all programs alike: an easy market, a lucky split of the data. A run's deviation is then partly the
seed's (its share of the variance is rho) and partly the program's on that seed. The champion's run on a seed tells the
seed's part, which can be taken off a candidate's (a control variate: Lavenberg and Welch 1981, Management Science
27:322). That leaves a variance of ``1 - rho**2``. Without common luck nothing is taken off.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nightlab.core.types import Measurement

if TYPE_CHECKING:
    from nightlab.judge.judge import Contestant
    from nightlab.judge.noise import Noise

GRID = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
SHOWN = 3.0  # log-likelihood by which common luck has to explain the runs better than none
LATEST = 150  # runs that rho is estimated from, at most


def share_of_seeds(programs: Sequence[Mapping[int, float]]) -> float:
    """The share of the noise's variance that is the seed's: rho, from 0 to 1; 0 where it does not show.

    ``programs``: the runs of each program by seed, the latest last. Method: two-way analysis of variance without
    balance (programs fixed, seeds random) by restricted likelihood, averaged over a grid of rho.
    """
    groups: list[Mapping[int, float]] = []
    for runs in reversed([runs for runs in programs if len(runs) > 1 and all(map(math.isfinite, runs.values()))]):
        if sum(map(len, groups)) + len(runs) <= LATEST:
            groups.append(runs)
    seeds = [seed for runs in groups for seed in runs]
    if len(set(seeds)) == len(seeds):
        return 0.0  # no seed ran with two programs
    likely = _log_likelihoods(groups)
    if not likely or max(likely) - likely[0] < SHOWN:
        return 0.0
    weights = [math.exp(one - max(likely)) for one in likely]
    return sum(rho * weight for rho, weight in zip(GRID, weights, strict=True)) / sum(weights)


def seeds_of_candidate(number: int, champion: Contestant | None) -> tuple[int, ...]:
    """The seeds that candidate ``number`` runs on first: the champion's, each in turn.

    Where seeds have no common luck, they are as good as any; where they have, it shows soon, and can be taken off.
    """
    known = sorted(champion.values()) if champion else []
    start = number % max(len(known), 1)
    return (*known[start:], *known[:start])


def without_common_luck(champion: Contestant, candidate: Contestant, noise: Noise) -> tuple[Contestant, Noise] | None:
    """The candidate's runs without the luck of the seeds that the champion ran on too, and the noise that is left.

    None where there is nothing to take off. ``champion`` and ``candidate`` are on the scale of ``noise``.
    """
    before, bar = champion.values(), champion.bar
    shared = [seed for seed in candidate.values() if seed in before]
    if not shared or bar is None or noise.rho <= 0:
        return None
    runs = dict(candidate.runs)
    for seed in shared:
        runs[seed] = _moved(runs[seed], -noise.rho * (before[seed] - bar))
    taken = noise.rho * noise.rho * len(shared) / len(candidate.values())
    return replace(candidate, runs=runs), _without(noise, taken)


def of_pairs(noise: Noise) -> Noise:
    """The noise of which the difference of two runs on one seed has root two: without what they have in common."""
    return _without(noise, noise.rho)


def _without(noise: Noise, part: float) -> Noise:
    """The noise that is left without a part of its variance."""
    left = math.sqrt(max(1 - part, 0.0))
    return replace(noise, sigma=noise.sigma * left, stated=noise.stated * left)


def _moved(run: Measurement, by: float) -> Measurement:
    assert run.metric is not None
    moved = run.metric + by
    return replace(run, metric=moved) if math.isfinite(moved) else run


def _log_likelihoods(groups: Sequence[Mapping[int, float]]) -> list[float]:
    """The restricted log-likelihood for each rho of the grid; nothing where the runs are all the same.

    The covariance of the runs is that of one seed at a time, so that its inverse is known (Woodbury).
    """
    import numpy as np

    names = sorted({seed for runs in groups for seed in runs})
    place = {seed: n for n, seed in enumerate(names)}
    values, ran = (np.zeros((len(groups), len(names))) for _ in range(2))
    for n, runs in enumerate(groups):
        least = min(runs.values())
        for seed, value in runs.items():
            values[n, place[seed]], ran[n, place[seed]] = value - least, 1.0
    size = float(np.abs(values).max())
    if not 0 < size < math.inf:
        return []
    values /= size
    rho, count = np.array(GRID)[:, None], ran.sum(0)
    total, df = values.sum(0), int(count.sum()) - len(groups)
    taken = rho / (1 - rho + rho * count)
    inner = np.diag(ran.sum(1)) - (ran * taken[:, None, :]) @ ran.T
    sums = values.sum(1) - (taken * total) @ ran.T
    fit = (sums * np.linalg.solve(inner, sums[..., None])[..., 0]).sum(1)
    own = 1 - rho[:, 0]
    rest = np.maximum(((values * values).sum() - (taken * total * total).sum(1) - fit) / own, 1e-12)
    logs = (df - len(names)) * np.log(own) + np.log(1 - rho + rho * count).sum(1) + np.linalg.slogdet(inner)[1]
    return list(map(float, -(logs + df * np.log(rest)) / 2))
