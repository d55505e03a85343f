"""Proposers: where candidates come from, behind one small protocol."""

from nightlab.propose.constants import Constant, change_constants, changes, find_constants, same_moves
from nightlab.propose.mixture import Mixture, make_proposers
from nightlab.propose.proposer import Briefing, NoProposal, Proposal, Proposer, Refused

__all__ = [
    "Briefing",
    "Constant",
    "Mixture",
    "NoProposal",
    "Proposal",
    "Proposer",
    "Refused",
    "change_constants",
    "changes",
    "find_constants",
    "make_proposers",
    "same_moves",
]
