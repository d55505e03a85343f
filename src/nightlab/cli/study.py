"""Studies: strategies compared by whole sessions."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nightlab.cli.app import HERE, REFUTED, Allow, Json, Where, allowed, app, say, view
from nightlab.ui.terminal.outlet import unhurried

if TYPE_CHECKING:
    from nightlab.analysis.study import StudyConfig, StudySession


@app.command(epilog="Examples:  nightlab study study.toml   ·   nightlab study study.toml --json")
@unhurried()
def study(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The study: its arms, rounds and experiments, in TOML.")],
    lab: Where = HERE,
    as_json: Json = False,
    allow: Allow = [],  # noqa: B006
) -> None:
    """Compare strategies by whole sessions.

    Each arm is a choice of proposers, judge and search. Every round runs one session of each, and measures its gain on
    fresh seeds. Ends when one arm is shown to be the best, or the rounds are over: then the exit status is 3. The same
    command resumes a study that was interrupted.
    """
    from nightlab.analysis.study import compare, decided, read_study, run_study
    from nightlab.api import Lab

    plan = read_study(file)
    tell = (lambda words: None) if as_json else say
    results = run_study(plan, Lab(lab), tell, lambda: [view(quiet=as_json)], allow_missing=allowed(allow))
    found = compare(plan, results)
    best = decided(plan, found)
    if as_json:
        facts = {"best": best, "sessions": [asdict(one) for one in results], "pairs": [asdict(one) for one in found]}
        typer.echo(json.dumps(facts, indent=1))
    else:
        _table(plan, results)
        for one in found:
            mark = "" if one.shown else ": not shown"
            say(f"{one.better} over {one.other}: {one.mean:.6g} ({one.low:.6g} to {one.high:.6g}){mark}")
        say(f"best: {best}" if best else "no arm is shown to be the best: more rounds may show one")
    raise typer.Exit(0 if best else REFUTED)


def _table(plan: StudyConfig, results: list[StudySession]) -> None:
    say(f"{'arm':<16}{'sessions':>9}{'mean gain':>12}{'per hour':>12}{'USD':>9}")
    for name in plan.all_arms():
        own = [one for one in results if one.arm == name]
        if own:
            gain, hours = sum(one.gain for one in own) / len(own), sum(one.hours for one in own) / len(own)
            money = sum(one.money for one in own) / len(own)
            say(f"{name:<16}{len(own):>9}{gain:>12.6g}{gain / hours if hours else 0:>12.4g}{money:>9.2f}")
