"""Runs the arena: collects the best genomes of sessions, and runs each on the same seeds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from nightlab.analysis.fitness import LARGEST, GeneResult, Severity
from nightlab.analysis.ranking import Contender, Drift, Standings
from nightlab.commons.exchange import Commons
from nightlab.commons.finding import COMMONS_PROPOSER, target_of
from nightlab.commons.instants import parse_instant
from nightlab.commons.peer_store import PeerStore
from nightlab.commons.places import author_key
from nightlab.commons.record import Finding, Verification, author_of, genome_id
from nightlab.core.text import one_line
from nightlab.core.types import Experiment, Measurement, NightlabError, TrialRequest, average
from nightlab.loop.measure import measure
from nightlab.loop.scheduler import Scheduler
from nightlab.session.replicates import ARENA_SEED, runs
from nightlab.session.session import Session

CAUGHT: dict[str, Severity] = {"tampered": "critical", "over limit": "medium"}  # by trial outcome
COMMONS_FIELDS = ("author", "author_since", "usage")  # fields of a contender that only the commons knows
FUEL, CPU = "fuel", "CPU seconds"  # a gene's cost: a secondary metric that starts with FUEL, else CPU seconds


def contestants(session: Session, best: int) -> list[Experiment]:
    """A session's best candidates by the search's measurements, at most ``count``."""
    ledger, metric = session.ledger, session.metric
    worth = {
        e.number: metric.gain(e.measurement.metric, 0.0)
        for e in ledger.experiments()
        if e.number and e.measurement and e.measurement.metric is not None
    }
    return [ledger.experiment(number) for number in sorted(worth, key=lambda number: worth[number])[:best]]


def run_tournament(scheduler: Scheduler, chosen: Sequence[Experiment], seeds: int) -> None:
    """Run the baseline and the chosen candidates on the arena's seeds, one trial at a time; existing runs are reused.

    A candidate that fails does not stop the others. Raises NightlabError when the baseline can't be measured or nothing
    can run, RunInterrupted when the user stops.
    """
    budget = scheduler.session.budget.record()
    with scheduler.on_duty():
        scheduler.adopt_running()
        scheduler.drain()  # record the trials of an earlier run; they are judged when the search continues
        for seed in range(ARENA_SEED, ARENA_SEED + seeds):
            for number in (0, *(experiment.number for experiment in chosen)):
                try:
                    measure(scheduler, [TrialRequest(number, "arena", seed, budget)])
                except NightlabError:
                    if not number or seed not in _runs(scheduler.session, number):
                        raise  # not the gene's fault


def collect_entries(sessions: Sequence[Session], best: int, commons: Commons | None = None) -> list[Contender]:
    """The genes of all sessions that ran on the arena's seeds, from the ledgers.

    Authors and adoption counts come from the commons.
    """
    found: list[Contender] = []
    for session in sessions:
        lookup = _CommonsLookup(session, commons) if commons else None
        ran = _runs(session, 0)
        baseline = {seed: m.metric for seed, m in ran.items() if m.metric is not None and abs(m.metric) < LARGEST / 2}
        for experiment in contestants(session, best):
            ran = _runs(session, experiment.number)
            if ran.keys() & baseline.keys():
                known = lookup.known(experiment) if lookup else {}
                found.append(_entrant(session, experiment, ran, baseline).model_copy(update=known))
    return [_in_all_settings(entrant, found) for entrant in found]


def measured_otherwise(published: Standings, sessions: Sequence[Session]) -> list[Drift]:
    """Contenders of these sessions whose published numbers differ from the ledger, and contenders unknown to it."""
    ours = {e.name: e for e in collect_entries(sessions, best=len(published.entrants) + 1000)}
    drifts = []
    for entrant in published.entrants:
        mine = ours.get(entrant.name)
        if mine is None:
            drifts.append(Drift(entrant.name, "missing", "no ledger here has measured it in the arena"))
            continue
        said, have = (e.model_dump(mode="json", exclude=set(COMMONS_FIELDS)) for e in (entrant, mine))
        if wrong := [key for key in said if said[key] != have[key]]:
            drifts.append(Drift(entrant.name, "unreproducible", f"the ledger says otherwise of: {', '.join(wrong)}"))
    return drifts


class _CommonsLookup:
    """What the commons says about a session's genes."""

    def __init__(self, session: Session, commons: Commons) -> None:
        self.session, self.peers = session, PeerStore(session, commons)
        key = author_key()
        own = commons.chain(author_of(key)) if key else []
        self.mine = {r.genome: e for e in own if isinstance(r := e.signed.record, Finding)}

    def known(self, experiment: Experiment) -> dict[str, Any]:
        """The author of an experiment's gene, since when they have published, and how many others adopted it.

        Only adopters with proven claims here count, because identities are free.
        """
        candidate, entries = experiment.candidate, self.peers.entries
        if candidate.proposer == COMMONS_PROPOSER:
            entry = entries.get(target_of(candidate.source))
        else:
            entry = self.mine.get(genome_id(self.session.genome(candidate.commit)))
        if entry is None:
            return {}
        adopters = {
            other.author
            for other in entries.values()
            if other.kind == "verification"
            and isinstance(r := other.signed.record, Verification)
            and (r.adopted and r.target == entry.id)
        }
        honest = [a for a in adopters - {entry.author} if self.peers.trust_in(a).proven]
        first = self.peers.commons.chain(entry.author)[0].signed.record
        return dict(zip(COMMONS_FIELDS, (entry.author, parse_instant(first.at), len(honest)), strict=True))


def _runs(session: Session, number: int) -> dict[int, Measurement]:
    return runs(session.ledger.trials(number, "arena"), "arena")


def _entrant(
    session: Session, experiment: Experiment, ran: dict[int, Measurement], baseline: dict[int, float]
) -> Contender:
    lab, metric, candidate = session.lab, session.metric, experiment.candidate
    shared = {seed: m for seed, m in ran.items() if seed in baseline}
    valid = {seed: m for seed, m in shared.items() if m.metric is not None and abs(m.metric) < LARGEST / 2}
    gains = tuple(metric.gain(baseline[seed], m.metric) for seed, m in valid.items() if m.metric is not None)
    unit, costs = _costs(list(valid.values()))
    caught = [CAUGHT[m.outcome] for m in shared.values() if m.outcome in CAUGHT]
    evaluated = GeneResult(
        runs=len(shared),
        gains=gains,
        settings=1,
        gained=int(bool(gains) and average(gains) > 0),
        latency=average([m.training_seconds + m.evaluation_seconds for m in valid.values()]) if valid else 0.0,
        cost=average(costs) if costs else 0.0,
    )
    return Contender(
        name=f"{session.repo.lab.resolve().name}/{session.tag} #{experiment.number}",
        domain=f"{lab.name}: {metric.name}",
        task=_task(session),
        genome=candidate.program or candidate.tree,
        title=one_line(candidate.hypothesis, 120),
        metric=metric.name,
        values=tuple(m.metric for m in valid.values() if m.metric is not None),
        evaluated=evaluated,
        cost_unit=unit,
        passed=len(valid),
        tests=len(shared),
        found={severity: caught.count(severity) for severity in sorted(set(caught))},
        measured_at=experiment.judged_at or experiment.proposed_at,
    )


def _in_all_settings(entrant: Contender, everywhere: Sequence[Contender]) -> Contender:
    """Add the results of the same program in the other sessions, i.e. with another task or platform."""
    same = {e.task: e.evaluated for e in everywhere if e.genome == entrant.genome}
    settings = replace(entrant.evaluated, settings=len(same), gained=sum(e.gained for e in same.values()))
    return entrant.model_copy(update={"evaluated": settings})


def _costs(measured: Sequence[Measurement]) -> tuple[str, list[float]]:
    """The cost of each run and its unit: fuel, if the evaluator counts it (equal on all machines), else CPU seconds."""
    names = sorted({name for m in measured for name in m.secondary if name.startswith(FUEL)})
    if names and all(names[0] in m.secondary for m in measured):
        return names[0], [m.secondary[names[0]] for m in measured]
    return CPU, [m.cpu_seconds for m in measured]


def _task(session: Session) -> str:
    """The id of what makes numbers compare: the same lab in the same state, budget and machine."""
    facts: dict[str, Any] = {
        "tree": session.repo.tree(session.base),
        "budget": asdict(session.budget.record()),
        "platform": asdict(session.platform),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
