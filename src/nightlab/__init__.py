"""nightlab: the lab that runs while you sleep.

The public Python API: ``nightlab.Lab`` opens a lab, ``Lab.session`` a session in it, ``Session.run`` runs experiments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nightlab.api import (
        AskedTrial,
        Briefing,
        Budget,
        Callback,
        Candidate,
        Check,
        Contestant,
        Engine,
        Evidence,
        Experiment,
        Lab,
        LineObserver,
        Measurement,
        Metric,
        NeedsTrial,
        NightlabError,
        Noise,
        NoProposal,
        PopulationResult,
        Proposal,
        Proposer,
        Rule,
        RunResult,
        Selection,
        Session,
        Verdict,
        load,
    )

__version__ = "0.1.0"
__all__ = [
    "AskedTrial",
    "Briefing",
    "Budget",
    "Callback",
    "Candidate",
    "Check",
    "Contestant",
    "Engine",
    "Evidence",
    "Experiment",
    "Lab",
    "LineObserver",
    "Measurement",
    "Metric",
    "NeedsTrial",
    "NightlabError",
    "NoProposal",
    "Noise",
    "PopulationResult",
    "Proposal",
    "Proposer",
    "Rule",
    "RunResult",
    "Selection",
    "Session",
    "Verdict",
    "__version__",
    "load",
]


def __getattr__(name: str) -> Any:
    """The public names, imported when the first of them is used: ``import nightlab`` itself takes no time."""
    if name not in __all__:
        raise AttributeError(f"module 'nightlab' has no attribute {name!r}")
    from nightlab import api

    found = getattr(api, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
