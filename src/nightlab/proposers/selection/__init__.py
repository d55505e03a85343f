"""Search: which genome the next proposal starts from, behind ask and tell. What is kept is the judge's alone."""

from nightlab.core import plugins
from nightlab.core.config import SelectionConfig
from nightlab.core.program.theme import theme
from nightlab.core.types import Metric
from nightlab.proposers.selection.cascade import Cascade, Rung
from nightlab.proposers.selection.climb import Climb
from nightlab.proposers.selection.evolution import Evolution
from nightlab.proposers.selection.plugged import PluggedSelection
from nightlab.proposers.selection.search import Selection, SelectionContext, node_value
from nightlab.proposers.selection.tree import Tree


def make_search(part: SelectionConfig, metric: Metric, seed: int = 0) -> Selection:
    """The strategy that a contract names. ``seed``: its randomness.

    Raises NightlabError for a plug-in that can't be loaded.
    """
    context = SelectionContext(metric, seed)
    made: Selection = plugins.make("selection", part.strategy, part.options, context, "search.options")
    return PluggedSelection(part.strategy, made) if plugins.is_plugin("selection", part.strategy) else made


__all__ = [
    "Cascade",
    "Climb",
    "Evolution",
    "Metric",
    "PluggedSelection",
    "Rung",
    "Selection",
    "SelectionConfig",
    "SelectionContext",
    "Tree",
    "make_search",
    "node_value",
    "theme",
]
