"""Search: which genome the next proposal starts from, behind ask and tell. What is kept is the judge's alone."""

from nightlab.core.config import SelectionConfig
from nightlab.core.types import Metric
from nightlab.proposers.selection.cascade import Cascade, Rung
from nightlab.proposers.selection.climb import Climb
from nightlab.proposers.selection.evolution import Evolution
from nightlab.proposers.selection.search import Selection, node_value
from nightlab.proposers.selection.theme import theme
from nightlab.proposers.selection.tree import Tree


def make_search(part: SelectionConfig, metric: Metric, seed: int = 0) -> Selection:
    """The strategy that a contract names. ``seed``: its randomness."""
    if part.strategy == "evolution":
        return Evolution(metric, seed)
    return Tree(metric) if part.strategy == "tree" else Climb()


__all__ = [
    "Cascade",
    "Climb",
    "Evolution",
    "Metric",
    "Rung",
    "Selection",
    "SelectionConfig",
    "Tree",
    "make_search",
    "node_value",
    "theme",
]
