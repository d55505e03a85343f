"""Regularized evolution (Real, Aggarwal, Huang and Le, AAAI 2019, arXiv:1802.01548)."""

from __future__ import annotations

import random
from collections import deque

from nightlab.core.types import Experiment, Metric
from nightlab.proposers.selection.search import node_value

POPULATION, TOURNAMENT = 20, 5  # theirs are 100 and 25, for sessions of 20,000; a night has a hundred


class Evolution:
    """The best of a few, drawn from the youngest that were measured.

    The population is the last ``POPULATION`` sound experiments, kept or not: who was lucky once grows old and leaves
    like all others. There is no first generation of random genomes: the baseline is the first member.
    """

    memory = 10 * POPULATION  # not all of them were sound

    def __init__(self, metric: Metric, seed: int = 0) -> None:
        self.metric, self.seed = metric, seed
        self.population: deque[tuple[float, Experiment]] = deque(maxlen=POPULATION)
        self.turn = 0

    def ask(self) -> Experiment | None:
        if not self.population:
            return None
        draw = random.Random(f"{self.seed}/{self.turn}")
        self.turn += 1
        best, parent = draw.choice(self.population)
        for _ in range(TOURNAMENT - 1):
            value, rival = draw.choice(self.population)
            if self.metric.better(value, best):
                best, parent = value, rival
        return parent

    def tell(self, experiment: Experiment) -> None:
        self.turn += 1  # so that a session that resumes does not draw its first tournaments again
        if (value := node_value(experiment)) is not None:
            self.population.append((value, experiment))
