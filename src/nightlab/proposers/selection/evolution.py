"""Regularized evolution (Real, Aggarwal, Huang and Le, AAAI 2019, arXiv:1802.01548)."""

from __future__ import annotations

import random
from collections import deque

from nightlab.core.types import Experiment, Metric
from nightlab.proposers.selection.search import node_value

POPULATION, TOURNAMENT = 20, 5  # 100 and 25 in the paper, for 20,000 experiments; a session has about a hundred


class Evolution:
    """Selects the best of a few genomes drawn from the most recent ones.

    The population is the last ``POPULATION`` sound experiments, kept or not, so that a lucky measurement ages out.
    There is no random first generation: the baseline is the first member.
    """

    memory = 10 * POPULATION  # more than the population, because not all are sound

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
        self.turn += 1  # so that a resumed session does not repeat its first tournaments
        if (value := node_value(experiment)) is not None:
            self.population.append((value, experiment))
