"""Several proposers that share a session, each by its share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from nightlab.lab import Lab, Model, Patches, Program
from nightlab.propose.command import AnyCommand, Workplace
from nightlab.propose.model import LanguageModel
from nightlab.propose.patches import PatchQueue
from nightlab.propose.proposer import Briefing, Proposal, Proposer, Refused
from nightlab.propose.resting import Resting
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

    @property
    def wakes(self) -> float:
        """When the next proposer that rests may be asked again, on the monotonic clock; infinity if none rests."""
        return min((one.wakes for one in self._resting() if one.rests), default=math.inf)

    def failed(self) -> list[Refused]:
        """Turns that brought no proposal since this was last asked."""
        return [refused for one in self._resting() for refused in one.take_failed()]

    def stop(self) -> None:
        """End the turn that is under way."""
        for one in self._resting():
            one.stop()

    def _resting(self) -> list[Resting]:
        return [one for one, _ in self.proposers.values() if isinstance(one, Resting)]


def make_proposers(
    lab: Lab, folder: Path, had: Mapping[str, int], used: set[str], seed: int, place: Workplace | None = None
) -> Mixture:
    """The proposers that a contract names. ``had``: experiments that each had; ``used``: patches that had a turn.

    ``place``: where those that are programs work; they need one.
    """
    made: dict[str, tuple[Proposer, float]] = {}
    for part in lab.proposers:
        one: Proposer
        if isinstance(part, Patches):
            one = PatchQueue(folder / part.folder, used)
        elif isinstance(part, Program):
            assert place is not None
            one = Resting(AnyCommand(part, place))
        elif isinstance(part, Model):
            one = Resting(LanguageModel(part))
        else:
            one = Tuner(seed)
        made[one.name] = (one, part.share)
    return Mixture(made, had)
