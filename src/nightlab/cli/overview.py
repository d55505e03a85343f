"""What ``nightlab`` says without a command: the state of the lab in this folder, and the next step."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import typer


def overview(lab: Path) -> str:
    """A few lines about the lab in ``lab``: its latest session, the champion, and the next command.

    Raises NightlabError for a ledger that can't be read.
    """
    from nightlab.storage.ledger import tags

    if known := tags(lab):
        return _session(lab, known[0])
    if (lab / "lab.toml").exists():
        return "This lab has no session yet.\nnext: nightlab check, then nightlab run"
    return (
        "No lab in this folder.\n"
        "next: nightlab demo to try one, nightlab new NAME to make one,\n"
        "      or nightlab init to turn this folder into one (nightlab --help lists all commands)"
    )


def print_overview() -> None:
    typer.echo(overview(Path()))


def _session(lab: Path, tag: str) -> str:
    from nightlab.core.text import counted, one_line
    from nightlab.storage.ledger import find_ledger, is_running_now, state_folder

    ledger = find_ledger(lab, tag)
    running, imported = is_running_now(state_folder(lab) / tag), ledger.imported
    state = "running" if running else "imported" if imported else "not running"
    tally, champion, metric = ledger.tally(), ledger.champion(), ledger.metric
    baseline = ledger.experiment(0).verdict if tally else None
    tried = tally - Counter([baseline.status] if baseline else [])
    lines = [f"session {tag}: {state}, {counted(sum(tried.values()), 'experiment')}, {tried['keep']} kept"]
    if champion is None:
        lines.append("champion: none yet, the baseline is not measured")
    else:
        what = "the baseline" if champion.number == 0 else one_line(champion.candidate.hypothesis, 50)
        value = "" if champion.bar is None else f", {metric.name} {champion.bar:.6g}"
        lines.append(f"champion: experiment {champion.number}{value} ({what})")
    other = "nightlab watch to look at it" if running else "nightlab report for what it found"
    go_on = "" if running or imported else f"nightlab run --tag {tag} to continue, "
    lines.append(f"next: {go_on}{other}")
    return "\n".join(lines)
