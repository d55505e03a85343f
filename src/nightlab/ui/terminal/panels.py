"""Renders a session snapshot as lines of text for a terminal of any size."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.text import Text

from nightlab.core.text import counted
from nightlab.ui.snapshot import CommonsStatus, ExperimentPoint, SessionSnapshot, TrialSnapshot
from nightlab.ui.terminal.braille import curve
from nightlab.ui.terminal.rows import heading, latest, seconds_words, value_of, words_of
from nightlab.ui.terminal.staircase import Staircase

WIDE = 120  # columns from which the layout has two columns
NEWS = 600.0  # seconds for which an alarm stays at the top


def frame(
    snapshot: SessionSnapshot, width: int, height: int, selected: int | None = None, stairs: Staircase | None = None
) -> list[Text]:
    """The screen without its last line, as ``height`` lines of ``width``; ``stairs`` caches the chart."""
    stairs = stairs or Staircase()
    top = [_title(snapshot, width), _headline(snapshot, width), *_alarm(snapshot, width)]
    foot: list[Text] = []
    if width >= WIDE and height >= 16:
        left, room = min(width * 3 // 5, 130), height - len(top)
        now = [*_now(snapshot, left, room // 3), Text()]
        numbers = [Text(), *_numbers(snapshot, width - left - 2)]
        chart = stairs.lines(snapshot, width - left - 2, max(room - len(numbers), 8))
        body = _beside(
            [*now, *latest(snapshot, left, room - len(now), selected)], [*chart, *numbers], left, width, room
        )
    else:
        foot = _footer(snapshot, width, 1 if height < 16 else 2 if width >= 60 else 3)
        now = _now(snapshot, width, max(height // 4, 2))
        room = height - len(top) - len(now) - len(foot)
        chart = stairs.lines(snapshot, width, min(room // 3 + 1, 12)) if room >= 10 else []
        body = [*now, *chart, *latest(snapshot, width, room - len(chart), selected)]
    return fitted([*top, *fitted(body, width, height - len(top) - len(foot)), *foot], width, height)


def fitted(lines: Sequence[Text], width: int, height: int) -> list[Text]:
    """Exactly ``height`` lines, none wider than ``width``."""
    found = [*lines[:height], *(Text() for _ in range(height - len(lines)))]
    for line in found:
        line.truncate(width, overflow="ellipsis")
    return found


# -- the parts ---------------------------------------------------------------------------------------


def _title(snapshot: SessionSnapshot, width: int) -> Text:
    about = snapshot.about
    name = Text.assemble((f" {words_of(about.lab)}", "bold"), (" · ", "dim"), about.tag)
    if width >= 100:
        name.append(f" · {about.budget} · {words_of(about.platform)}", "dim")
    if snapshot.fault:
        state = Text("not up to date", "bold red")
    elif not snapshot.alive:
        state = Text("stopped" if snapshot.stopped else "not running", "yellow")
    elif snapshot.paused:
        state = Text("❚❚ paused", "bold yellow")
    else:
        state = Text("● running", "green")
    return _apart(name, state, width)


def _headline(snapshot: SessionSnapshot, width: int) -> Text:
    """The metric as the search sees it, and the strongest evidence for the gain."""
    metric, champion = snapshot.about.metric, snapshot.champion
    if champion is None:
        return Text(" measuring the baseline first" if snapshot.alive else " nothing has been measured yet", "dim")
    line = Text.assemble(
        f" {words_of(metric.name, 24)} ", (value_of(_counts(champion)), "bold"), (f" #{champion.number}", "dim")
    )
    first, counts = snapshot.steps[0].value if snapshot.steps else None, _counts(champion)
    if champion.number and first is not None and counts is not None:
        gained = metric.gain(first, counts)
        line.append(f"  {gained:.3g} better", "green")
        line.append(
            f" · {champion.level}" if width >= 60 else "", "dim" if champion.level == "measured" else "bold green"
        )
    kept, discarded, crashed = (snapshot.tally.get(status, 0) for status in ("keep", "discard", "crash"))
    words = f"{max(kept - 1, 0):,} kept · {discarded:,} discarded · {crashed:,} crashed"
    of = f" of {snapshot.done:,}" if width >= 60 else f"/{snapshot.done:,}"
    return _apart(line, Text(words if width >= 90 else f"{max(kept - 1, 0):,}{of} kept", "dim"), width)


def _alarm(snapshot: SessionSnapshot, width: int) -> list[Text]:
    """What needs attention: why the screen is out of date, why the session stopped, the latest alarm or problem."""
    since = (snapshot.last_event_at if not snapshot.alive else time.time()) - NEWS
    news = [said for said in (*snapshot.alarms, *snapshot.troubles) if said.at > since]
    if snapshot.fault:
        return [Text(f" {words_of(snapshot.fault)}", "red")]
    if not snapshot.alive and snapshot.stopped:
        return [Text(f" it ended: {words_of(snapshot.stopped)}", "yellow")]
    if not snapshot.alive:
        return [Text(" no process runs this session; what is in flight runs again: nightlab run", "yellow")]
    return [Text(f" ! {words_of(max(news, key=lambda said: said.at).words)}", "yellow")] if news else []


def _now(snapshot: SessionSnapshot, width: int, room: int) -> list[Text]:
    """The running trials: one with its curve in detail, or several with a line each."""
    lines = [heading("now", width)]
    running = snapshot.running
    if not running:
        words = "paused: nothing new starts" if snapshot.paused else "between two trials, or waiting for a proposal"
        return [*lines, Text(f" {words if snapshot.alive else 'nothing'}", "dim")]
    each = 3 if 3 * len(running) < room or len(running) == 1 else 1
    shown = running[: max(room // each, 1)]
    for trial in shown:
        lines += _running_trial(trial, width, each)
    if len(running) > len(shown):
        lines.append(Text(f" and {len(running) - len(shown)} more", "dim"))
    return lines


def _running_trial(trial: TrialSnapshot, width: int, rows: int) -> list[Text]:
    name = "baseline" if trial.experiment == 0 else f"#{trial.experiment}"
    purpose = "" if trial.purpose == "search" else f" {trial.purpose}"
    head = Text.assemble((f" {name}{purpose}", "bold cyan"), f" {words_of(trial.phase, 12)} ")
    spent = max(time.time() - trial.since, 0.0)
    left = ""
    if trial.left is not None:
        share = spent / max(spent + trial.left, 1e-9)
        bar = max(min(width // 4, 30), 6)
        done = round(share * bar)
        head.append("━" * done, "cyan")
        head.append("─" * (bar - done), "dim")
        left = f" {seconds_words(trial.left)} left" if trial.left >= 1 else " over any moment"
    elif trial.phase != "starting":
        left = f" for {seconds_words(spent)}"
    head.append(left)
    if rows == 1:
        head.append(f"  {words_of(trial.hypothesis)}", "dim")
        return [head]
    who = f"  by {words_of(trial.proposer, 20)}" if trial.experiment else ""
    head.append(f"{who} · seed {trial.seed}" if width >= 60 else who, "dim")
    why = Text(f"   {words_of(trial.hypothesis)}")
    if changes := "; ".join(change for change in trial.changes if change not in trial.hypothesis):
        why.append(f" · {words_of(changes)}", "dim")
    lines = [head, why]
    if trial.curve:
        room = max(min(width - 30, 80), 8)
        lines.append(
            Text.assemble(
                "   ",
                (curve(trial.curve, room), "cyan"),
                (f" loss {trial.curve[-1][1]:.4g}, it says", "dim"),
            )
        )
    return lines


def facts(snapshot: SessionSnapshot) -> list[tuple[str, str]]:
    """A session's figures, by name, most important first."""
    found: list[tuple[str, str]] = []
    if snapshot.duty is not None:
        hour = snapshot.duty_hour
        lately = f", {hour:.0%} lately" if hour is not None and abs(hour - snapshot.duty) >= 0.02 else ""
        found.append(("duty", f"{snapshot.duty:.0%}{lately}"))
    if snapshot.rate is not None:
        found.append(("rate", f"{snapshot.rate:,.3g}/h"))
    words = ", ".join(rule.words for rule in snapshot.rules) or f"{counted(snapshot.done, 'experiment')}, until Ctrl-C"
    found.append(("stop", words))
    if snapshot.alive and snapshot.left is not None and [rule.name for rule in snapshot.rules] != ["hours"]:
        found.append(("ends in", f"about {seconds_words(snapshot.left)}"))
    spent = snapshot.spent
    if spent.money or spent.tokens:
        silent = " at least" if spent.unpriced else ""
        found.append(("cost", f"${spent.money:.2f}{silent}, {spent.tokens:,} tokens"))
    found.append(("machine", machine_words(snapshot)))
    if snapshot.commons:
        found.append(("commons", commons_words(snapshot.commons)))
    if snapshot.sigma > 0:
        found.append(("noise", f"{snapshot.sigma:.2g}{'' if snapshot.replicates else ', believed'}"))
    if snapshot.self_tests:
        found.append(("self-test", f"{snapshot.self_kept} of {snapshot.self_tests} kept"))
    if snapshot.pinned is not None:
        found.append(("pinned", f"#{snapshot.pinned}"))
    if snapshot.refused:
        found.append(("refused", f"{snapshot.refused:,}"))
    return found


def machine_words(snapshot: SessionSnapshot) -> str:
    """The machine's condition, from the last trial and the disk."""
    told = snapshot.machine
    words = [f"load {told['load']}"] if "load" in told else []
    names = {"other_cores": "{:.1f} cores of others", "gpu_celsius": "{:.0f} °C", "gpu_mhz": "{:,.0f} MHz",
             "stolen": "{:.0%} stolen"}  # fmt: skip
    for name, form in names.items():
        value = told.get(name)
        if isinstance(value, int | float) and (value > 0.05 or name.startswith("gpu")):
            words.append(form.format(value))
    words += [f"GPU slowed: {told['gpu_slowed']}"] if "gpu_slowed" in told else []
    words += [f"disturbed: {told['disturbed']}"] if "disturbed" in told else []
    return ", ".join([*words, f"{snapshot.free_mb / 1024:,.1f} GB free"])


def commons_words(commons: CommonsStatus) -> str:
    """A short summary of what the session received from other labs."""
    if commons.fault:
        return f"can't be read: {commons.fault}"
    measured = [f"{many} {verdict}" for verdict, many in commons.verdicts.items()]
    words = [f"{counted(commons.findings, 'finding')} of {counted(commons.authors, 'peer')}"]
    words += [f"{commons.quarantined} in quarantine"] * bool(commons.quarantined)
    words += [*measured, f"{commons.adopted} adopted"] if measured else ["none measured yet"] * bool(commons.findings)
    words += [f"{commons.threatening} dangerous"] * bool(commons.threatening)
    return ", ".join(words)


def _footer(snapshot: SessionSnapshot, width: int, rows: int) -> list[Text]:
    """The figures in a limited number of lines; the later ones are left out where there is no room."""
    lines = [Text(" ")]
    for name, words in facts(snapshot):
        part = Text.assemble((f"{name} ", "dim"), words_of(words))
        if lines[-1].cell_len > 1 and lines[-1].cell_len + 3 + part.cell_len > width:
            if len(lines) == rows:
                break
            lines.append(Text(" "))
        lines[-1].append("" if lines[-1].cell_len == 1 else " · ", "dim").append_text(part)
    return [*lines, *(Text() for _ in range(rows - len(lines)))]


def _numbers(snapshot: SessionSnapshot, width: int) -> list[Text]:
    """The figures, one per line, and what each proposer did."""
    lines = [heading("session", width)]
    lines += [Text.assemble((f" {name:<10}", "dim"), words_of(words)) for name, words in facts(snapshot)]
    if snapshot.looks:
        lines.append(Text.assemble((" held out  ", "dim"), f"{snapshot.parted} of {snapshot.looks} looks parted"))
    lines.append(Text.assemble((" sealing   ", "dim"), words_of(snapshot.about.sealing)))
    if snapshot.proposers:
        lines += [
            Text(),
            Text(f" {'proposer':<16}{'tried':>7}{'kept':>7}{'dollars':>10}".ljust(width), "dim underline"),
        ]
        most = sorted(snapshot.proposers.items(), key=lambda one: -one[1].tried)[:6]
        for name, share in most:
            dollars = f"{share.spent.money:.2f}" if share.spent.money else "-"
            lines.append(Text(f" {words_of(name, 15):<16}{share.tried:>7,}{share.kept:>7,}{dollars:>10}"))
    return lines


# -- layout ------------------------------------------------------------------------------------------


def _beside(left: list[Text], right: list[Text], middle: int, width: int, height: int) -> list[Text]:
    """Two columns; the left one is ``middle`` characters wide."""
    lines = fitted(left, middle, height)
    for line, more in zip(lines, fitted(right, width - middle - 2, height), strict=True):
        line.pad_right(middle + 2 - line.cell_len)
        line.append_text(more)
    return lines


def _apart(left: Text, right: Text, width: int) -> Text:
    """One text at the left and one at the right end of a line; the left one is cut if needed."""
    room = width - right.cell_len - 2
    if room < 8:
        return left
    left.truncate(room, overflow="ellipsis")
    left.pad_right(width - 1 - right.cell_len - left.cell_len)
    return left.append_text(right)


def _counts(point: ExperimentPoint) -> float | None:
    return point.bar if point.bar is not None else point.metric
