"""What a proposer is told at its turn, put together from the ledger, the human's files and what waits for a slot."""

from __future__ import annotations

import time
from collections.abc import Sequence

from nightlab.core.config import STRATEGY
from nightlab.core.events import HookAfter, ProposalRefused
from nightlab.core.files import NotReadable, read_plain
from nightlab.core.types import Candidate, Experiment, Metric
from nightlab.judge import Noise, smallest_effect
from nightlab.proposers import Briefing, EarlierProgram, RejectedProposal, UnverifiedFinding
from nightlab.sandbox.traffic import TrafficCaps
from nightlab.session.session import Session
from nightlab.storage.ledger import read_notes

BEST, LAST = 100, 2000  # experiments that a proposer is told of: so that a turn costs the same in a long session
PAST_REFUSALS = 100
EARLIER = 3  # programs whose code is shown
REMARKS = 10  # of the human's own command
LONGEST = 1_000_000  # bytes of the strategy
PAIRS = 4  # of the confirmation of which it speaks


def build_briefing(
    session: Session,
    noise: Noise,
    parent: Experiment | None,
    waiting: Sequence[Candidate],
    found: Sequence[UnverifiedFinding] = (),
    left: TrafficCaps | None = None,
    thinking: Sequence[str] = (),
) -> Briefing:
    """The briefing of a turn that starts from ``parent``, or the champion; ``waiting`` are about to be tried.

    ``found`` is what other labs say; ``left`` what the turn may spend; ``thinking`` names the proposers that have a
    turn at the same time.
    """
    ledger, champion = session.ledger, session.champion_to_be()
    number, now = ledger.next_number(), time.time()
    past = ledger.outline(session.metric.goal, BEST, LAST)
    others = unlike(past, parent or champion, session.metric)
    refused = ledger.events(ProposalRefused, last=PAST_REFUSALS)
    return Briefing(
        metric=session.metric,
        device=session.device,
        genome=session.genome((parent or champion).candidate.commit),
        champion=champion,
        history=[*past, *(Experiment(number + i, candidate, now) for i, candidate in enumerate(waiting))],
        parent=parent,
        lab=session.lab,
        budget=session.budget.record(),
        program=_strategy(session),
        notes=read_notes(session.folder),
        remarks=[(hook.number, hook.said) for hook in ledger.events(HookAfter, last=REMARKS) if hook.said],
        refused=[RejectedProposal(one.proposer, one.reason, one.hypothesis, one.usage) for one in refused],
        found=found,
        earlier=lambda: [EarlierProgram(one, session.genome(one.candidate.commit)) for one in others],
        thinking=thinking,
        sigma=noise.sigma,
        detectable=smallest_effect(noise, PAIRS),
        left=left,
    )


def unlike(past: Sequence[Experiment], start: Experiment, metric: Metric) -> list[Experiment]:
    """The best experiment beside ``start``, then those among the best that change other parts than the ones before."""
    measured = [e for e in past if e.measurement and e.measurement.measured and e.number != start.number]
    sign = 1 if metric.goal == "minimise" else -1
    best = sorted(measured, key=lambda e: sign * (e.measurement.metric or 0.0) if e.measurement else 0.0)[:BEST]
    chosen: list[Experiment] = []
    while best and len(chosen) < EARLIER:
        seen = set(start.candidate.theme).union(*(one.candidate.theme for one in chosen))
        # Python's min takes the first of equals: the best of those that repeat the least.
        one = min(best, key=lambda e: len(seen.intersection(e.candidate.theme))) if chosen else best[0]
        chosen.append(one)
        best.remove(one)
    return chosen


def _strategy(session: Session) -> str:
    """The human's strategy as it stands in the working copy: an edit counts from the next turn on."""
    if session.program is not None:
        return session.program
    try:
        return read_plain(session.repo.lab / STRATEGY, LONGEST, session.repo.lab).decode(errors="replace")
    except (OSError, NotReadable):
        return ""
