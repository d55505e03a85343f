"""Submit your own candidates, by hand or from an agent: try, wait, skill and mcp."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nightlab.cli.app import (
    FIXABLE,
    HERE,
    REFUTED,
    Allow,
    Device,
    Json,
    Plain,
    Tag,
    Where,
    allowed,
    app,
    console,
    last_trial,
    near,
    say,
    view,
    window,
)
from nightlab.ui.terminal.outlet import unhurried

if TYPE_CHECKING:
    from nightlab.loop.submissions import SubmissionStatus


@app.command(
    "try",
    epilog="Examples:  edit train.py, then: nightlab try -m 'a longer warmdown'"
    "   ·   nightlab try --no-wait --json -m 'more heads'",
)
@unhurried()
def try_(
    hypothesis: Annotated[
        str, typer.Option("--message", "-m", help="Hypothesis: why it should be better.", metavar="TEXT")
    ] = "a change by hand",
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Submit and return at once; get the verdict with nightlab wait.")
    ] = False,
    waiting: Annotated[
        bool, typer.Option("--pending", help="Measure the candidates already submitted, then exit.")
    ] = False,
    lab: Where = HERE,
    tag: Tag = None,
    as_json: Json = False,
    plain: Plain = False,
    device: Device = None,
    allow: Allow = [],  # noqa: B006
) -> None:
    """Measure your uncommitted edit of the genome.

    It becomes a candidate of the session; a running session measures it next. Exit status 3: not kept; 1: refused, with
    the reason in the message.
    """
    from nightlab.core.text import typed
    from nightlab.loop import submissions
    from nightlab.storage.ledger import SessionBusy, find_session

    given = allowed(allow)
    if waiting:
        shown = view(quiet=as_json)
        try:
            submissions.measure_all(lab, find_session(lab, tag), device, given, shown)
        finally:
            shown.close()
        return
    handed = submissions.hand_over(lab, tag, typed(hypothesis), device, given)
    measurer = submissions.SubmissionRunner(lab, handed.session, device, given)
    if handed.opened and (no_wait or as_json):
        typer.echo(handed.opened, err=True)
    if no_wait:
        measurer.attend(handed)
        typer.echo(json.dumps(handed.facts(), indent=1) if as_json else handed.id)
        return
    shown = view(quiet=True) if as_json else window(plain)
    if handed.opened:
        shown.say(handed.opened)  # as JSON it is quiet
    try:
        submissions.measure_submissions(lab, handed.session, device, given, shown)
    except SessionBusy:
        shown.say(f"session {handed.session} runs already: it measures your candidate next")
    finally:
        shown.close()
    _tell(submissions.wait(measurer, handed.id, None), lab, as_json)


@app.command(epilog="Examples:  nightlab wait try-5f0c9a21   ·   nightlab wait 12 --timeout 60 --json")
def wait(
    name: Annotated[str, typer.Argument(metavar="N", help="Id printed by nightlab try, or number of an experiment.")],
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Wait at most this many seconds; without limit if omitted.", metavar="X")
    ] = None,
    lab: Where = HERE,
    tag: Tag = None,
    as_json: Json = False,
    device: Device = None,
    allow: Allow = [],  # noqa: B006
) -> None:
    """Wait for the verdict on a candidate.

    Exit status 0: kept; 3: not kept; 1: no verdict in time, or refused.
    """
    from nightlab.loop import submissions
    from nightlab.storage.ledger import find_session

    measurer = submissions.SubmissionRunner(lab, find_session(lab, tag), device, allowed(allow))
    _tell(submissions.wait(measurer, name, timeout), lab, as_json)


def _tell(found: SubmissionStatus, lab: Path, as_json: bool) -> None:
    """Print how far a candidate is, and end with the exit status that says so."""
    from nightlab.core.types import NightlabError
    from nightlab.session.session import open_session
    from nightlab.ui.terminal.log import print_experiment

    if as_json:
        typer.echo(json.dumps(found.facts(), indent=1))
        raise typer.Exit(FIXABLE if found.state != "judged" else 0 if found.kept else REFUTED)
    if found.state == "refused":
        raise NightlabError(
            f"your edit can't be tried on the champion: {found.why}",
            "see what the champion changed (nightlab diff best), and edit again",
        )
    experiment = found.experiment
    if experiment is None or experiment.verdict is None:
        resume = f"nightlab resume --tag {found.session}, then " if found.paused else ""
        raise NightlabError(
            f"timeout: {found.id} has no verdict yet, it is {'paused' if found.paused else found.state}",
            f"wait on: {resume}nightlab wait {found.id}",
        )
    session = open_session(lab, found.session)
    trials = session.ledger.trials(experiment.number)
    printed = session.local_engine.log(last_trial(session, experiment)) if trials and not experiment.kept else ""
    print_experiment(console(), session.metric, experiment, trials, printed)
    session.close()
    raise typer.Exit(0 if experiment.kept else REFUTED)


@app.command(epilog="Examples:  nightlab skill   ·   nightlab skill --out ~/.claude/skills/nightlab")
def skill(
    to: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FOLDER", help="Folder to write to; .claude and .agents in the lab if omitted."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a different version.")] = False,
    lab: Where = HERE,
) -> None:
    """Install the skill (SKILL.md) for coding agents."""
    from nightlab.integrations.skill import install, usual

    for path, written in install([to] if to else usual(lab), force=force):
        say(f"wrote {near(path)}" if written else f"{near(path)} is there already")


@app.command(epilog="Examples:  nightlab mcp   ·   claude mcp add nightlab -- nightlab mcp -C /path/to/lab")
def mcp(lab: Where = HERE, tag: Tag = None, device: Device = None, allow: Allow = []) -> None:  # noqa: B006
    """Serve this lab to an agent over MCP, on standard input/output."""
    from nightlab.integrations.server import serve_mcp

    serve_mcp(lab, tag, device, allowed(allow))
