"""A proposer that moves one constant of the genome up and down by a factor."""

from __future__ import annotations

import re

from pydantic import BaseModel, Field

from nightlab.proposers import Briefing, NoProposal, Proposal, ProposerContext


class Step:
    """Proposes the champion's value times ``factor``, then divided by it, until both have been tried."""

    class Config(BaseModel):
        """Its keys in ``lab.toml``."""

        constant: str = "RATE"
        factor: float = Field(default=2.0, gt=1)

    def __init__(self, config: Config, context: ProposerContext) -> None:
        self.name, self.config = context.name, config
        self._tried: set[str] = set()

    def propose(self, briefing: Briefing) -> Proposal | None:
        """The next step from this genome, None when it has none left.

        Raises NoProposal if the genome has no such constant.
        """
        pattern = re.compile(rf"^({re.escape(self.config.constant)} *= *)([\d.e+-]+)", re.MULTILINE)
        for path, text in briefing.genome.items():
            if found := pattern.search(text):
                return self._step(path, text, found)
        raise NoProposal(f"the genome has no constant {self.config.constant}")

    def tell(self, proposal: Proposal, refusal: str | None) -> None:
        """It goes on in either case: a step is proposed once."""

    def _step(self, path: str, text: str, found: re.Match[str]) -> Proposal | None:
        before = float(found[2])
        for after in (before * self.config.factor, before / self.config.factor):
            new = text[: found.start()] + f"{found[1]}{after:.6g}" + text[found.end() :]
            if new not in self._tried:
                self._tried.add(new)
                why = f"{self.config.constant} from {before:g} to {after:g}"
                return Proposal(self.name, why, files={path: new})
        return None
