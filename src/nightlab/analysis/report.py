"""The report of a session: gathered from its ledger, written as Markdown and as one HTML page."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from nightlab.analysis import charts
from nightlab.analysis.elsewhere import gains_elsewhere
from nightlab.analysis.front import front
from nightlab.analysis.report_html import page
from nightlab.analysis.report_markdown import markdown
from nightlab.analysis.summary import ReportData, Row
from nightlab.analysis.timeline import off_duty, run_time, spans
from nightlab.core.events import ContractOverridden, Rechecked, RunStarted, RunStopped, TrialFinished, TrialStarted
from nightlab.core.files import replace_text
from nightlab.core.session_state import SessionState
from nightlab.core.text import counted
from nightlab.core.types import REPORTED, TOLD, Experiment, Measurement, NightlabError
from nightlab.judge import Noise, in_sigmas, pairs_needed, pooled, prior_sigma, smallest_effect
from nightlab.session.credit import by_proposer
from nightlab.session.preflight import REMEMBERS
from nightlab.session.replicates import replicates
from nightlab.session.session import Session
from nightlab.storage.ledger import is_running_now
from nightlab.storage.ledger.state import read_state

PAIRS = 4  # of the confirmation whose power the report speaks of


def gather(session: Session) -> ReportData:
    """Everything the report says. Raises NightlabError for a session that has measured nothing."""
    ledger = session.ledger
    experiments = [e for e in ledger.experiments() if e.verdict]
    if not experiments:
        raise NightlabError(f"session {session.tag} has nothing to report yet", "let it run: nightlab run")
    state, first, champion = read_state(ledger), experiments[0], ledger.champion()
    noise, relative = _noise(session)
    trials = [measured for _, measured in ledger.trials() if measured]
    now = state.at if is_running_now(session.folder) else None
    runs, stops = ledger.events(RunStarted), ledger.events(RunStopped)
    ran, room = run_time(runs, stops, spans(ledger.events(TrialStarted), ledger.events(TrialFinished)), now)
    outcomes = _outcomes(_rows(session, experiments))
    return ReportData(
        lab=session.lab.name,
        tag=session.tag,
        branch=session.branch,
        base=session.base,
        metric=session.metric,
        rule=_rule(session),
        budget=str(session.budget.record()),
        platform=str(session.platform),
        sealing=_sealing(session, state) + _remembers(session),
        begun=first.proposed_at,
        ended=state.at,
        ran=ran,
        room=room,
        reason=state.last_stop.reason if state.last_stop else "",
        trials=len(trials),
        trained=sum(measured.training_seconds for measured in trials),
        baseline=first if first.kept else None,
        champion=champion,
        confirmed=champion.look if champion else None,
        elsewhere=gains_elsewhere(session, champion) if champion and champion.look else [],
        transferred=[e for e in champion.evidence if e.level == "transferred"] if champion else [],
        kept=outcomes.kept,
        near=outcomes.near,
        failed=outcomes.failed,
        discarded=outcomes.discarded,
        refused=state.refused,
        sigma=noise.sigma,
        relative=relative,
        replicates=noise.replicates,
        rho=noise.rho,
        self_tests=state.self_tests.asked,
        self_kept=state.self_tests.kept,
        luck_removed=_luck(session, champion),
        needed=_needed(outcomes.kept, noise),
        smallest=smallest_effect(noise, PAIRS),
        proposers=by_proposer(ledger, session.metric),
        troubles=list(dict.fromkeys([*(alarm.words for alarm in state.alarms), *_trial_troubles(trials)])),
        front=front(experiments, session.metric, session.lab.objectives) if session.lab.objectives else None,
        imported=session.imported,
    )


class _Outcomes(NamedTuple):
    """A session's experiments by what came of them; ``near`` ones were discarded within one sigma of the bar."""

    kept: list[Row]
    near: list[Row]
    failed: list[Row]
    discarded: int


def _outcomes(rows: list[Row]) -> _Outcomes:
    kept = [row for row in rows if row.experiment.kept]
    failed = [row for row in rows if _failed(row.experiment)]
    rest = [row for row in rows if not row.experiment.kept and not _failed(row.experiment)]
    near = [row for row in rest if row.sigmas is not None and -1 <= row.sigmas <= 0]
    return _Outcomes(kept, sorted(near, key=lambda row: -(row.gain or 0.0)), failed, len(rest))


def _needed(kept: list[Row], noise: Noise) -> list[tuple[float, int]]:
    """Effects, each with how many trials it takes to show it: this session's typical gain, and parts of the noise."""
    typical = sorted(row.gain for row in kept if row.gain and row.gain > 0)
    effects = [*typical[len(typical) // 2 :][:1], 2 * noise.sigma, noise.sigma / 2]
    return [(effect, 2 * pairs_needed(noise, effect)) for effect in effects if effect > 0 and noise.sigma > 0]


def write_report(session: Session) -> tuple[Path, Path]:
    """Write ``report.md``, ``report.html`` and ``progress.png`` into the session's folder; returns the first two."""
    facts = gather(session)
    text = markdown(facts)
    title = f"{facts.lab} · {facts.tag}"
    figure = draw(session, "progress")
    drawing = charts.svg(figure)
    figure.set_layout_engine("none")  # where everything stands is known by now, and takes half of the time
    charts.save(figure, session.folder / "progress.png")
    places = session.folder / "report.md", session.folder / "report.html"
    for place, content in zip(places, (text, page(text, title, drawing)), strict=True):
        replace_text(place, content)
    return places


def draw(session: Session, kind: charts.Kind) -> Any:
    """One of the session's pictures, as a matplotlib figure."""
    ledger, metric = session.ledger, session.metric
    title = f"not measured by nightlab: {session.imported}" if session.imported else ""
    if kind == "progress":
        return charts.progress(metric, ledger.experiments(), title)
    if kind == "duty":
        ran = spans(ledger.events(TrialStarted), ledger.events(TrialFinished))
        return charts.duty_chart(ran, off_duty(ledger.events(RunStarted), ledger.events(RunStopped)), title)
    rows = _rows(session, [e for e in ledger.experiments() if e.verdict])
    if kind == "worth":
        return charts.worth_chart(metric, rows, title)
    noise, relative = _noise(session)
    return charts.effects(metric, rows, noise.sigma, title, relative)


def _noise(session: Session) -> tuple[Noise, float]:
    """The seed-to-seed noise of one trial at the champion's level, and as a share of a value where ratios are compared.

    Of an imported session, the prior for any.
    """
    stated = session.lab.judge.sigma
    if session.imported:
        baseline = session.ledger.experiment(0).measurement if session.ledger.next_number() else None
        return pooled([], prior_sigma(baseline.metric if baseline else None, stated)), 0.0
    champion = session.ledger.champion()
    found = replicates(session.ledger, session.budget.record(), session.lab).noise()
    return found.local(champion.value if champion else None), found.relative


def session_branch(session: Session) -> tuple[str, str]:
    """Prepare the branch that publishes the session: kept improvements as commits, then log and report.

    Returns its name and its head. Raises NightlabError when another branch has that name, or the session is
    imported. Nothing is pushed.
    """
    if session.imported:
        raise NightlabError(f"session {session.tag} is imported: it can't be published", "publish one that ran here")
    repo, champion = session.repo, session.champion()
    hardware = session.platform.accelerator or session.platform.processor
    name = f"exp/{re.sub(r'[^A-Za-z0-9]+', '-', hardware).strip('-') or session.device}/{session.tag}"
    title, _, rest = markdown(gather(session)).partition("\n")
    files = {
        "results.tsv": session.results.read_text(encoding="utf-8"),
        f"reports/{session.tag}.md": f"{title}\n{rest}",
    }
    head = repo.branch_head(name)
    made = repo.commit_files(champion.candidate.commit, files, f"Session {session.tag}: log and report")
    if head is not None and head != repo.resolve(f"refs/nightlab/{session.tag}/published"):
        raise NightlabError(
            f"the branch {name} exists and is not this session's",
            f"give it another name, then do this again: git branch -m {name} old/{session.tag}",
        )
    if not repo.move_branch(name, made):
        raise NightlabError(f"{name} is checked out somewhere", "switch away from it, then do this again")
    repo.keep_reachable(session.tag, "published", made)  # by which the branch is known again
    return name, made


def _rows(session: Session, experiments: list[Experiment]) -> list[Row]:
    """Each judged experiment but the baseline, with its gain over the bar that stood when it was judged."""
    rows: list[Row] = []
    best = session.ledger.champion()
    bar: float | None = None
    noise, relative = _noise(session)
    rechecks = deque(session.ledger.events(Rechecked))
    for experiment in sorted(experiments, key=lambda e: e.judged_at or 0.0):
        while rechecks and rechecks[0].at < (experiment.judged_at or 0.0):
            bar = rechecks.popleft().bar
        measured = experiment.measurement.metric if experiment.measurement else None
        gain = session.metric.gain(bar, measured) if bar is not None and measured is not None else None
        if experiment.number:
            found = [e.gain for e in experiment.evidence if best and e.what == f"taken out of #{best.number}"]
            worth = found[-1] if found else None
            far = None if gain is None else in_sigmas(session.metric, measured, gain, noise.sigma, relative)
            rows.append(Row(experiment, gain, worth, far))
        if experiment.kept and experiment.verdict:
            bar = experiment.verdict.bar if experiment.verdict.bar is not None else measured
    return rows


def _failed(experiment: Experiment) -> bool:
    verdict = experiment.verdict
    judged = ("regressed", "inconclusive", "stopped early", "not promoted", REPORTED)
    return verdict is not None and (verdict.status == "crash" or not (experiment.kept or verdict.reason in judged))


def _luck(session: Session, champion: Experiment | None) -> float:
    """How much worse the champion is believed to be than the number with which it was kept."""
    if champion is None or champion.bar is None or champion.measurement is None or champion.measurement.metric is None:
        return 0.0
    return session.metric.gain(champion.bar, champion.measurement.metric)


def _rule(session: Session) -> str:
    """The keep rules that judged, in words: the contract's, and those that programs brought along."""
    brought = [event.judge for event in session.ledger.events(ContractOverridden) if event.judge]
    names = [session.lab.judge.rule, *(judge.get("rule") or judge.get("class", "") for judge in brought)]
    return " or ".join(dict.fromkeys(names))


def _sealing(session: Session, state: SessionState) -> str:
    if state.missing:
        return f"trials ran WITHOUT protection of {', '.join(state.missing)}, as allowed by name"
    claim = session.metric_claim
    metric = f"only the candidate's claim: {claim}" if claim else "computed by a separate process"
    return f"every trial ran sealed; the metric was {metric}"


def _remembers(session: Session) -> str:
    """Whether a served evaluator was answered by the process that trained, in words."""
    evaluator = session.lab.evaluator
    return f", but {REMEMBERS}" if evaluator and evaluator.served and not evaluator.processes else ""


def _trial_troubles(trials: list[Measurement]) -> Iterator[str]:
    """What went wrong with trials, in words."""
    outcomes = Counter(measured.outcome for measured in trials)
    for outcome in ("lost", "interrupted"):
        if count := outcomes[outcome]:
            yield f"{counted(count, 'trial')} {'was' if count == 1 else 'were'} {outcome}, and ran again"
    disturbed = Counter(measured.disturbed for measured in trials if measured.disturbed)
    if disturbed:
        why, _ = disturbed.most_common(1)[0]
        yield f"{counted(disturbed.total(), 'trial')} met a disturbed machine and ran again (most often: {why})"
    if accepted := sum("disturbed" in measured.machine for measured in trials):
        yield f"{counted(accepted, 'trial')} ran on a machine that stayed disturbed: such numbers are noisier"
    if told := sum(measured.detail.startswith(TOLD) for measured in trials):
        yield f"{counted(told, 'trial')}: the number was {TOLD}"
