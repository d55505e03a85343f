"""The public API: a lab, a session in it, and the protocols of what you can bring along."""

from nightlab.api.frame import load
from nightlab.api.lab import Lab
from nightlab.api.session import Callback, Session
from nightlab.core.types import (
    Budget,
    Candidate,
    Evidence,
    Experiment,
    Measurement,
    Metric,
    NightlabError,
    RunResult,
    Verdict,
)
from nightlab.engines.base import Engine
from nightlab.judge import Contestant, NeedsTrial, Noise, Rule
from nightlab.loop.ask_tell import AskedTrial
from nightlab.loop.population_trainer import PopulationResult
from nightlab.proposers import Briefing, NoProposal, Proposal, Proposer
from nightlab.proposers.selection import Selection
from nightlab.session.check import Check
from nightlab.ui.terminal.lines import LineObserver

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
    "load",
]
