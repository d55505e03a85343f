"""Crossover: combines two near misses on the champion, the most promising pairs first, each pair once.

Two changes that each gained too little to show may show together. It is evolution's recombination operator, with
patches as genes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from nightlab.core.text import one_line
from nightlab.core.types import Experiment
from nightlab.proposers.briefing import AttemptHistory
from nightlab.proposers.proposer import Briefing, Proposal, Used
from nightlab.storage.git import PatchConflict, Repo

MOST = 20  # best near misses that are paired


class Crossover:
    """Pairs near misses of other proposers: not kept, with a gain over their parent of at least minus one sigma.

    The champion may be one of a pair: then a near miss of an earlier champion is applied to it. ``used``: the pairs
    that had their turn, from the ledger.
    """

    name = "recombine"

    def __init__(self, repo: Repo, used: Used) -> None:
        self.repo, self.used = repo, used

    def propose(self, briefing: Briefing) -> Proposal | None:
        for one, other in _pairs(briefing):
            source = f"{min(one.number, other.number)}+{max(one.number, other.number)}"
            if source in self.used:
                continue
            self.used.add(source)
            if made := self._together(briefing.champion, one, other):
                said = f"#{one.number} and #{other.number} together: {_said(one)}; {_said(other)}"
                return Proposal(self.name, said, *made, source=source)
        return None

    def tell(self, proposal: Proposal, refusal: str | None) -> None:
        """Does nothing: the ledger knows the pairs by their sources."""

    def _together(self, champion: Experiment, *misses: Experiment) -> tuple[dict[str, str], str] | None:
        """The misses' patches applied to the champion, as files and as one patch; None if they conflict."""
        at = start = champion.candidate.commit
        try:
            for one in misses:
                if one.number != champion.number:
                    patch = self.repo.patch(one.candidate.parent, one.candidate.commit)
                    at = self.repo.commit_patch(at, patch, one.candidate.hypothesis)
        except PatchConflict:
            return None
        texts = {path: self.repo.read(at, path) for path in self.repo.changed(start, at)}
        files = {path: text for path, text in texts.items() if text is not None}
        return (files, self.repo.patch(start, at)) if files else None


def _pairs(briefing: Briefing) -> Iterator[tuple[Experiment, Experiment]]:
    """The pairs, largest total gain first; the champion's own gain counts as zero."""
    past, champion = AttemptHistory.of(briefing), briefing.champion
    misses = [e for e in past.near(briefing.sigma) if e.number and _sound(e)][:MOST]
    gains = {e.number: past.gains[e.number] or 0.0 for e in misses} | {champion.number: 0.0}
    late = [(e, champion) for e in misses if e.candidate.parent != champion.candidate.commit]
    pairs = [*combinations(misses, 2), *late]
    return iter(sorted(pairs, key=lambda pair: -gains[pair[0].number] - gains[pair[1].number]))


def _sound(e: Experiment) -> bool:
    reason = e.verdict.reason if e.verdict else ""
    return e.candidate.proposer != Crossover.name and reason in ("regressed", "inconclusive")


def _said(e: Experiment) -> str:
    return one_line(e.candidate.hypothesis, 80)
