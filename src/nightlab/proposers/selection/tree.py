"""Best-first tree search over the lineage, with a bonus for nodes that were rarely expanded.

A node's score is its rank among all nodes (0 to 1) plus ``BONUS / N * sqrt(V) / (1 + v)``, with N nodes, v expansions
of the node and its descendants, and V expansions in the whole tree. This is PUCT with ranks as values and a flat prior,
as in Aygün et al., "An AI system to help scientists write expert-level empirical software" (2025, arXiv:2509.06503).
All measured genomes are nodes, not only leaves, as in AIDE (Jiang et al. 2025, arXiv:2502.13138).
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from nightlab.core.types import Experiment, Metric
from nightlab.proposers.selection.search import node_value

BONUS = 1.0
TRUST = 0.5  # weight of a single measurement; the rest is its parent's value
NODES = 200  # nodes kept, the best ones: worse ones would not be expanded


@dataclass(slots=True)
class Node:
    """A genome that may be expanded. ``visits`` counts proposals based on it or its descendants."""

    experiment: Experiment
    value: float
    parent: str
    visits: int = 0


class Tree:
    """Selects the most promising genome, by estimated value and number of expansions."""

    memory = 10 * NODES

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.nodes: dict[str, Node] = {}  # by commit
        self.asked: Counter[str] = Counter()  # proposals whose verdict is pending, by parent

    def ask(self) -> Experiment | None:
        if not self.nodes:
            return None
        order = sorted(self.nodes.values(), key=lambda node: node.value, reverse=self.metric.goal == "minimise")
        n, visits = len(order), 1 + sum(node.visits for node in order)

        def score(ranked: tuple[int, Node]) -> float:
            rank, node = ranked
            return rank / max(n - 1, 1) + BONUS / n * math.sqrt(visits) / (1 + node.visits)

        chosen = max(enumerate(order), key=score)[1]
        self._visit(chosen)  # immediately, so that other slots choose other nodes meanwhile
        self.asked[chosen.experiment.candidate.commit] += 1
        return chosen.experiment

    def tell(self, experiment: Experiment) -> None:
        value, candidate = node_value(experiment), experiment.candidate
        parent = self.nodes.get(candidate.parent)
        if self.asked[candidate.parent]:
            self.asked[candidate.parent] -= 1
        else:  # proposed before the session was resumed, or by a user
            self._visit(parent)
        if value is None:
            return
        if parent and not experiment.kept:  # a kept one's bar is already corrected
            value = parent.value + TRUST * (value - parent.value)
        self.nodes[candidate.commit] = Node(experiment, value, candidate.parent)
        if len(self.nodes) > NODES:
            worst = max if self.metric.goal == "minimise" else min
            del self.nodes[worst(self.nodes, key=lambda commit: self.nodes[commit].value)]

    def _visit(self, node: Node | None) -> None:
        seen = set()
        while node is not None and node.experiment.number not in seen:
            seen.add(node.experiment.number)  # the baseline is its own parent
            node.visits += 1
            node = self.nodes.get(node.parent)
