"""Search: which genome the next proposal starts from, behind ask and tell. What is kept is the judge's alone."""

from nightlab.lab import SearchPart
from nightlab.records import Metric
from nightlab.search.cascade import Cascade, Rung
from nightlab.search.climb import Climb
from nightlab.search.evolution import Evolution
from nightlab.search.search import Search, worth
from nightlab.search.theme import theme
from nightlab.search.tree import Tree


def make_search(part: SearchPart, metric: Metric, seed: int = 0) -> Search:
    """The strategy that a contract names. ``seed``: its randomness."""
    if part.strategy == "evolution":
        return Evolution(metric, seed)
    return Tree(metric) if part.strategy == "tree" else Climb()


__all__ = ["Cascade", "Climb", "Evolution", "Rung", "Search", "Tree", "make_search", "theme", "worth"]
