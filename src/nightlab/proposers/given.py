"""A proposer that a program brings along: a turn in which it fails is lost, and the session goes on."""

from __future__ import annotations

from dataclasses import replace

from nightlab.proposers.backoff import Backoff
from nightlab.proposers.proposer import Briefing, NoProposal, Proposal, Proposer


class GivenProposer(Backoff):
    """Asks an object that the caller made; an exception of it is a failed turn."""

    def __init__(self, proposer: Proposer) -> None:
        super().__init__(_Guarded(proposer))
        self.proposer = proposer

    def tell(self, proposal: Proposal, refusal: str | None) -> None:
        super().tell(proposal, refusal)
        if tell := getattr(self.proposer, "tell", None):
            try:
                tell(proposal, refusal)
            except Exception as error:
                self.fail(NoProposal(f"{self.name} raised {type(error).__name__} when it was told: {error}"))


class _Guarded:
    """Turns what a proposer does wrong into a turn without a proposal."""

    def __init__(self, proposer: Proposer) -> None:
        self.name, self.proposer = proposer.name, proposer

    def propose(self, briefing: Briefing) -> Proposal | None:
        try:
            proposal = self.proposer.propose(briefing)
        except NoProposal:
            raise
        except Exception as error:
            raise NoProposal(f"{self.name} raised {type(error).__name__}: {error}") from error
        if proposal is not None and not isinstance(proposal, Proposal):
            raise NoProposal(f"{self.name} returned {type(proposal).__name__}, not a Proposal")
        return proposal and replace(proposal, proposer=self.name)

    def stop(self) -> None:
        """End the turn that is under way, where the proposer can."""
        if stop := getattr(self.proposer, "stop", None):
            stop()
