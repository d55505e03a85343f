"""What a session's report says, gathered: plain frozen records, made by ``report`` and written out by the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nightlab.analysis.front import Front
from nightlab.core.types import Evidence, Experiment, Metric, PairedGain, ProposerStats


@dataclass(frozen=True, slots=True)
class Row:
    """One experiment beside the bar that it had to beat."""

    experiment: Experiment
    gain: float | None
    """Over that bar, as the search measured it."""
    worth: PairedGain | None = None
    """What it adds to the champion, measured by taking it out again on fresh seeds."""
    sigmas: float | None = None
    """The gain in units of one trial's noise, where that is known."""


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything that a report says, gathered."""

    lab: str
    tag: str
    branch: str
    base: str
    metric: Metric
    rule: str
    budget: str
    platform: str
    sealing: str
    begun: float
    ended: float
    ran: float
    """Seconds in which it ran, of ``begun`` to ``ended``."""
    room: float
    """The same times the slots of each run."""
    reason: str
    trials: int
    trained: float
    baseline: Experiment | None
    champion: Experiment | None
    confirmed: Evidence | None
    elsewhere: Sequence[tuple[str, PairedGain]]
    """The confirmed gain in secondary numbers named after the metric, such as that on private data."""
    transferred: Sequence[Evidence]
    kept: Sequence[Row]
    near: Sequence[Row]
    failed: Sequence[Row]
    discarded: int
    refused: int
    sigma: float
    relative: float
    """``sigma`` as a share of a value, where values are compared by ratios; else 0."""
    replicates: int
    rho: float
    self_tests: int
    self_kept: int
    luck_removed: float
    needed: Sequence[tuple[float, int]]
    """Effects, and how many trials each needs to be shown."""
    smallest: float
    """The smallest effect that the confirmation could have shown."""
    proposers: Sequence[ProposerStats]
    troubles: Sequence[str]
    front: Front | None = None
    """Of a lab with objectives."""
    imported: str = ""
    """Of an imported session: by what, and from where. Then nothing in it was measured by us."""
