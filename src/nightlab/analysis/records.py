"""Records that a referee replays: a genome measured beside the record before it, and the same measured elsewhere.

Both sides run in turn on the same machine and on seeds that no decision has used; a one-sided p-value says how likely
such a gain is where there is none. A referee measures the same pair in a lab of the referee's own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nightlab.analysis.confirm import Confirmer
from nightlab.commons.finding import libraries_of, platform_of, task_of
from nightlab.commons.instants import format_instant
from nightlab.commons.record import Run, author_of, genome_id
from nightlab.commons.submission import (
    FILE,
    FormName,
    Gain,
    Genome,
    Replay,
    SignedStatement,
    Statement,
    Submission,
    Threshold,
    read_statement,
    sign_statement,
    write_statement,
)
from nightlab.core.events import ConfirmationStarted
from nightlab.core.types import Measurement, NightlabError, Trial, average
from nightlab.judge import paired_gain
from nightlab.judge.p_value import p_of_gain
from nightlab.loop.loop import ExperimentLoop
from nightlab.session.replicates import RECORD_SEED, REFEREE_SEED
from nightlab.session.session import Session
from nightlab.storage.git import OutOfScope
from nightlab.storage.git.scope import stays_inside

Pairs = tuple[list[Measurement], list[Measurement]]


@dataclass(frozen=True, slots=True)
class Form:
    """What a forum asks for: the largest p-value, the ``margin`` that a gain has to exceed, and where that is said.

    ``limit``: a metric whose mean has to be at most this, at the same p-value.
    """

    p: float
    margin: float
    note: str
    source: str
    limit: tuple[str, float] | None = None


FORMS: dict[FormName, Form] = {
    "plain": Form(0.05, 0.0, "", ""),
    "modded-nanogpt": Form(
        0.01,
        0.0,
        "Its target is a mean validation loss of at most 3.28, shown at p < 0.01, in less time than the record before.",
        "https://github.com/KellerJordan/modded-nanogpt#submission-rules",
        ("val_loss", 3.28),
    ),
    "parameter-golf": Form(
        0.01,
        0.005,
        "A record has to be better by 0.005 nats at least, shown at p < 0.01; the folder goes below records/.",
        "https://github.com/openai/parameter-golf#submission-process",
    ),
    "nanochat": Form(
        0.05,
        0.0,
        "Its leaderboard asks for the time to a CORE score above 0.256525, and the validation bpb beside it.",
        "https://github.com/karpathy/nanochat/blob/master/dev/LEADERBOARD.md",
    ),
}


def submit_record(
    loop: ExperimentLoop, number: int, against: int, seeds: int, form: FormName, key: Any, folder: Path, name: str
) -> SignedStatement:
    """Measure an experiment beside the record before it, experiment ``against``, and write the folder to submit.

    ``seeds``: pairs of runs. Raises NightlabError where a run fails, or the folder exists.
    """
    if folder.exists():
        raise NightlabError(f"{folder} exists already", "name another: --out FOLDER")
    if number == against:
        raise NightlabError(f"experiment {number} can't be a record over itself", "name the record: --record N")
    session, ledger = loop.session, loop.ledger
    asked = tuple(range(RECORD_SEED, RECORD_SEED + seeds))
    looks = {one.seeds for one in ledger.events(ConfirmationStarted) if one.number == number}
    earlier = sum(bool(one) and one[0] == RECORD_SEED and one != asked for one in looks)
    if asked not in looks:
        ledger.append(ConfirmationStarted(number, asked))  # before measuring, so that an aborted look counts as one
    pairs = Confirmer(loop.scheduler).pairs("confirm", asked, (against, None), (number, None))
    before, after = ledger.experiment(against).candidate, ledger.experiment(number).candidate
    rule = FORMS[form]
    found = Submission(
        author=author_of(key),
        at=format_instant(),
        form=form,
        task=task_of(session),
        platform=platform_of(session),
        libraries=libraries_of(session, after.commit),
        record=_genome(session, before.commit, name),
        candidate=_genome(session, after.commit, after.hypothesis),
        against=_runs(asked, pairs[0]),
        runs=_runs(asked, pairs[1]),
        gain=_gain(session, pairs, rule.margin, earlier + 1),
        claim=session.metric_claim[:4000],
        threshold=_threshold(session, pairs[1], rule, earlier + 1),
    )
    signed = sign_statement(found, key)
    _write_folder(session, folder, signed, found, rule, pairs[1])
    return signed


def replay_record(loop: ExperimentLoop, folder: Path, seeds: int, key: Any) -> tuple[SignedStatement, Path]:
    """Replay the submission in ``folder`` in a session of the referee's own lab, and sign what it measured.

    Returns the signed replay and its file. Raises NightlabError where the submission was changed, is about another task
    than this lab, holds files that are no genome here, or can't be measured.
    """
    signed = read_statement(folder / FILE)
    found = signed.statement
    if not isinstance(found, Submission):
        raise NightlabError(f"{folder / FILE} is no submission", "give the folder that nightlab submit wrote")
    session = loop.session
    _require_same_task(session, found)
    record = _commit(session, session.base, found.record, "record")
    candidate = _commit(session, record, found.candidate, "candidate")
    with loop.scheduler.on_duty():
        loop.resume()
    asked = tuple(range(REFEREE_SEED, REFEREE_SEED + seeds))
    pairs = Confirmer(loop.scheduler).pairs("confirm", asked, (0, record), (0, candidate))
    replay = Replay(
        author=author_of(key),
        at=format_instant(),
        target=signed.id,
        task=found.task.id,
        platform=platform_of(session),
        libraries=libraries_of(session, candidate),
        against=_runs(asked, pairs[0]),
        runs=_runs(asked, pairs[1]),
        gain=_gain(session, pairs, found.gain.margin, 1),
        claim=session.metric_claim[:4000],
        threshold=_threshold(session, pairs[1], FORMS[found.form], 1),
    )
    result = sign_statement(replay, key)
    path = folder / f"referee-{replay.author[:12]}.json"
    write_statement(path, result)
    return result, path


def holds(found: Statement, form: FormName) -> bool:
    """Whether what was measured is what a form asks for."""
    return max(found.gain.p, found.threshold.p if found.threshold else 0.0) < FORMS[form].p


def gain_words(found: Statement, unit: str) -> str:
    """A gain in one line, and the metric that has to stay below a limit."""
    gain, limit = found.gain, found.threshold
    over = f" over a margin of {gain.margin:g}" if gain.margin else ""
    below = f"; mean {limit.name} {limit.mean:.6g}, at most {limit.limit:g}: p = {limit.p:.2g}" if limit else ""
    return f"{gain.mean:.6g} {unit}".rstrip() + f" ({gain.low:.6g} to {gain.high:.6g}), p = {gain.p:.2g}{over}{below}"


# -- internal ----------------------------------------------------------------------------------------


def _genome(session: Session, commit: str, name: str) -> Genome:
    files = session.genome(commit)
    return Genome(name=name[:4000], id=genome_id(files), files=files)


def _runs(seeds: Sequence[int], side: Sequence[Measurement]) -> list[Run]:
    return [Run(seed=seed, value=one.metric) for seed, one in zip(seeds, side, strict=True) if one.metric is not None]


def _gain(session: Session, pairs: Pairs, margin: float, looks: int) -> Gain:
    before, after = ([one.metric for one in side if one.metric is not None] for side in pairs)
    found = paired_gain(session.metric, before, after)
    gains = [session.metric.gain(one, other) for one, other in zip(before, after, strict=True)]
    return Gain(mean=found.mean, low=found.low, high=found.high, p=p_of_gain(gains, margin, looks), margin=margin)


def _threshold(session: Session, side: Sequence[Measurement], rule: Form, looks: int) -> Threshold | None:
    """A form's limit on the candidate's runs. Raises NightlabError where the lab does not measure that metric."""
    if rule.limit is None:
        return None
    name, limit = rule.limit
    values = [one.metric if session.metric.name == name else one.secondary.get(name) for one in side]
    if missing := values.count(None):
        raise NightlabError(
            f"the form asks for a mean {name} of at most {limit:g}, and {missing} of {len(values)} runs measured none",
            f"let the evaluator, or without one the program, print it beside the metric: METRIC {name}=…",
        )
    known = [value for value in values if value is not None]
    return Threshold(
        name=name, limit=limit, mean=average(known), p=p_of_gain([limit - one for one in known], 0.0, looks)
    )


def _require_same_task(session: Session, found: Submission) -> None:
    here = task_of(session)
    if here.id == found.task.id:
        return
    own, theirs = here.model_dump(), found.task.model_dump()
    differ = [name for name in own if name != "id" and own[name] != theirs.get(name)]
    raise NightlabError(
        f"the submission is about another task than this lab: {', '.join(differ)} differ",
        "run it in the lab with the same frozen files, data, metric and budget: -C FOLDER",
    )


def _commit(session: Session, on: str, genome: Genome, name: str) -> str:
    """A submitted genome as a commit on the lab's own frozen files. Raises NightlabError for other files."""
    repo, ref = session.repo, f"submission-{name}"
    if odd := [path for path in genome.files if not stays_inside(path)]:
        raise NightlabError(f"the submission's {name} holds {odd[0]!r}, which is no file of a lab", "don't run it")
    had = repo.resolve(f"refs/nightlab/{session.tag}/{ref}")  # of a replay that was interrupted, as its trials are
    for commit in (on, *([had] if had else [])):
        if session.genome(commit) == genome.files:
            return commit
    try:
        commit = repo.commit_files(on, genome.files, f"a submission's {name}")
        repo.check_scope(on, commit, session.lab.genome)
    except OutOfScope as why:
        raise NightlabError(f"the submission's {name} can't be replayed here: {why}", "ask its author") from None
    repo.keep_reachable(session.tag, ref, commit)
    return commit


def _write_folder(
    session: Session, folder: Path, signed: SignedStatement, found: Submission, rule: Form, side: Sequence[Measurement]
) -> None:
    folder.mkdir(parents=True)
    write_statement(folder / FILE, signed)
    for path, text in found.candidate.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    logs = folder / "logs"
    logs.mkdir(exist_ok=True)
    seeds = {run.seed for run in found.runs}
    for trial, measured in session.ledger.trials(purpose="confirm"):
        if measured and measured.measured and trial.seed in seeds:
            (logs / f"{_side(session, trial, found)}-{trial.seed}.log").write_text(
                session.local_engine.log(trial.id), encoding="utf-8"
            )
    metric, rest = session.metric, ""
    if found.form == "parameter-golf":
        facts = _golf_facts(metric.name, found, side)
        missing = ", ".join(name for name, value in facts.items() if value is None)
        rest = f"`submission.json` leaves to you: {missing}.\n\n" if missing else ""
        (folder / "submission.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    rows = "\n".join(
        f"| {one.seed} | {one.value:.6f} | {other.value:.6f} |"
        for one, other in zip(found.against, found.runs, strict=True)
    )
    asks = f"{rule.note} ({rule.source})\n\n" if rule.note else ""
    claim = f"The metric is only the candidate's claim: {found.claim}\n\n" if found.claim else ""
    text = (
        f"# {found.candidate.name}\n\n{asks}{rest}"
        f"Gain in {metric.name} over {found.record.name}, on the same machine: {gain_words(found, metric.unit)}, "
        f"Student's t over {len(found.runs)} pairs of fresh seeds.\n\n{claim}"
        f"| seed | {found.record.name} | this |\n|---|---|---|\n{rows}\n\n"
        f"Machine: {session.platform}. Libraries: "
        f"{', '.join(f'{name} {version}' for name, version in found.libraries.items()) or 'none'}.\n\n"
        f"`{FILE}` holds all of it, signed; replay it in the same lab: `nightlab referee {folder.name}`.\n"
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def _golf_facts(metric: str, found: Submission, side: Sequence[Measurement]) -> dict[str, Any]:
    """parameter-golf's own description of a record; None where the lab does not know it."""
    code = sum(len(text.encode()) for text in found.candidate.files.values())
    facts: dict[str, Any] = {
        "author": found.author,
        "github_id": None,
        "name": found.candidate.name,
        "blurb": found.candidate.name,
    }
    facts |= {"date": found.at, metric: average([run.value for run in found.runs])}
    for name in ("val_loss", "val_bpb", "bytes_total"):
        values = [value for one in side if (value := one.secondary.get(name)) is not None]
        facts.setdefault(name, average(values) if len(values) == len(side) else None)
    return {**facts, "bytes_code": code}


def _side(session: Session, trial: Trial, found: Submission) -> str:
    return "this" if genome_id(session.genome(trial.commit)) == found.candidate.id else "record"
