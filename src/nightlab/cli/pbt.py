"""Population-based training."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from nightlab.cli.app import HERE, REFUTED, Allow, Device, Json, OnEngine, Tag, Where, allowed, app, say, view
from nightlab.ui.terminal.outlet import unhurried

if TYPE_CHECKING:
    from nightlab.api import PopulationResult


@app.command(epilog="Examples:  nightlab pbt   ·   nightlab pbt --members 16 --parts 8 --slots auto")
@unhurried()
def pbt(
    members: Annotated[
        int | None, typer.Option(min=2, help="Number of members; 8 if omitted.", show_default=False, metavar="N")
    ] = None,
    parts: Annotated[
        int | None,
        typer.Option(
            min=2, max=64, help="Parts of each member's training; 10 if omitted.", show_default=False, metavar="N"
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=0, help="Number of fresh seeds to confirm a kept schedule on; 0: do not.", metavar="N")
    ] = 4,
    slots: Annotated[
        str | None,
        typer.Option(metavar="N|auto", help="Number of parallel trials; 1 if omitted, or all that fit a cluster."),
    ] = None,
    on: OnEngine = None,
    lab: Where = HERE,
    tag: Tag = None,
    as_json: Json = False,
    device: Device = None,
    allow: Allow = [],  # noqa: B006
) -> None:
    """Train a population, and measure its schedule from nothing.

    The worst members go on from the best ones' checkpoints with other constants. The winner's constants over its
    training become an ordinary candidate, judged beside the champion and confirmed on fresh seeds. Exit status 3: the
    schedule was not kept, or not confirmed. The same command resumes.
    """
    from nightlab.api import Lab
    from nightlab.cli.closing import ClosingWords

    if slots not in (None, "auto") and not (slots.isdecimal() and int(slots)):
        raise typer.BadParameter(f"--slots {slots}: a number from 1, or auto")
    count: int | Literal["auto"] = int(slots) if slots and slots != "auto" else "auto" if slots or on else 1
    shown = view(quiet=as_json)
    with Lab(lab).session(
        tag, engine=on or "local", slots=count, device=device, allow_missing=allowed(allow)
    ) as session:
        words = [] if as_json else [ClosingWords(session.metric, shown)]
        result = session.pbt(members, parts, confirm=seeds, callbacks=[shown, *words])
    if as_json:
        typer.echo(json.dumps(_facts(result), indent=1))
    else:
        _tell(result)
    kept = result.experiment is not None and result.experiment.kept
    raise typer.Exit(0 if kept and (result.evidence is None or result.evidence.shown) else REFUTED)


def _facts(result: PopulationResult) -> dict[str, Any]:
    return {
        **result.ended.to_dict(),
        "why": result.why,
        "experiment": result.experiment.to_dict() if result.experiment else None,
        "evidence": asdict(result.evidence) if result.evidence else None,
    }


def _tell(result: PopulationResult) -> None:
    from nightlab.loop.population_trainer import course_words

    end, experiment = result.ended, result.experiment
    say(f"population {end.population}: {end.budgets:.3g} whole trainings; member {end.member} ended best")
    for name, values in end.schedule.items():
        say(f"  {name}: {course_words(values)}")
    if experiment is None:
        say(f"no schedule to measure: {result.why}")
    elif not experiment.kept and experiment.verdict:
        verdict = experiment.verdict
        say(f"from nothing it is not kept, as #{experiment.number}: {verdict.reason}: {verdict.detail}")
