"""The log, one experiment and the closing summary, as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nightlab.analysis.front import Front
from nightlab.analysis.report_markdown import PART, SEQUENTIAL, gain_words, part_words, start_words, unshown_words
from nightlab.core.text import counted, one_line
from nightlab.core.types import FIRST_DAY, Evidence, Experiment, Measurement, Metric, PairedGain, ProposerStats, Trial
from nightlab.ui.terminal.lines import value_words

SHOWN = 12  # secondary metrics of a trial


def log_lines(metric: Metric, experiments: Sequence[Experiment], width: int | None) -> Iterator[tuple[str, str]]:
    """The log, oldest first: each line with its status, cut to ``width`` characters if given.

    Plain strings: a rich table of ten thousand rows would take seconds.
    """
    name = metric.name
    column = max(len(name), 12, *(len(value_words(e.measurement)) for e in experiments))
    yield "heading", f"{'#':>5}  {'verdict':<24}{name:>{column}}  {'commit':<9}{'proposer':<10}what"
    for experiment in experiments:
        verdict, measured, candidate = experiment.verdict, experiment.measurement, experiment.candidate
        status = verdict.status if verdict else "running"
        said = experiment.level if experiment.level not in ("", "measured") else verdict.reason if verdict else ""
        reason = f" ({said})" if said and said not in ("improved", "baseline") else ""
        value = value_words(measured)
        line = (
            f"{experiment.number:>5}  {status + reason:<24}{value:>{column}}  "
            f"{candidate.commit[:7]:<9}{candidate.proposer:<9} {' '.join(candidate.hypothesis.split())}"
        )
        yield status, line if width is None or len(line) <= width else line[: width - 1] + "…"


def proposers_table(parts: Sequence[ProposerStats]) -> Table:
    """Experiments, gains and costs per proposer, in the columns of the report."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for n, name in enumerate(PART):
        table.add_column(name, justify="right" if n else "left", no_wrap=True)
    for part in parts:
        table.add_row(*map(escape, part_words(part)))
    return table


def front_table(front: Front) -> Table:
    """The experiments on the front, with what each is best at."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("#", *front.names):
        table.add_column(escape(name), justify="right", no_wrap=True)
    table.add_column("what")
    for experiment, values in front.members:
        what = one_line(experiment.candidate.hypothesis, 200)
        table.add_row(str(experiment.number), *(f"{value:.6g}" for value in values), escape(what))
    return table


def print_experiment(
    console: Console,
    metric: Metric,
    experiment: Experiment,
    trials: Sequence[tuple[Trial, Measurement | None]],
    log: str,
    answer: str = "",
) -> None:
    """Everything known about one experiment, its trials and the end of its log. ``answer``: where its best one is."""
    candidate, verdict = experiment.candidate, experiment.verdict
    say = console.print
    say(f"[bold]experiment {experiment.number}[/]: {escape(candidate.hypothesis)}", highlight=False)
    said = (verdict.status, verdict.reason, verdict.detail) if verdict else ("none yet",)
    rows = [
        ("verdict", ": ".join(filter(None, said))),
        ("proposed", f"{_when(experiment.proposed_at)}by {candidate.proposer}"),
        *([("turn", turn_words(candidate.usage))] if candidate.usage else []),
        ("changes", "; ".join(candidate.changes) or "none in its named constants"),
        ("commit", f"{candidate.commit} on {candidate.parent[:12]}"),
    ]
    if candidate.lines:
        rows.append(("program", f"{counted(candidate.lines, 'line')} of genome"))
    if experiment.bar is not None:
        rows.append(("counts as", f"{metric.name} {experiment.bar:.6f}, without the luck of its runs"))
    for evidence in experiment.evidence:
        at = f" at {evidence.what}" if evidence.what else ""
        against = f" over the baseline{at}" if evidence.against == 0 else f", {evidence.what}"
        how = evidence.label if evidence.shown else f"not shown ({evidence.label})"
        claim = f"; {claim_words(evidence)}" if evidence.claim else ""
        start = f"; {evidence_start_words(evidence)}" if evidence.warm_start is not None else ""
        rows.append((how, f"{interval_words(evidence.gain)}{against}, {evidence.gain.pairs} pairs{start}{claim}"))
    for trial, measured in trials:
        start = f" · {trial.warm_start.words}" if trial.warm_start else ""
        rows.append((f"trial {trial.id}", f"{_trial_words(metric, measured)}{start}"))
    if answer:
        rows.append(("best answer", answer))
    table = Table.grid(padding=(0, 2))
    for name, words in rows:
        table.add_row(f"[dim]{escape(name)}[/]", escape(words))
    say(table)
    if log:
        say("[dim]-- the end of what it printed (untrusted) --[/]")
        say("\n".join(log.splitlines()[-25:]), markup=False, highlight=False)


def _when(at: float) -> str:
    """A duration followed by a space; empty if unknown."""
    return f"{datetime.fromtimestamp(at):%Y-%m-%d %H:%M:%S} " if at > FIRST_DAY else ""


def turn_words(usage: Mapping[str, Any]) -> str:
    """A proposal's model, tokens, cost and time, as far as known."""
    words = [str(usage[name]) for name in ("agent", "model") if name in usage]
    if "input_tokens" in usage:
        words.append(f"{usage['input_tokens']:,} tokens in, {usage.get('output_tokens', 0):,} out{_whose(usage)}")
    if "cost_usd" in usage:
        words.append(f"${usage['cost_usd']:.4f}")
    if "seconds" in usage:
        words.append(f"{usage['seconds']:.1f} s")
    if requests := usage.get("requests"):
        size = (usage.get("bytes_sent", 0) + usage.get("bytes_received", 0)) / 1e6
        words.append(f"{counted(requests, 'request')}, {size:.2f} MB")
    return " · ".join(words)


def _whose(usage: Mapping[str, Any]) -> str:
    """Who counted a turn's tokens, in brackets, and what the proposer said where that differs."""
    if not usage.get("requests") or usage.get("sealed"):
        return " (the proposer's own count)"
    told = usage.get("told", {})
    if "input_tokens" not in told and "output_tokens" not in told:
        return ""
    said = (told.get(name, usage.get(name, 0)) for name in ("input_tokens", "output_tokens"))
    return " (it said {:,} in, {:,} out)".format(*said)


def _trial_words(metric: Metric, measured: Measurement | None) -> str:
    if measured is None:
        return "running"
    value = f"{metric.name} {value_words(measured)}" if measured.metric is not None else measured.outcome
    words = (
        f"{value} · trained {measured.training_seconds:.1f} s · started in {measured.startup_seconds:.1f} s · "
        f"evaluated in {measured.evaluation_seconds:.1f} s · {measured.peak_memory_mb:,.0f} MB"
    )
    if taken := (measured.overhead or {}).get("charged"):
        words += f" · {taken:.1f} s beside its training count as training"
    if measured.peak_gpu_memory_mb:
        words += f", {measured.peak_gpu_memory_mb:,.0f} MB on the GPU"
    if others := ", ".join(f"{name} {value:.6g}" for name, value in list(measured.secondary.items())[:SHOWN]):
        more = len(measured.secondary) - SHOWN
        words += f" · {others}" + (f" and {more} more" if more > 0 else "")
    if measured.said:
        words += f" · the evaluator says: {one_line(measured.said, 400)}"
    return f"{words} · {measured.detail}" if measured.detail else words


def closing_words(
    metric: Metric,
    tally: Counter[str | None],
    baseline: Experiment | None,
    champion: Experiment | None,
    reason: str,
    seconds: float,
    trained: float,
) -> str:
    """What was tried and gained, at the end of a run of ``seconds``, a share of which, ``trained``, was training.

    ``tally``: the session's number of experiments per status, including the baseline.
    """
    tally = tally - Counter([baseline.verdict.status if baseline and baseline.verdict else None])
    kept, discarded, crashed = (tally[status] for status in ("keep", "discard", "crash"))
    lines = ["", f"[bold]{escape(reason)}[/]"]
    lines.append(
        f"{counted(kept + discarded + crashed, 'experiment')}: {kept} kept, {discarded} discarded, "
        f"{crashed} crashed · {_time(seconds)}, {trained:.0%} of it training"
    )
    before = baseline.bar if baseline else None
    best = champion.bar if champion and champion.number else None
    if before is not None and best is not None:
        lines.append(
            f"{metric.name} {before:.6f} → {best:.6f}, {metric.gain(before, best):.6f} better as the search "
            "sees it: not a result yet (nightlab confirm)"
        )
    return "\n".join(lines)


def confirmed_words(
    metric: Metric, evidence: Evidence, baseline: Sequence[Measurement], champion: Sequence[Measurement]
) -> str:
    """Baseline and champion on fresh seeds, and what may be claimed."""
    lines = [f"[dim]{'seed':>8} {'baseline':>12} {'champion':>12} {'gain':>12}[/]"]
    for seed, before, after in zip(evidence.seeds, baseline, champion, strict=False):
        if before.metric is not None and after.metric is not None:
            gain = metric.gain(before.metric, after.metric)
            lines.append(f"{seed:>8} {before.metric:>12.6f} {after.metric:>12.6f} {gain:>+12.6f}")
    at = f" at {evidence.what}" if evidence.what else ""
    claim = f"{metric.name} is {interval_words(evidence.gain)}{at}, on {evidence.gain.pairs} fresh seeds, paired"
    if evidence.exact:
        claim = f"{metric.name} is {interval_words(evidence.gain)}"
    elif evidence.sequential:
        claim += f"; {SEQUENTIAL}"
    done = "transferred" if evidence.level == "transferred" else "confirmed"
    if evidence.shown and evidence.claim:
        lines.append(f"[bold yellow]claim, {done}:[/] {claim}; {escape(claim_words(evidence))}")
    elif evidence.shown:
        lines.append(f"[bold green]{done}:[/] {claim}")
    else:
        lines.append(f"[bold yellow]not {done}:[/] {claim}: {unshown_words(evidence)}")
    if evidence.warm_start is not None:
        lines.append(f"[dim]{evidence_start_words(evidence)}[/]")
    if held_out := evidence.held_out:
        sure = "[bold green]held out:[/]" if held_out.low > 0 else "[bold yellow]not shown on held-out data:[/]"
        lines.append(f"{sure} {interval_words(held_out)} on data that no decision has read")
    return "\n".join(lines)


def claim_words(evidence: Evidence) -> str:
    """Why the metric behind some evidence is only a claim."""
    return f"the metric is only the candidate's claim: {evidence.claim}"


def evidence_start_words(evidence: Evidence) -> str:
    """What the genome behind some evidence started from, and its own gain from nothing."""
    return start_words(evidence, interval_words(evidence.alone) if evidence.alone else "")


def interval_words(gain: PairedGain) -> str:
    size, ends = gain_words(gain)
    return f"{size}, {ends.replace(' %', '%')}"


def worths_words(metric: Metric, rows: Sequence[tuple[int, str, PairedGain | None, str, bool]]) -> str:
    """Each kept change's contribution, measured by removing it from the champion."""
    lines = ["", f"[bold]what each change is worth[/] [dim]({metric.name} lost without it, 95% interval)[/]"]
    for number, hypothesis, gain, why, nothing in rows:
        worth = f"{gain.mean:>+10.5f}  ({gain.low:+.5f} to {gain.high:+.5f})" if gain else f"can't be taken out: {why}"
        lines.append(f"#{number:<5}{worth}{'  earns nothing' if nothing else ''}  {escape(hypothesis)}")
    return "\n".join(lines)


def places_words(places: Sequence[tuple[str, str]]) -> str:
    """Paths of interest, one per line."""
    width = max(len(name) for name, _ in places)
    return "\n".join(f"[dim]{name:<{width}}[/]  {escape(where)}" for name, where in places)


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
