"""One experiment in detail, and two compared, as JSON."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

from nightlab.core.serialize import bounded
from nightlab.core.text import plain
from nightlab.core.types import Experiment, Measurement, NightlabError, Trial
from nightlab.engines.local.curve import load_curve
from nightlab.session.session import Session, open_session
from nightlab.storage.ledger import state_folder
from nightlab.ui.web.diffs import shown

TAIL = 6000  # characters of the end of a log
TRIALS = 50  # latest trials of an experiment
STUDIES = 5  # latest ones
RUNS = 3  # latest runs whose curves are drawn


def experiment(lab: Path, tag: str, number: int) -> dict[str, Any]:
    """Everything about experiment ``number``: its changes, its measurements, and the end of its output."""
    with closing(open_session(lab, tag)) as session:
        one = session.ledger.experiment(number)
        parent = session.ledger.by_commit(one.candidate.parent) if number else None
        trials = session.ledger.trials(number)
        return {
            **_facts(session, one, trials),
            "parent": parent.number if parent else None,
            "parent_curves": _curves(session, session.ledger.trials(parent.number)) if parent else [],
            "log": _log(session, trials),
            **_diff(session, one.candidate.parent, one.candidate.commit),
        }


def comparison(lab: Path, tag: str, one: int, other: int) -> dict[str, Any]:
    """Two experiments, with the changes that lead from one to the other."""
    with closing(open_session(lab, tag)) as session:
        found = [session.ledger.experiment(number) for number in (one, other)]
        told = [_facts(session, each, session.ledger.trials(each.number)) for each in found]
        return {"sides": told, **_diff(session, *(each.candidate.commit for each in found))}


def studies(lab: Path) -> list[dict[str, Any]]:
    """The lab's studies, the latest first: arms with sessions, gains, rates and curves, pairs of arms, and the page."""
    files = sorted(state_folder(lab).glob("study.*.json"), key=lambda file: -file.stat().st_mtime)[:STUDIES]
    told = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    arms = ("name", "sessions", "gain", "per_hour", "per_dollar", "alone")
    pairs = ("better", "other", "mean", "low", "high", "words")
    return [
        {
            **{name: one[name] for name in ("name", "rounds", "best")},
            "page": f"{state_folder(lab).name}/study.{one['name']}.html",
            "curves": one.get("curves", {}),
            "arms": bounded([{name: arm[name] for name in arms} for arm in one["arms"]]),
            "pairs": [{name: pair[name] for name in pairs} for pair in one["pairs"]],
        }
        for one in told
    ]


def _facts(session: Session, one: Experiment, trials: list[tuple[Trial, Measurement | None]]) -> dict[str, Any]:
    runs = [
        {"id": trial.id, "purpose": trial.purpose, "seed": trial.seed, **_measured(measured)}
        for trial, measured in trials[-TRIALS:]
    ]
    facts = one.to_dict()
    facts["usage"] = one.candidate.usage
    facts["lines"] = one.candidate.lines
    facts["level"] = one.level
    facts["proposed_at"], facts["judged_at"] = one.proposed_at, one.judged_at
    told: dict[str, Any] = bounded(facts, 2000)
    return {**told, "trials": bounded(runs), "curves": _curves(session, trials)}


def _measured(measured: Measurement | None) -> dict[str, Any]:
    if measured is None:
        return {"outcome": "under way"}
    names = (
        "outcome", "metric", "training_seconds", "startup_seconds", "evaluation_seconds", "peak_memory_mb",
        "peak_gpu_memory_mb", "detail", "disturbed",
    )  # fmt: skip
    return {name: getattr(measured, name) for name in names}


def _curves(session: Session, trials: list[tuple[Trial, Measurement | None]]) -> list[dict[str, Any]]:
    """The curves of the latest trials, one per seed, as claimed by their candidates."""
    curves = {trial.seed: load_curve(session.local_engine.folder / trial.id) for trial, _ in trials[-TRIALS:]}
    return [{"seed": seed, "points": curve} for seed, curve in curves.items() if curve][-RUNS:]


def _log(session: Session, trials: list[tuple[Trial, Measurement | None]]) -> str:
    printed = session.local_engine.log(trials[-1][0].id) if trials else ""
    tail = printed[-TAIL:]
    return tail if tail == printed else tail.partition("\n")[2]


def _diff(session: Session, old: str, new: str) -> dict[str, Any]:
    """The diff, or why there is none: an imported session may have no commits."""
    try:
        return {"diff": shown(session.repo.diff(old, new)) if old != new else [], "no_diff": ""}
    except NightlabError as error:
        return {"diff": [], "no_diff": plain(str(error), 400)}
