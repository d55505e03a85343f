"""Running experiments."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from nightlab.cli.app import (
    HERE,
    REFUTED,
    STOPPED,
    Allow,
    Device,
    OnEngine,
    Plain,
    Tag,
    Where,
    allowed,
    app,
    near,
    say,
    tag_option,
    window,
)
from nightlab.ui.terminal.outlet import unhurried

if TYPE_CHECKING:
    from nightlab.api import Session
    from nightlab.core.observer import Observer
    from nightlab.core.types import RunResult


@app.command(
    epilog="Examples:  nightlab run   ·   nightlab run --hours 8   ·   nightlab run --tag wide --experiments 50"
    "   ·   nightlab run --cost-limit 5   ·   nightlab run --target 0.95"
    "   ·   nightlab run --engine local-ray --slots 8   ·   nightlab run --engine ray://head:10001   ·   "
    "nightlab run --engine slurm --slots 16"
)
@unhurried()
def run(
    lab: Where = HERE,
    tag: Annotated[str | None, tag_option("Start or continue the session with this tag.")] = None,
    hours: Annotated[float | None, typer.Option(min=0.001, help="Stop after this many hours.", metavar="X")] = None,
    experiments: Annotated[
        int | None,
        typer.Option(
            "--experiments", "-n", min=1, help="Stop when the session has this many experiments.", metavar="N"
        ),
    ] = None,
    stall: Annotated[
        int | None,
        typer.Option(
            "--patience", min=1, help="Stop after this many experiments in a row without a keep.", metavar="N"
        ),
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option("--token-limit", min=1, help="Stop at this total of proposer tokens, in and out.", metavar="N"),
    ] = None,
    money: Annotated[
        float | None,
        typer.Option("--cost-limit", min=0.0001, help="Stop at this total proposer cost in USD.", metavar="X"),
    ] = None,
    requests: Annotated[
        int | None,
        typer.Option(
            "--request-limit", min=1, help="Stop at this total of requests to proposers' endpoints.", metavar="N"
        ),
    ] = None,
    gain_per_hour: Annotated[
        float | None,
        typer.Option(
            "--min-gain-per-hour",
            metavar="GAIN",
            min=1e-12,
            help="Stop when the expected gain per slot-hour falls below this.",
        ),
    ] = None,
    target: Annotated[
        float | None, typer.Option(metavar="VALUE", help="Stop when the champion is as good as this metric value.")
    ] = None,
    slots: Annotated[
        str | None,
        typer.Option(
            metavar="N|auto",
            help="Number of parallel trials, each on separate cores or GPU; 1 if omitted, or all that fit a cluster.",
        ),
    ] = None,
    on: OnEngine = None,
    plain: Plain = False,
    device: Device = None,
    allow: Allow = [],  # noqa: B006
) -> None:
    """Run experiments until stopped.

    Continues the latest session, or starts a new one if what it measures has changed. Press Ctrl-C once to finish the
    running trials and stop, twice to stop immediately. Finished trials are never lost.
    """
    from nightlab.api import Lab

    if slots not in (None, "auto") and not (slots.isdecimal() and int(slots)):
        raise typer.BadParameter(f"--slots {slots}: a number from 1, or auto")
    count: int | Literal["auto"] = int(slots) if slots and slots != "auto" else "auto" if slots or on else 1
    shown, given = window(plain), allowed(allow)
    session = Lab(lab).session(tag, engine=on or "local", slots=count, device=device, allow_missing=given)
    rules = {"hours": hours, "experiments": experiments, "stall": stall, "tokens": tokens, "money": money}
    _run(session, shown, **rules, requests=requests, gain_per_hour=gain_per_hour, target=target)


@app.command(epilog="Examples:  nightlab note look at the optimiser   ·   nightlab note --tag nov21 no more of depth")
def note(
    words: Annotated[list[str], typer.Argument(metavar="WORDS", help="The note.")],
    lab: Where = HERE,
    tag: Tag = None,
) -> None:
    """Leave a note for the proposers.

    The note is part of every briefing from the next turn on, also in a running session.
    """
    from nightlab.core.text import typed
    from nightlab.storage.ledger import add_note, find_session, state_folder

    tag = find_session(lab, tag)
    add_note(state_folder(lab) / tag, typed(" ".join(words)))
    say(f"noted: the proposers of session {tag} read it from the next turn on")


@app.command(epilog="Examples:  nightlab demo   ·   nightlab demo my-demo --experiments 40")
@unhurried()
def demo(
    name: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="Folder for the lab; a new one if omitted.")
    ] = None,
    experiments: Annotated[
        int, typer.Option("--experiments", "-n", min=1, help="Number of experiments.", metavar="N")
    ] = 20,
    seeds: Annotated[int, typer.Option(min=2, help="Number of fresh seeds for the final comparison.", metavar="N")] = 4,
    plain: Plain = False,
    device: Device = None,
) -> None:
    """Run a short session on a small language model.

    Takes minutes on any machine and needs no account and no key. Makes a lab, runs the experiments and confirms the
    gain on fresh seeds.
    """
    from nightlab.api import Lab
    from nightlab.session.create import demo_folder

    folder = demo_folder(name)
    lab = Lab(folder) if folder.exists() else Lab.new(folder, "lm")
    shown = window(plain)
    shown.say(f"[bold]nightlab demo[/] in {folder}/ · a small GPT on two centuries of speeches")
    session = lab.session(device=device, allow_missing="all")
    evidence = _run(session, shown, experiments=experiments, confirm=seeds).evidence
    say(f"next: cd {folder} && nightlab report --show, nightlab diff best; for a lab of yours: nightlab init")
    raise typer.Exit(0 if evidence and evidence.shown else REFUTED)


def _run(session: Session, shown: Observer, **rules: Any) -> RunResult:
    """Run the session, say what comes of it and where things are. Exits with its status when the user stopped it."""
    from nightlab.cli.closing import ClosingWords

    for notice in session.notices:
        shown.say(notice)
    with session:
        result = session.run(**rules, callbacks=[shown, ClosingWords(session.metric, shown)])
        _places(session)
    if result.stopped:
        say(f"next: nightlab run --tag {session.tag} goes on")
        raise typer.Exit(STOPPED)
    return result


def _places(session: Session) -> None:
    from nightlab.ui.terminal.log import places_words

    folder, branch = near(session.folder), session.branch
    say(
        places_words(
            [
                ("report", f"{folder}/report.html"),
                ("log", f"{folder}/results.tsv"),
                ("chart", f"{folder}/progress.png"),
                ("branch", f"{branch} (git diff {session.base[:7]} {branch})"),
            ]
        )
    )
