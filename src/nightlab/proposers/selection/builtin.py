"""The selections that are built in, as the registry of plug-ins makes them."""

from __future__ import annotations

from nightlab.proposers.selection.climb import Climb
from nightlab.proposers.selection.evolution import Evolution
from nightlab.proposers.selection.search import Selection, SelectionContext
from nightlab.proposers.selection.tree import Tree


def climb(config: object, context: SelectionContext) -> Selection:
    return Climb()


def independent(config: object, context: SelectionContext) -> Selection:
    """Best of N: the loop starts every proposal from the baseline."""
    return Climb()


def evolution(config: object, context: SelectionContext) -> Selection:
    return Evolution(context.metric, context.seed)


def tree(config: object, context: SelectionContext) -> Selection:
    return Tree(context.metric)
