"""Proposers: the sources of candidates, behind one small protocol."""

from nightlab.core.program.constants import Constant, change_constants, changes, find_constants, same_moves
from nightlab.proposers.given import GivenProposer
from nightlab.proposers.mixture import Mixture, make_proposers
from nightlab.proposers.proposer import (
    Briefing,
    EarlierProgram,
    NoProposal,
    Proposal,
    Proposer,
    ProposerContext,
    RejectedProposal,
    UnverifiedFinding,
)

__all__ = [
    "Briefing",
    "Constant",
    "EarlierProgram",
    "GivenProposer",
    "Mixture",
    "NoProposal",
    "Proposal",
    "Proposer",
    "ProposerContext",
    "RejectedProposal",
    "UnverifiedFinding",
    "change_constants",
    "changes",
    "find_constants",
    "make_proposers",
    "same_moves",
]
