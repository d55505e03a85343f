"""Studies: strategies compared by whole sessions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nightlab.cli.app import HERE, REFUTED, Allow, Json, Where, allowed, app, say, view
from nightlab.ui.terminal.outlet import unhurried

if TYPE_CHECKING:
    from nightlab.analysis.study_report import StudyReport


@app.command(epilog="Examples:  nightlab study study.toml   ·   nightlab study study.toml --json")
@unhurried()
def study(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The study: its arms, rounds and experiments, in TOML.")],
    lab: Where = HERE,
    as_json: Json = False,
    allow: Allow = [],  # noqa: B006
) -> None:
    """Compare strategies by whole sessions.

    Each arm is a choice of proposers, judge, search and program.md, or a switch from one to another. Every round runs
    one session of each, and measures its gain on fresh seeds. Ends when one arm is shown to be the best, or the rounds
    are over: then the exit status is 3. The same command resumes a study that was interrupted.
    """
    from nightlab.analysis.study import StudySession, read_study, run_study
    from nightlab.analysis.study_report import StudyReport
    from nightlab.api import Lab

    plan, place, so_far = read_study(file), Lab(lab), list[StudySession]()
    StudyReport(plan, []).write(place.path)

    def tell(one: StudySession) -> None:
        so_far.append(one)
        page = StudyReport(plan, so_far).write(place.path)
        if not as_json:
            cost = f"{one.hours * 60:.1f} min of trials" + (f", ${one.money:.2f}" if one.money else "")
            say(f"round {one.turn}, {one.arm}: gain {one.gain:.6g} in {cost} ({one.tag}; {page})")

    report = StudyReport(
        plan, run_study(plan, place, tell, lambda: [view(quiet=as_json)], allow_missing=allowed(allow))
    )
    if as_json:
        typer.echo(json.dumps(report.to_dict(), indent=1))
    else:
        _tell(report)
    raise typer.Exit(0 if report.best else REFUTED)


def _tell(report: StudyReport) -> None:
    from nightlab.analysis.study_report import rate_words

    say(f"{'arm':<16}{'sessions':>9}{'mean gain':>12}{'USD':>9}  per hour")
    for arm in report.arms:
        money = f"{arm.money:.2f}"
        say(f"{arm.name:<16}{arm.sessions:>9}{arm.gain:>12.6g}{money:>9}  {rate_words(arm.per_hour)}")
        if arm.per_dollar:
            say(f"  per US dollar: {rate_words(arm.per_dollar)}")
        if arm.alone:
            say(f"  found by no other arm: {', '.join(arm.alone)}")
    for one in report.pairs:
        say(f"{one.better} over {one.other}: {one.mean:.6g} ({one.low:.6g} to {one.high:.6g}): {one.words}")
    say(f"best: {report.best}" if report.best else "no arm is shown to be the best: more rounds may show one")
