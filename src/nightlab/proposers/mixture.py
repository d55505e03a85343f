"""Several proposers that share a session, each by its share."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from pathlib import Path

from nightlab.core import plugins
from nightlab.core.config import LabConfig, PluginProposerConfig
from nightlab.proposers.backoff import Backoff
from nightlab.proposers.controller import Controller
from nightlab.proposers.patches import PatchQueue
from nightlab.proposers.plugged import PluggedProposer
from nightlab.proposers.proposer import (
    Briefing,
    Proposal,
    Proposer,
    ProposerContext,
    ProposerWorkspace,
    RejectedProposal,
    Used,
)
from nightlab.proposers.shares import ProposerCredit


class Mixture:
    """Asks the proposer that is furthest behind its share; one with nothing to propose yields its turn.

    A slow one's turn counts even if it fails: else one that always does would come before all others. With ``earnings``
    the shares are what these say. While a slow one thinks, other slow ones and the quick ones may have turns too.
    """

    name = "mixture"

    def __init__(
        self,
        proposers: Mapping[str, tuple[Proposer, float]],
        had: Mapping[str, int],
        earnings: ProposerCredit | None = None,
        failed: Mapping[str, int] | None = None,
        plateaus: Mapping[str, int] | None = None,
    ) -> None:
        self._plateaus = plateaus or {}
        self._absent = set(self._plateaus)  # those that take part only on a plateau, while there is none
        self.proposers, self.earnings = proposers, earnings
        self.had = {name: had.get(name, 0) for name in proposers}
        for one in self._resting():
            self.had[one.name] += (failed or {}).get(one.name, 0)
        self.overtaken = False  # quick ones had turns during the one that is under way, or was last
        self._thinking: list[str] = []  # those that have a turn now that may take minutes
        self._slow = False  # the one that ``propose`` asks is among them
        self._lock = threading.Lock()

    def propose(self, briefing: Briefing) -> Proposal | None:
        self.overtaken = False
        try:
            for name in self._order():
                one = self.proposers[name][0]
                if isinstance(one, Backoff) and not one.ready:
                    continue
                if name in self._absent and (self._thinking or self.wakes < math.inf):
                    continue  # it has a turn only if no other will have anything
                with self._lock:
                    if self.overtaken:  # a slow one failed, and the others had its turn
                        return None
                    self._slow = isinstance(one, Backoff)
                    if self._slow:
                        self._thinking.append(name)
                if proposal := self._think(name, one, briefing) if isinstance(one, Backoff) else one.propose(briefing):
                    return proposal
            return None
        finally:
            with self._lock:
                self._slow = False

    def think(self, briefing: Briefing) -> Proposal | None:
        """A proposal of the slow one that is furthest behind its share, of those that may have a turn."""
        for name in self._present():
            one = self.proposers[name][0]
            if isinstance(one, Backoff) and one.ready:
                with self._lock:
                    self._thinking.append(name)
                return self._think(name, one, briefing)
        return None

    def _think(self, name: str, one: Backoff, briefing: Briefing) -> Proposal | None:
        try:
            self._had_turn(name)
            return one.propose(briefing)
        finally:
            with self._lock:
                self._thinking.remove(name)

    def quick(self, briefing: Briefing) -> Proposal | None:
        """A proposal of one that does not think long, while one that does is asked; None at any other time."""
        with self._lock:
            if not self._slow:
                return None
            self.overtaken = True
        quick = (one for name in self._present() if not isinstance(one := self.proposers[name][0], Backoff))
        return next((proposal for one in quick if (proposal := one.propose(briefing))), None)

    @property
    def slow(self) -> bool:
        """Whether ``propose`` asks one that may take minutes."""
        return self._slow

    @property
    def thinking(self) -> tuple[str, ...]:
        """Those that have a turn now that may take minutes, by name, once for each turn."""
        with self._lock:
            return tuple(self._thinking)

    @property
    def another_ready(self) -> bool:
        """Whether another slow one may have a turn now."""
        return any(one.ready for one in self._resting())

    def is_slow(self, name: str) -> bool:
        """Whether a proposer's turns may take minutes."""
        return any(one.name == name for one in self._resting())

    def move_shares(self, since: int) -> tuple[str, ...] | None:
        """Those that take part because the last ``since`` experiments brought no keep; None if that is as it was.

        One that joins does not catch up on the turns that others had before.
        """
        absent = {name for name, least in self._plateaus.items() if since < least}
        if absent == self._absent:
            return None
        with self._lock:
            before = [name for name in self.proposers if name not in self._absent]
            least = min((self.had[name] / self.proposers[name][1] for name in before), default=0.0)
            for name in self._absent - absent:
                self.had[name] = max(self.had[name], int(least * self.proposers[name][1]))
            self._absent = absent
        return tuple(name for name in self._plateaus if name not in absent)

    def _order(self) -> list[str]:
        """The names in the order in which to ask, those that wait for a plateau last."""
        order = self.earnings.order() if self.earnings else sorted(self.proposers, key=self._due)
        return sorted(order, key=lambda name: name in self._absent)

    def _due(self, name: str) -> float:
        """How far the next turn of a proposer is from the beginning, by its share: the smaller, the sooner."""
        one, share = self.proposers[name]
        return float(self.had[name] + 1 - getattr(one, "ahead", 0)) / share

    def _present(self) -> list[str]:
        return [name for name in self._order() if name not in self._absent]

    def tell(self, proposal: Proposal, refusal: str | None) -> None:
        one = self.proposers[proposal.proposer][0]
        if refusal is None and not isinstance(one, Backoff):
            self._had_turn(proposal.proposer)
        one.tell(proposal, refusal)

    def _had_turn(self, name: str) -> None:
        with self._lock:
            self.had[name] += 1
        if self.earnings:
            self.earnings.turn(name)

    @property
    def wakes(self) -> float:
        """When the next proposer that rests may be asked again, on the monotonic clock; infinity if none rests."""
        return min((one.wakes for one in self._resting() if one.rests), default=math.inf)

    def failed(self) -> list[RejectedProposal]:
        """Turns that brought no proposal since this was last asked."""
        said = (one for one, _ in self.proposers.values() if isinstance(one, Backoff | PatchQueue | Controller))
        return [refused for one in said for refused in one.take_failed()]

    def stop(self) -> None:
        """End the turns that are under way."""
        for one in self._resting():
            one.stop()

    @property
    def lanes(self) -> int:
        """How many turns of slow ones there can be at the same time."""
        return sum(len(one.thinkers) for one in self._resting() if not one.gone)

    @property
    def thinkers(self) -> int:
        return sum(not one.gone for one in self._resting())

    def why_nothing(self) -> str:
        """Why proposers have nothing, as far as they can say; empty if none can."""
        gone = [f"{one.name}: {one.gone}" for one in self._resting() if one.gone]
        return "; ".join([*gone, *filter(None, (getattr(one, "nothing", "") for one, _ in self.proposers.values()))])

    def _resting(self) -> list[Backoff]:
        return [one for one, _ in self.proposers.values() if isinstance(one, Backoff)]


def make_proposers(
    lab: LabConfig,
    folder: Path,
    had: Mapping[str, int],
    used: Used,
    seed: int,
    place: ProposerWorkspace | None = None,
    more: Mapping[str, tuple[Proposer, float]] | None = None,
    failed: Mapping[str, int] | None = None,
) -> Mixture:
    """The proposers that a contract names. ``had``: experiments that each had, ``failed``: turns without one; ``used``:
    patches that had a turn.

    ``place``: where those that are programs, or recombine, work; they need one. ``more``: others, with their shares.
    Raises NightlabError for a plug-in that can't be loaded.
    """
    made: dict[str, tuple[Proposer, float]] = dict(more or {})
    for n, part in enumerate(lab.proposers):
        context = ProposerContext(part.called, lab, folder, seed, used, place)
        plugged = isinstance(part, PluginProposerConfig)
        config = part.keys if isinstance(part, PluginProposerConfig) else part
        one: Proposer = plugins.make("proposer", part.kind, config, context, f"proposers.{n}")
        made[part.called] = (PluggedProposer(part.called, one) if plugged else one, part.share)
    earned = ProposerCredit(made, f"{seed}/{sum(had.values())}") if lab.search.shares == "earned" else None
    plateaus = {part.called: part.plateau for part in lab.proposers if part.plateau is not None}
    return Mixture(made, had, earned, failed, plateaus)
