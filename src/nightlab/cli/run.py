"""Running experiments."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nightlab.cli.app import (
    HERE,
    REFUTED,
    STOPPED,
    Allow,
    Device,
    Plain,
    Tag,
    Where,
    allowed,
    app,
    draw,
    near,
    say,
    tag_option,
    window,
)
from nightlab.ui.terminal.outlet import unhurried

if TYPE_CHECKING:
    from nightlab.core.config import StopRules
    from nightlab.core.types import Evidence
    from nightlab.engines.base import Engine
    from nightlab.session.session import Session

OnEngine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="ENGINE",
        help="Where trials run: local-ray, auto, ray://HOST:PORT, HOST:PORT or slurm; this machine if omitted.",
    ),
]


@app.command(
    epilog="Examples:  nightlab run   ·   nightlab run --hours 8   ·   nightlab run --tag wide --experiments 50"
    "   ·   nightlab run --cost-limit 5"
    "   ·   nightlab run --engine local-ray --slots 8   ·   nightlab run --engine ray://head:10001   ·   "
    "nightlab run --engine slurm --slots 16"
)
@unhurried()
def run(
    lab: Where = HERE,
    tag: Annotated[str | None, tag_option("Start or continue the session with this tag.")] = None,
    hours: Annotated[float | None, typer.Option(min=0.001, help="Stop after this many hours.")] = None,
    experiments: Annotated[
        int | None, typer.Option("--experiments", "-n", min=1, help="Stop when the session has this many experiments.")
    ] = None,
    stall: Annotated[
        int | None, typer.Option("--patience", min=1, help="Stop after this many experiments in a row without a keep.")
    ] = None,
    tokens: Annotated[
        int | None, typer.Option("--token-limit", min=1, help="Stop at this total of proposer tokens (self-reported).")
    ] = None,
    money: Annotated[
        float | None,
        typer.Option("--cost-limit", min=0.0001, help="Stop at this total proposer cost in USD (self-reported)."),
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

    Continues the latest session, or starts a new one if the lab has changed. Press Ctrl-C once to finish the running
    trials and stop, twice to stop immediately. Finished trials are never lost.
    """
    from nightlab.core.config import StopRules
    from nightlab.session.create import start_session

    if slots not in (None, "auto") and not (slots.isdecimal() and int(slots)):
        raise typer.BadParameter(f"--slots {slots}: a number from 1, or auto")
    count = int(slots) if slots and slots != "auto" else None
    shown, engine = window(plain), None
    if on:
        from nightlab.session.create import start_remote_session

        session, said, engine = start_remote_session(on, count, lab, tag, device, allowed(allow), shown.say)
    else:
        session, said = start_session(lab, tag, device, allowed(allow))
    if said:
        shown.say(said)
    given = {"hours": hours, "experiments": experiments, "stall": stall, "tokens": tokens, "money": money}
    given["gain_per_hour"] = gain_per_hour
    rules = session.lab.stop.model_copy(update={k: v for k, v in given.items() if v is not None})
    many = count if slots or on else 1
    _run(session, StopRules.model_validate(rules.model_dump()), shown, many, engine=engine)


@app.command(epilog="Examples:  nightlab note look at the optimiser   ·   nightlab note --tag nov21 no more of depth")
def note(
    words: Annotated[list[str], typer.Argument(metavar="WORDS", help="The note.")],
    lab: Where = HERE,
    tag: Tag = None,
) -> None:
    """Leave a note for the proposers.

    The note is part of every briefing from the next turn on, also in a running session.
    """
    from nightlab.storage.ledger import add_note, find_session, state_folder

    tag = find_session(lab, tag)
    add_note(state_folder(lab) / tag, " ".join(words))
    say(f"noted: the proposers of session {tag} read it from the next turn on")


@app.command(epilog="Examples:  nightlab demo   ·   nightlab demo my-demo --experiments 40")
@unhurried()
def demo(
    name: Annotated[
        Path | None, typer.Argument(metavar="[FOLDER]", help="Folder for the lab; a new one if omitted.")
    ] = None,
    experiments: Annotated[int, typer.Option("--experiments", "-n", min=1, help="Number of experiments.")] = 20,
    seeds: Annotated[int, typer.Option(min=2, help="Number of fresh seeds for the final comparison.")] = 4,
    plain: Plain = False,
    device: Device = None,
) -> None:
    """Run a short session on a small language model.

    Takes minutes on any machine and needs no account and no key. Makes a lab, runs the experiments and confirms the
    gain on fresh seeds.
    """
    from nightlab.core.config import StopRules
    from nightlab.session.create import demo_folder, make_lab, start_session

    folder = demo_folder(name)
    if not folder.exists():
        make_lab(folder, "lm")
    shown = window(plain)
    shown.say(f"[bold]nightlab demo[/] in {folder}/ · a small GPT on two centuries of speeches")
    session, said = start_session(folder, None, device, allowed(["all"]))
    if said:
        shown.say(said)
    evidence = _run(session, StopRules(experiments=experiments), shown, slots=1, pairs=seeds)
    raise typer.Exit(0 if evidence and evidence.shown else REFUTED)


def _run(
    session: Session,
    stop: StopRules,
    shown: Any,
    slots: int | None,
    pairs: int | None = None,
    engine: Engine | None = None,
) -> Evidence | None:
    """Run the night, confirm what it gained on ``pairs`` of fresh seeds, and say where things are.

    Without ``pairs`` the contract says how much of the session confirming may take.
    """
    from nightlab.analysis.confirm import Confirmer
    from nightlab.analysis.report import write
    from nightlab.cli.confirm import say_confirmed, say_worths
    from nightlab.loop.loop import ExperimentLoop
    from nightlab.loop.scheduler import Interrupted, Scheduler
    from nightlab.storage.ledger import write_results
    from nightlab.ui.terminal.log import closing_words

    scheduler = Scheduler(session, shown, slots, engine)
    claims, evidence = Confirmer(scheduler), None
    begun, stopped = time.time(), False
    try:
        reason = ExperimentLoop(session, stop, scheduler).run()
        stopped = bool(scheduler.asked_to_stop)
    except Interrupted:
        reason, stopped = "stopped now; what was in flight runs again next time", True
    finally:
        shown.close()
    tally, champion = session.ledger.tally(), session.ledger.champion()
    baseline = session.ledger.experiment(0) if tally else None
    say(closing_words(session.metric, tally, baseline, champion, reason, time.time() - begun, scheduler.trained))
    measured = baseline is not None and baseline.verdict is not None
    if measured:
        write_results(session.results, session.metric, session.ledger)
        draw(session)
    due = (
        not (stopped or scheduler.paused)
        and claims.unconfirmed()
        and (pairs is not None or session.lab.judge.confirm > 0)
    )
    if due:
        pairs = pairs or claims.affordable(tally.total())
        say(f"\nbaseline and champion again on {pairs} fresh seeds, in turn: is it real?")
        try:
            evidence = claims.confirm(pairs)
            say_confirmed(claims, evidence)
            if (seeds := claims.affordable_ablation(tally.total(), pairs)) > 0:
                say_worths(session, claims.ablate(seeds))
        except Interrupted:
            stopped = True
        finally:
            shown.close()
    champion = session.ledger.champion()
    if evidence is None and champion:  # of an earlier run
        evidence = next((e for e in reversed(champion.evidence) if e.against == 0), None)
    if measured:
        write(session)
    _places(session)
    session.close()
    if stopped:
        raise typer.Exit(STOPPED)
    return evidence


def _places(session: Session) -> None:
    from nightlab.ui.terminal.log import places_words

    folder = near(session.folder)
    say(
        places_words(
            [
                ("report", f"{folder}/report.html"),
                ("log", f"{folder}/results.tsv"),
                ("chart", f"{folder}/progress.png"),
                ("branch", f"{session.branch} (git diff {session.base[:7]} {session.branch})"),
            ]
        )
    )
