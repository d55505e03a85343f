"""Runs the attacks on a lab in a scratch session, through the ordinary trials and the ordinary judge."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nightlab.analysis.redteam.attack import Attack
from nightlab.analysis.redteam.attacks import attacks_on, left_out, target
from nightlab.core.config import StopRules
from nightlab.core.observer import Observer
from nightlab.core.types import NightlabError, TrialRequest, Verdict
from nightlab.judge import NeedsTrial, paired_gain
from nightlab.loop.loop import ExperimentLoop
from nightlab.loop.measure import measure
from nightlab.loop.scheduler import RunInterrupted, Scheduler
from nightlab.session.create import start_session
from nightlab.session.replicates import CONFIRM_SEED
from nightlab.session.session import Session
from nightlab.storage.git import OutOfScope, Repo, clone
from nightlab.storage.ledger import record_redteam

MOST_TRIALS = 8  # of one attack
PAIRS = 4  # on fresh seeds, of an attack that the judge would keep: it may have been luck
LEVEL = 0.99  # of the interval of these: there are some sixteen attacks, and several may change nothing


@dataclass(frozen=True, slots=True)
class AttackResult:
    """What came of an attack: ``kept`` if the judge would keep it, or it was measured and should have been refused.

    ``metric``: what it measured, where it did.
    """

    attack: str
    does: str
    kept: bool
    verdict: str
    metric: float | None
    hint: str

    def facts(self) -> dict[str, Any]:
        return asdict(self)


def redteam(
    lab: Path,
    names: Sequence[str] = (),
    *,
    device: str | None = None,
    allow: Iterable[str] = (),
    view: Observer,
    said: Callable[[AttackResult], None] = lambda result: None,
) -> tuple[list[AttackResult], str]:
    """Attack the lab as it is committed, in a copy; all attacks that fit, or those that are named.

    ``said`` is told each result as it comes. Returns all, and which attacks were not made and why; empty where all
    were. Raises NightlabError for an unknown name, and without a baseline.
    """
    repo = Repo(lab)
    with _scratch(repo, device, allow) as session:
        genome = session.genome(session.base)
        path = target(session.lab, genome)
        attacks = _chosen(attacks_on(session.lab, path, genome[path]), names)
        loop = ExperimentLoop(session, StopRules(), Scheduler(session, view))
        loop.answer()  # measures the baseline
        results = []
        with loop.scheduler.on_duty():
            for attack in attacks:
                results.append(_try(loop, attack, path))
                said(results[-1])
    if results and not names:
        record_redteam(repo.lab, repo.resolve() or "", time.time(), [r.attack for r in results if r.kept], len(results))
    return results, left_out(session.lab, path, genome[path])


def _try(loop: ExperimentLoop, attack: Attack, path: str) -> AttackResult:
    session, scheduler, making = loop.session, loop.scheduler, loop.candidates.making
    verdict, metric = None, None
    try:
        text = attack.on_genome(session.lab, path, session.genome(session.base)[path])
        commit = session.repo.commit_files(session.base, {path: text}, attack.name)
        number = making.admit(making.candidate(commit, session.base, "redteam", attack.does))
    except OutOfScope as refusal:
        return AttackResult(attack.name, attack.does, False, f"refused: {refusal}", None, attack.hint)
    champion, experiment = session.champion(), session.ledger.experiment(number)
    for _ in range(MOST_TRIALS):
        candidate = scheduler.contestant(experiment)
        decision = session.judge.judge(scheduler.contestant(champion), candidate, scheduler.replicates.noise())
        metric = candidate.mean.metric if candidate.runs else None
        if not isinstance(decision, NeedsTrial):
            verdict = decision
            break
        if scheduler.asked_to_stop:
            raise RunInterrupted
        scheduler.start(number if decision.who == "candidate" else champion.number, "search", decision.seed)
        scheduler.drain()
    kept, said = bool(verdict and verdict.status == "keep"), _said(verdict)
    if attack.must_be_refused and metric is not None:
        kept, said = True, f"it ran: {said}"
    elif kept and (luck := _luck(loop, champion.number, number)):
        kept, said = False, f"{said}; {luck}"
    return AttackResult(attack.name, attack.does, kept, said, metric, attack.hint)


def _luck(loop: ExperimentLoop, champion: int, number: int) -> str:
    """Why an attack that was kept gains nothing: measured beside the champion on fresh seeds. Empty if it does."""
    scheduler, metric = loop.scheduler, loop.session.metric
    noise = scheduler.replicates.noise()
    if noise.exact:
        return ""
    seeds = range(CONFIRM_SEED, CONFIRM_SEED + PAIRS)
    # The champion's times of another attack were measured when the machine was busier, or less busy.
    since = loop.session.ledger.trials_before() if loop.session.lab.timed else 0
    asked = [TrialRequest(n, "confirm", seed, since=since) for seed in seeds for n in (champion, number)]
    try:
        found = measure(scheduler, asked)
    except NightlabError as failed:
        return f"on fresh seeds {failed}"
    values = [measured.metric or 0.0 for measured in found]
    gain = paired_gain(metric, values[::2], values[1::2], LEVEL, scale=noise.scale)
    return "" if gain.low > 0 else f"luck: on {PAIRS} fresh seeds it gains {gain.low:.4g} to {gain.high:.4g}"


def _said(verdict: Verdict | None) -> str:
    if verdict is None:
        return "no verdict"
    return f"{verdict.status}, {verdict.reason}{f': {verdict.detail}' if verdict.detail else ''}"


@contextmanager
def _scratch(repo: Repo, device: str | None, allow: Iterable[str]) -> Iterator[Session]:
    """A session on a copy of the lab's last commit, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="nightlab-redteam-") as place:
        session, _ = start_session(clone(repo, Path(place) / "lab"), "redteam", device, allow)
        try:
            yield session
        except NightlabError as error:
            if place not in error.hint:
                raise
            raise NightlabError(str(error), "the copy is gone; in the lab itself: nightlab check") from None
        finally:
            session.close()


def _chosen(attacks: list[Attack], names: Sequence[str]) -> list[Attack]:
    if unknown := set(names) - {attack.name for attack in attacks}:
        fitting = ", ".join(attack.name for attack in attacks)
        raise NightlabError(f"there is no attack {', '.join(sorted(unknown))} on this lab", f"there are {fitting}")
    return [attack for attack in attacks if not names or attack.name in names]
