"""The protocol that every proposer speaks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from nightlab.core.config import LabConfig
from nightlab.core.types import Budget, Experiment, Metric
from nightlab.sandbox.bubblewrap import Sandbox
from nightlab.sandbox.traffic import TrafficCaps
from nightlab.storage.git import Repo
from nightlab.storage.ledger import UsedSources

Used = set[str] | UsedSources
"""Entries of a queue that had their turn."""


class NoProposal(Exception):
    """A turn that yielded no change. ``str(error)`` says why in a sentence, ``usage`` what it cost all the same.

    ``rest``: seconds after which it makes sense to ask again, where that is known. ``final``: asking again makes no
    sense in this run, e.g. because a key is wrong.
    """

    def __init__(
        self, reason: str, usage: Mapping[str, Any] | None = None, rest: float = 0.0, *, final: bool = False
    ) -> None:
        super().__init__(reason)
        self.usage, self.rest, self.final = usage or {}, rest, final

    def with_usage(self, usage: Mapping[str, Any], before: str = "", after: str = "") -> NoProposal:
        """The same failure with what the turn cost, and words around the reason."""
        return NoProposal(f"{before}{self}{after}", usage, self.rest, final=self.final)


@dataclass(frozen=True, slots=True)
class RejectedProposal:
    """A proposal that became no experiment, or a turn without one, and why."""

    proposer: str
    reason: str
    hypothesis: str = ""
    usage: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A change to the genome, with the reason for it: either whole files or one unified patch."""

    proposer: str
    hypothesis: str
    files: Mapping[str, str] = field(default_factory=dict)
    patch: str = ""
    base: str = ""
    """The commit that the patch was made on, where that is known: then constants can follow the champion by name."""
    source: str = ""
    """Which entry of a queue it is, for proposers that have one."""
    on: str = ""
    """The commit that it must be made on; without one the champion, or what the search asks for."""
    usage: Mapping[str, Any] = field(default_factory=dict)
    """What the turn took, as far as it is known: seconds, model, tokens, cost in US dollars."""


@dataclass(frozen=True, slots=True)
class UnverifiedFinding:
    """What another lab says it found, not measured here: ``why`` not, in a few words."""

    status: str
    claimed: float
    hypothesis: str
    changes: Sequence[str]
    why: str


@dataclass(frozen=True, slots=True)
class EarlierProgram:
    """An experiment's genome, text by path, that differs from the one that a proposal starts from."""

    experiment: Experiment
    genome: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Briefing:
    """What a proposer is told, assembled fresh for each turn."""

    metric: Metric
    device: str
    genome: Mapping[str, str]
    """The genome to start from, the champion's or the parent's: text by path."""
    champion: Experiment
    """Without a verdict and numbers while it is the baseline, and being measured."""
    history: Sequence[Experiment]
    """What was tried, in order of the numbers: the baseline first, then those that measured best and the latest ones.

    A long session has more: the last one's number says how many. Those still running, and those that wait for a slot,
    have no verdict."""
    parent: Experiment | None = None
    """Whose genome it is, where the search asked for another than the champion's."""
    lab: LabConfig | None = None
    budget: Budget | None = None
    program: str = ""
    """The human's strategy, as it is now."""
    notes: Sequence[str] = ()
    """What the human said since, oldest first."""
    remarks: Sequence[tuple[int, str]] = ()
    """What the human's own command said after an experiment, by its number, oldest first."""
    refused: Sequence[RejectedProposal] = ()
    """Proposals that became no experiment, oldest first."""
    found: Sequence[UnverifiedFinding] = ()
    """What other labs say they found, the most promising first."""
    earlier: Callable[[], Sequence[EarlierProgram]] = tuple
    """The best programs beside the champion's, and others unlike these. Called, it reads them from the repository."""
    thinking: Sequence[str] = ()
    """The proposers that have a turn at the same time, once for each turn; what they will propose is not known yet."""
    sigma: float = 0.0
    """How far luck alone moves one trial's metric."""
    detectable: float = 0.0
    """The smallest effect that a confirmation on four pairs of fresh seeds would show."""
    left: TrafficCaps | None = None
    """What the run's stop rules leave for this turn's requests, tokens and dollars."""

    @property
    def start(self) -> Experiment:
        """Whose genome it is."""
        return self.parent or self.champion


class Proposer(Protocol):
    name: str

    def propose(self, briefing: Briefing) -> Proposal | None:
        """The next change to try, or None when it has nothing to propose now."""
        ...

    def tell(self, proposal: Proposal, refusal: str | None) -> None:
        """What became of a proposal: None when it was accepted, else why not.

        One that was accepted may be refused yet, e.g. because the champion moves on before there is room for it.
        """
        ...


@dataclass(frozen=True, slots=True)
class ProposerWorkspace:
    """What proposers that are programs need: the lab's repository, a sandbox, a folder for copies and logs."""

    repo: Repo
    lab: LabConfig
    sandbox: Sandbox
    folder: Path


@dataclass(frozen=True, slots=True)
class ProposerContext:
    """What a proposer is made with, besides its own configuration."""

    name: str
    """What the log calls it."""
    lab: LabConfig
    folder: Path
    """The lab's folder."""
    seed: int
    """Its randomness: the same session with the same seed proposes the same."""
    used: Used
    """Sources of its proposals that had their turn, also before the session was resumed."""
    workspace: ProposerWorkspace | None = None
    """Where proposers that are programs, or apply patches, work."""
