"""Several proposers that share a session, each by its share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nightlab.lab import Lab, Patches
from nightlab.propose.patches import PatchQueue
from nightlab.propose.proposer import Briefing, Proposal, Proposer
from nightlab.propose.tuner import Tuner


class Mixture:
    """Asks the proposer that is furthest behind its share; one with nothing to propose yields its turn."""

    name = "mixture"

    def __init__(self, proposers: Mapping[str, tuple[Proposer, float]], had: Mapping[str, int]) -> None:
        self.proposers = proposers
        self.had = {name: had.get(name, 0) for name in proposers}

    def propose(self, briefing: Briefing) -> Proposal | None:
        for name in sorted(self.proposers, key=lambda n: (self.had[n] + 1) / self.proposers[n][1]):
            if proposal := self.proposers[name][0].propose(briefing):
                return proposal
        return None

    def tell(self, proposal: Proposal, refusal: str | None) -> None:
        if refusal is None:
            self.had[proposal.proposer] += 1
        self.proposers[proposal.proposer][0].tell(proposal, refusal)


def make_proposers(lab: Lab, folder: Path, had: Mapping[str, int], used: set[str], seed: int) -> Mixture:
    """The proposers that a contract names. ``had``: experiments that each had; ``used``: patches that had a turn."""
    made: dict[str, tuple[Proposer, float]] = {}
    for part in lab.proposers:
        one: Proposer = PatchQueue(folder / part.folder, used) if isinstance(part, Patches) else Tuner(seed)
        made[one.name] = (one, part.share)
    return Mixture(made, had)
