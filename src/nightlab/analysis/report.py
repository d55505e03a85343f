"""The report of a session: gathered from its ledger, written as Markdown and as one HTML page."""

from __future__ import annotations

import io
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

from nightlab.analysis import charts
from nightlab.analysis.report_html import page
from nightlab.analysis.report_markdown import markdown
from nightlab.analysis.summary import ReportData, Row
from nightlab.analysis.timeline import off_duty, spans
from nightlab.core.types import REPORTED, Experiment, NightlabError
from nightlab.judge import Noise, pairs_needed, pooled, prior_sigma, smallest_effect
from nightlab.session.credit import by_proposer
from nightlab.session.replicates import replicates
from nightlab.session.session import Session

PAIRS = 4  # of the confirmation whose power the report speaks of


def gather(session: Session) -> ReportData:
    """Everything the report says. Raises NightlabError for a session that has measured nothing."""
    ledger, metric = session.ledger, session.metric
    experiments = [e for e in ledger.experiments() if e.verdict]
    if not experiments:
        raise NightlabError(f"session {session.tag} has nothing to report yet", "let it run: nightlab run")
    noise, champion = _noise(session), ledger.champion()
    rows = _rows(session, experiments)
    kept = [row for row in rows if row.experiment.kept]
    lost = [row for row in rows if _failed(row.experiment)]
    near = [
        row for row in rows if not row.experiment.kept and row not in lost and row.gain is not None
        and -noise.sigma <= row.gain <= 0
    ]  # fmt: skip
    trials = [measured for _, measured in ledger.trials() if measured]
    upkeep, stops = ledger.notes("upkeep"), ledger.notes("stopped")
    typical = sorted(row.gain for row in kept if row.gain and row.gain > 0)
    effects = [typical[len(typical) // 2]] if typical else []
    effects += [2 * noise.sigma, noise.sigma / 2]
    first = experiments[0]
    return ReportData(
        lab=session.lab.name,
        tag=session.tag,
        branch=session.branch,
        base=session.base,
        metric=metric,
        rule=session.lab.judge.rule,
        budget=str(session.budget.record()),
        platform=str(session.platform),
        sealing=_sealing(session),
        begun=first.proposed_at,
        ended=ledger.last_event_at(),
        reason=stops[-1]["reason"] if stops else "",
        trials=len(trials),
        trained=sum(measured.training_seconds for measured in trials),
        baseline=first if first.kept else None,
        champion=champion,
        confirmed=champion.look if champion else None,
        transferred=[e for e in champion.evidence if e.level == "transferred"] if champion else [],
        kept=kept,
        near=sorted(near, key=lambda row: -(row.gain or 0.0)),
        failed=lost,
        discarded=len(rows) - len(kept) - len(lost),
        refused=len(ledger.notes("refused")),
        sigma=noise.sigma,
        replicates=noise.replicates,
        self_tests=sum(note["would"] != "not asked" for note in upkeep),
        self_kept=sum(note["would"] == "keep" for note in upkeep),
        luck_removed=_luck(session, champion),
        needed=[(effect, 2 * pairs_needed(noise, effect)) for effect in effects if effect > 0 and noise.sigma > 0],
        smallest=smallest_effect(noise, PAIRS),
        proposers=by_proposer(ledger, metric),
        troubles=_troubles(session),
        imported=session.imported,
    )


def write(session: Session) -> tuple[Path, Path]:
    """Write ``report.md`` and ``report.html`` into the session's folder; returns where."""
    facts = gather(session)
    text = markdown(facts)
    drawing = io.StringIO()
    title = f"{facts.lab} · {facts.tag}"
    figure = draw(session, "progress")
    figure.savefig(drawing, format="svg")
    svg = drawing.getvalue()
    places = session.folder / "report.md", session.folder / "report.html"
    for place, content in zip(places, (text, page(text, title, svg[svg.index("<svg") :])), strict=True):
        draft = place.with_name(place.name + ".tmp")
        draft.write_text(content)
        os.replace(draft, place)
    return places


def draw(session: Session, kind: charts.Kind) -> Any:
    """One of the session's pictures, as a matplotlib figure."""
    ledger, metric = session.ledger, session.metric
    title = f"not measured by nightlab: {session.imported}" if session.imported else ""
    if kind == "progress":
        return charts.progress(metric, ledger.experiments(), title)
    if kind == "duty":
        ran = spans(ledger.notes("started"), ledger.notes("finished"))
        return charts.duty_chart(ran, off_duty(ledger.notes("opened"), ledger.notes("stopped")), title)
    rows = _rows(session, [e for e in ledger.experiments() if e.verdict])
    if kind == "worth":
        return charts.worth_chart(metric, rows, title)
    return charts.effects(metric, rows, _noise(session).sigma, title)


def _noise(session: Session) -> Noise:
    """How far luck alone moves one trial's number; of an imported session what is believed of any."""
    stated = session.lab.judge.sigma
    if session.imported:
        baseline = session.ledger.experiment(0).measurement if session.ledger.next_number() else None
        return pooled([], prior_sigma(baseline.metric if baseline else None, stated))
    return replicates(session.ledger, session.budget.record(), stated).noise()


def session_branch(session: Session) -> tuple[str, str]:
    """Prepare the branch that publishes the session: kept improvements as commits, then log and report.

    Returns its name and its head. Raises NightlabError when somebody else's branch has that name, or the session is
    somebody else's. Nothing is pushed.
    """
    if session.imported:
        raise NightlabError(f"session {session.tag} is imported: it is not ours to publish", "publish one of your own")
    repo, champion = session.repo, session.champion()
    hardware = session.platform.accelerator or session.platform.processor
    name = f"exp/{re.sub(r'[^A-Za-z0-9]+', '-', hardware).strip('-') or session.device}/{session.tag}"
    title, _, rest = markdown(gather(session)).partition("\n")
    files = {"results.tsv": session.results.read_text(), f"reports/{session.tag}.md": f"{title}\n{rest}"}
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
    upkeeps = session.ledger.notes("upkeep")
    for experiment in sorted(experiments, key=lambda e: e.judged_at or 0.0):
        while upkeeps and upkeeps[0]["at"] < (experiment.judged_at or 0.0):
            bar = upkeeps.pop(0)["bar"]
        measured = experiment.measurement.metric if experiment.measurement else None
        gain = session.metric.gain(bar, measured) if bar is not None and measured is not None else None
        if experiment.number:
            found = [e.gain for e in experiment.evidence if best and e.what == f"taken out of #{best.number}"]
            worth = found[-1] if found else None
            rows.append(Row(experiment, gain, worth))
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


def _sealing(session: Session) -> str:
    opened = session.ledger.notes("opened")
    missing = sorted({name for note in opened for name in note["allowed"]})
    if missing:
        return f"trials ran WITHOUT protection of {', '.join(missing)}, as allowed by name"
    metric = "computed by a process of its own" if session.lab.evaluator else "printed by the candidate's own command"
    return f"every trial ran sealed; the metric was {metric}"


def _troubles(session: Session) -> list[str]:
    words = [note["words"] for note in session.ledger.notes("alarm")]
    outcomes = Counter(m.outcome for _, m in session.ledger.trials() if m and m.outcome in ("lost", "interrupted"))
    words += [f"{count} trials were {outcome}, and ran again" for outcome, count in outcomes.items()]
    disturbed = Counter(m.disturbed for _, m in session.ledger.trials() if m and m.disturbed)
    if disturbed:
        why, _ = disturbed.most_common(1)[0]
        words.append(f"{disturbed.total()} trials met a disturbed machine and ran again (most often: {why})")
    accepted = sum("disturbed" in m.machine for _, m in session.ledger.trials() if m)
    if accepted:
        words.append(
            f"{accepted} trials ran on a machine that stayed disturbed: their numbers are noisier than they look"
        )
    return list(dict.fromkeys(words))
