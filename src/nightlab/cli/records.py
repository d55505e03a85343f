"""Records: submitting one, and replaying another's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from nightlab.cli.app import HERE, REFUTED, Allow, Device, Json, Tag, Where, allowed, app, measuring, near, say
from nightlab.ui.terminal.outlet import unhurried


@app.command(epilog="Examples:  nightlab submit   ·   nightlab submit 12 --record 4 --form parameter-golf --seeds 8")
@unhurried()
def submit(
    number: Annotated[
        int | None, typer.Argument(metavar="N", help="Number of the experiment; the champion if omitted.")
    ] = None,
    record: Annotated[int, typer.Option(metavar="N", help="Number of the record to beat; 0 is the baseline.")] = 0,
    name: Annotated[
        str, typer.Option("--record-name", help="What that record is called.", metavar="TEXT")
    ] = "the record before",
    form: Annotated[
        Literal["plain", "modded-nanogpt", "parameter-golf", "nanochat"],
        typer.Option(help="What a forum asks for.", metavar="FORM"),
    ] = "plain",
    seeds: Annotated[int, typer.Option(min=2, help="Number of fresh seeds.", metavar="N")] = 8,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FOLDER", help="Folder to write; submission-N if omitted.")
    ] = None,
    lab: Where = HERE,
    tag: Tag = None,
    as_json: Json = False,
    allow: Allow = [],  # noqa: B006
) -> None:
    """Measure a record beside the one before it, and sign it.

    Forms: plain, modded-nanogpt, parameter-golf, nanochat. Exit status 3: the p-value is above what the form asks for.
    """
    from nightlab.analysis.records import gain_words, holds, submit_record
    from nightlab.commons.places import author_key
    from nightlab.core.config import StopRules
    from nightlab.loop.loop import ExperimentLoop
    from nightlab.session.session import open_session

    session = open_session(lab, tag, writer=True, allow=allowed(allow))
    with measuring(session, as_json) as scheduler:
        number = session.champion().number if number is None else number
        place, loop = out or Path(f"submission-{number}"), ExperimentLoop(session, StopRules(), scheduler)
        signed = submit_record(loop, number, record, seeds, form, author_key(make=True), place, name)
    if as_json:
        typer.echo(json.dumps(signed.model_dump(mode="json"), indent=1))
    else:
        say(f"gain in {session.metric.name}: {gain_words(signed.statement, session.metric.unit)}")
        say(f"wrote {near(place)}")
    raise typer.Exit(0 if holds(signed.statement, form) else REFUTED)


@app.command(epilog="Examples:  nightlab referee submission-12   ·   nightlab referee submission-12 --seeds 8 -C lab")
@unhurried()
def referee(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder that nightlab submit wrote.")],
    seeds: Annotated[int, typer.Option(min=2, help="Number of fresh seeds.", metavar="N")] = 8,
    lab: Where = HERE,
    as_json: Json = False,
    device: Device = None,
    allow: Allow = [],  # noqa: B006
) -> None:
    """Replay a submission in your lab, and sign what it measured.

    Your lab has to have the same frozen files, data, metric and budget. Exit status 3: the gain does not show here.
    """
    from nightlab.analysis.records import gain_words, holds, replay_record
    from nightlab.commons.places import author_key
    from nightlab.commons.submission import FILE, Submission, read_statement
    from nightlab.core.config import StopRules
    from nightlab.loop.loop import ExperimentLoop
    from nightlab.session.create import REFEREE, start_session

    signed = read_statement(folder / FILE)
    session, _ = start_session(lab, f"{REFEREE}{signed.id[:12]}", device, allowed(allow))
    with measuring(session, as_json) as scheduler:
        loop = ExperimentLoop(session, StopRules(), scheduler)
        result, path = replay_record(loop, folder, seeds, author_key(make=True))
    if as_json:
        typer.echo(json.dumps(result.model_dump(mode="json"), indent=1))
    else:
        say(f"submitted gain: {gain_words(signed.statement, session.metric.unit)}")
        say(f"measured here: {gain_words(result.statement, session.metric.unit)}")
        say(f"wrote {near(path)}")
    assert isinstance(signed.statement, Submission)  # as replay_record has seen
    raise typer.Exit(0 if holds(result.statement, signed.statement.form) else REFUTED)
