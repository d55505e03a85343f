"""A best-first tree over the lineage, with a bonus for what was rarely expanded.

A node's score is its rank among all, from 0 to 1, plus ``BONUS / N * sqrt(V) / (1 + v)``: N nodes, v how often it or a
descendant of its was expanded, V the same of the whole tree. This is PUCT with ranks for values and a flat prior, as in
Aygün et al., "An AI system to help scientists write expert-level empirical software" (2025, arXiv:2509.06503).
Nodes are any genomes that were measured, not leaves alone, as in AIDE (Jiang et al. 2025, arXiv:2502.13138).
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from nightlab.core.types import Experiment, Metric
from nightlab.proposers.selection.search import node_value

BONUS = 1.0
TRUST = 0.5  # how far a single measurement is believed: the rest of the way it is its parent's worth
NODES = 200  # the best of them: what is worse than so many is not expanded, and a look at all stays cheap


@dataclass(slots=True)
class Node:
    """A genome that may be expanded. ``visits`` counts proposals made on it, and on those made from it."""

    experiment: Experiment
    value: float
    parent: str
    visits: int = 0


class Tree:
    """The most promising genome, all counted: how good it is believed to be, and how little was made of it."""

    memory = 10 * NODES

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.nodes: dict[str, Node] = {}  # by commit
        self.asked: Counter[str] = Counter()  # for proposals whose experiments are still to be told, by parent

    def ask(self) -> Experiment | None:
        if not self.nodes:
            return None
        order = sorted(self.nodes.values(), key=lambda node: node.value, reverse=self.metric.goal == "minimise")
        n, visits = len(order), 1 + sum(node.visits for node in order)

        def score(ranked: tuple[int, Node]) -> float:
            rank, node = ranked
            return rank / max(n - 1, 1) + BONUS / n * math.sqrt(visits) / (1 + node.visits)

        chosen = max(enumerate(order), key=score)[1]
        self._visit(chosen)  # now, not when it is judged: other slots should look elsewhere meanwhile
        self.asked[chosen.experiment.candidate.commit] += 1
        return chosen.experiment

    def tell(self, experiment: Experiment) -> None:
        value, candidate = node_value(experiment), experiment.candidate
        parent = self.nodes.get(candidate.parent)
        if self.asked[candidate.parent]:
            self.asked[candidate.parent] -= 1
        else:  # proposed before a session was resumed, or by a human
            self._visit(parent)
        if value is None:
            return
        if parent and not experiment.kept:  # a kept one's bar is without its luck already
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
