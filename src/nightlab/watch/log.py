"""The log, one experiment and the closing summary, as text for people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nightlab.records import Experiment, Measurement, Metric, PairedGain, Trial
from nightlab.watch.view import STYLES


def print_log(console: Console, metric: Metric, experiments: Sequence[Experiment]) -> None:
    """The experiments as a table, oldest first; in a pipe with lines as long as they need to be."""
    if not console.is_terminal:
        console = Console(width=10_000)
    table = Table(box=None, header_style="bold", padding=(0, 1), pad_edge=False)
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column(metric.name, justify="right", no_wrap=True)
    table.add_column("commit", no_wrap=True)
    table.add_column("proposer", no_wrap=True)
    table.add_column("what", no_wrap=True, overflow="ellipsis")
    for experiment in experiments:
        verdict, measured = experiment.verdict, experiment.measurement
        status = verdict.status if verdict else "running"
        value = f"{measured.metric:.6f}" if measured and measured.metric is not None else "-"
        reason = f" ({verdict.reason})" if verdict and verdict.reason not in ("improved", "baseline") else ""
        table.add_row(
            str(experiment.number),
            f"{status}{reason}",
            value,
            experiment.candidate.commit[:7],
            experiment.candidate.proposer,
            escape(experiment.candidate.hypothesis),
            style=STYLES.get(status, "cyan"),
        )
    console.print(table)


def print_experiment(
    console: Console,
    metric: Metric,
    experiment: Experiment,
    trials: Sequence[tuple[Trial, Measurement | None]],
    log: str,
) -> None:
    """Everything known of one experiment, its trials and the end of its log."""
    candidate, verdict = experiment.candidate, experiment.verdict
    say = console.print
    say(f"[bold]experiment {experiment.number}[/]: {escape(candidate.hypothesis)}", highlight=False)
    rows = [
        ("verdict", f"{verdict.status}: {verdict.reason}. {verdict.detail}" if verdict else "not judged yet"),
        (
            "proposed",
            f"{datetime.fromtimestamp(experiment.proposed_at):%Y-%m-%d %H:%M:%S} by {candidate.proposer}",
        ),
        ("changes", "; ".join(candidate.changes) or "no named constant: see nightlab diff"),
        ("commit", f"{candidate.commit} on {candidate.parent[:12]}"),
        ("program", f"{candidate.lines} lines of genome"),
    ]
    for trial, measured in trials:
        rows.append((f"trial {trial.id}", _trial_words(metric, measured)))
    table = Table.grid(padding=(0, 2))
    for name, words in rows:
        table.add_row(f"[dim]{escape(name)}[/]", escape(words))
    say(table)
    if log:
        say("[dim]-- the end of what it printed (untrusted) --[/]")
        say("\n".join(log.splitlines()[-25:]), markup=False, highlight=False)


def _trial_words(metric: Metric, measured: Measurement | None) -> str:
    if measured is None:
        return "running"
    value = f"{metric.name} {measured.metric:.6f}" if measured.metric is not None else measured.outcome
    words = (
        f"{value} · trained {measured.training_seconds:.1f} s · started in {measured.startup_seconds:.1f} s · "
        f"evaluated in {measured.evaluation_seconds:.1f} s · {measured.peak_memory_mb:,.0f} MB"
    )
    return f"{words} · {measured.detail}" if measured.detail else words


def closing_words(
    metric: Metric, experiments: Sequence[Experiment], reason: str, seconds: float, trained: float
) -> str:
    """What was tried and what the search gained, at the end of a run of ``seconds``, ``trained`` of them training."""
    judged = [e for e in experiments if e.verdict and e.number > 0]
    kept = [e for e in judged if e.kept]
    crashed = sum(1 for e in judged if e.verdict and e.verdict.status == "crash")
    lines = ["", f"[bold]{escape(reason)}[/]"]
    lines.append(
        f"{_count(len(judged), 'experiment')}: {len(kept)} kept, {len(judged) - len(kept) - crashed} discarded, {crashed} crashed"
        f" · {_time(seconds)}, {trained / max(seconds, 1e-9):.0%} of it training"
    )
    baseline = experiments[0].measurement if experiments else None
    best = kept[-1].measurement if kept else None
    if baseline and best and baseline.metric is not None and best.metric is not None:
        gain = metric.gain(baseline.metric, best.metric)
        lines.append(
            f"{metric.name} {baseline.metric:.6f} → {best.metric:.6f}, {gain:.6f} better as the search measured it: "
            "not a result yet, the winner's luck is in it (nightlab confirm)"
        )
    return "\n".join(lines)


def confirmed_words(
    metric: Metric,
    seeds: Sequence[int],
    baseline: Sequence[float],
    champion: Sequence[float],
    gain: PairedGain,
) -> str:
    """Baseline beside champion on fresh seeds, and what may be claimed."""
    lines = [f"[dim]{'seed':>8} {'baseline':>12} {'champion':>12} {'gain':>12}[/]"]
    for seed, before, after in zip(seeds, baseline, champion, strict=True):
        lines.append(f"{seed:>8} {before:>12.6f} {after:>12.6f} {metric.gain(before, after):>+12.6f}")
    claim = (
        f"{metric.name} is {gain.mean:.4f} better, {gain.level:.0%} interval {gain.low:.4f} to {gain.high:.4f}, "
        f"on {gain.pairs} fresh seeds, paired"
    )
    if gain.low > 0:
        lines.append(f"[bold green]confirmed:[/] {claim}")
    else:
        lines.append(f"[bold yellow]not confirmed:[/] {claim}: the interval does not exclude zero")
    return "\n".join(lines)


def places_words(places: Sequence[tuple[str, str]]) -> str:
    """Where things are, one a line."""
    width = max(len(name) for name, _ in places)
    return "\n".join(f"[dim]{name:<{width}}[/]  {escape(where)}" for name, where in places)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
