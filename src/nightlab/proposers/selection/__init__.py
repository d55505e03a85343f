"""Search: which genome the next proposal starts from, behind ask and tell. What is kept is the judge's alone."""

from nightlab.core.config import SearchPart
from nightlab.core.types import Metric
from nightlab.proposers.selection.cascade import Cascade, Rung
from nightlab.proposers.selection.climb import Climb
from nightlab.proposers.selection.evolution import Evolution
from nightlab.proposers.selection.search import Search, worth
from nightlab.proposers.selection.theme import theme
from nightlab.proposers.selection.tree import Tree


def make_search(part: SearchPart, metric: Metric, seed: int = 0) -> Search:
    """The strategy that a contract names. ``seed``: its randomness."""
    if part.strategy == "evolution":
        return Evolution(metric, seed)
    return Tree(metric) if part.strategy == "tree" else Climb()


__all__ = ["Cascade", "Climb", "Evolution", "Rung", "Search", "Tree", "make_search", "theme", "worth"]
