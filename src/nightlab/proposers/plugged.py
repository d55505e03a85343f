"""A proposer of another package: a turn in which it fails is lost and recorded, it rests, and the night goes on."""

from __future__ import annotations

from nightlab.proposers.given import GivenProposer
from nightlab.proposers.proposer import Briefing, NoProposal, Proposal, Proposer


class PluggedProposer(GivenProposer):
    """Asks a plug-in, under the name that the contract gives it."""

    def __init__(self, name: str, proposer: Proposer) -> None:
        super().__init__(proposer)
        self.name = self.thinker.name = name

    def propose(self, briefing: Briefing) -> Proposal | None:
        try:
            return super().propose(briefing)
        except SystemExit as error:
            self.fail(NoProposal(f"{self.name} raised SystemExit: {error}"))
            return None
