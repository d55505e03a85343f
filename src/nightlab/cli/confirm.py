"""Measuring again: replay, confirm and transfer."""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nightlab.cli.app import HERE, REFUTED, Allow, Json, Tag, Where, allowed, app, measuring, say, view
from nightlab.ui.terminal.outlet import unhurried

if TYPE_CHECKING:
    from nightlab.analysis.confirm import Confirmer
    from nightlab.core.types import Contribution, Evidence, Metric


@app.command(epilog="Examples:  nightlab replay 12   ·   nightlab replay 12 --work-budget 200000 --repeats 2")
@unhurried()
def replay(
    number: Annotated[int, typer.Argument(metavar="N", help="Number of the experiment; 0 is the baseline.")],
    times: Annotated[int, typer.Option("--repeats", min=1, help="Number of runs.", metavar="N")] = 1,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed to use; the original seed if omitted.", metavar="N")
    ] = None,
    work: Annotated[
        float | None,
        typer.Option(
            "--work-budget",
            min=1,
            help="Train for this amount of work instead of the budget, for identical numbers.",
            metavar="X",
        ),
    ] = None,
    lab: Where = HERE,
    tag: Tag = None,
    as_json: Json = False,
    allow: Allow = [],  # noqa: B006
) -> None:
    """Run an experiment again and compare the metric.

    With a work budget (here or in lab.toml) on a CPU the metric must be identical: exit status 3 if not.
    """
    from nightlab.core.types import SEED, Budget
    from nightlab.loop.measure import replay as run_again
    from nightlab.session.replicates import runs
    from nightlab.session.session import open_session

    session = open_session(lab, tag, writer=True, allow=allowed(allow))
    with measuring(session, as_json) as scheduler:
        searched = runs(session.ledger.trials(number, "search"))
        own = min(searched, default=SEED)
        budget = Budget("work", work) if work else session.budget.record()
        found = run_again(scheduler, number, own if seed is None else seed, times, budget)
        experiment = session.ledger.experiment(number)
    comparable = budget == session.budget.record() and seed is None and experiment.measurement is not None
    first = searched.get(own) if comparable else None
    values = [m.metric for m in ([first, *found] if first else found)]
    same = len(set(values)) == 1 and values[0] is not None
    if as_json:
        typer.echo(json.dumps({"number": number, "identical": same, "metrics": values}))
    else:
        say(f"{session.metric.name}: {', '.join('failed' if v is None else repr(v) for v in values)}")
        if len(values) > 1:
            say("identical" if same else "not identical" + ("" if budget.clock == "work" else ": the budget is time"))
    failed = any(m.metric is None for m in found)
    raise typer.Exit(REFUTED if failed or (budget.clock == "work" and len(values) > 1 and not same) else 0)


@app.command(
    epilog="Examples:  nightlab confirm   ·   nightlab confirm --seeds 8 --json   ·   nightlab confirm --simplify"
)
@unhurried()
def confirm(
    seeds: Annotated[int, typer.Option(min=2, help="Number of fresh seeds.", metavar="N")] = 4,
    ablate: Annotated[
        bool, typer.Option("--ablate", help="Also measure the gain of each kept change, by removing it.")
    ] = False,
    simplify: Annotated[
        bool, typer.Option("--simplify", help="Also try the champion without the changes that bring no gain.")
    ] = False,
    lab: Where = HERE,
    tag: Tag = None,
    as_json: Json = False,
    allow: Allow = [],  # noqa: B006
) -> None:
    """Measure the gain again on fresh seeds, with its interval.

    Compares the champion with the baseline, also on held-out data if the evaluator has it. Each further look with more
    seeds widens the interval.
    """
    from nightlab.analysis.confirm import Confirmer
    from nightlab.session.session import open_session

    session = open_session(lab, tag, writer=True, allow=allowed(allow))
    with measuring(session, as_json) as scheduler:
        claims, worths = Confirmer(scheduler), []
        evidence = claims.confirm(seeds)
        if not as_json:
            say_confirmed(claims, evidence)
        if evidence and (ablate or simplify):
            worths = claims.ablate(min(seeds, 3))
        if as_json:
            typer.echo(json.dumps(_facts(claims, evidence, worths), indent=1))
        elif worths:
            say_worths(session.metric, worths)
        if simplify and evidence:
            _simplify(claims, worths, seeds, as_json)
    raise typer.Exit(0 if evidence and evidence.shown else REFUTED)


@app.command(
    epilog="Examples:  nightlab transfer --scale 4   ·   nightlab transfer --set DEPTH=4 --set BATCH=16 --seeds 3"
    "   ·   nightlab transfer grid.toml"
)
@unhurried()
def transfer(
    grid: Annotated[
        Path | None,
        typer.Argument(metavar="GRID", help="A grid of budgets, constants and labs, in TOML (docs/transfer.md)."),
    ] = None,
    scale: Annotated[float, typer.Option(min=0.01, help="Budget as a multiple of the session's.", metavar="X")] = 1.0,
    constants: Annotated[
        list[str], typer.Option("--set", metavar="NAME=VALUE", help="Set a constant in both genomes; repeatable.")
    ] = [],  # noqa: B006
    seeds: Annotated[int, typer.Option(min=2, help="Number of fresh seeds.", metavar="N")] = 3,
    lab: Where = HERE,
    tag: Tag = None,
    as_json: Json = False,
    allow: Allow = [],  # noqa: B006
) -> None:
    """Measure the gain at another budget or model size.

    With a grid, measures a sample of the session's programs in each of its settings, and says whether the session's own
    budget ranks them as the dearer settings do. Its cost is said first, and the same command resumes it. Exit status 3
    where that is not shown.
    """
    from nightlab.analysis.confirm import Confirmer
    from nightlab.session.session import open_session

    if grid is not None:
        if scale != 1.0 or constants:
            raise typer.BadParameter("a grid names its scales and constants itself")
        _transfer_grid(grid, lab, tag, as_json, allow)
    if scale == 1.0 and not constants:
        raise typer.BadParameter("name a change: --scale 2, or --set DEPTH=4")
    with measuring(open_session(lab, tag, writer=True, allow=allowed(allow)), as_json) as scheduler:
        claims = Confirmer(scheduler)
        evidence = claims.transfer(seeds, scale, dict(map(_constant, constants)))
    if as_json:
        typer.echo(json.dumps(_facts(claims, evidence, []), indent=1))
    else:
        say_confirmed(claims, evidence)
    raise typer.Exit(0 if evidence and evidence.shown else REFUTED)


def _transfer_grid(file: Path, lab: Path, tag: str | None, as_json: bool, allow: list[str]) -> None:
    """Measure a grid and exit: 0 where the proxy keeps the order in every setting."""
    from contextlib import ExitStack, closing

    from nightlab.analysis.transfer_grid import TransferGrid, read_grid
    from nightlab.loop.scheduler import Scheduler
    from nightlab.session.session import open_session

    config = read_grid(file)
    with ExitStack() as opened:
        shown = opened.enter_context(closing(view(quiet=as_json)))

        def scheduler(folder: Path, session: str | None) -> Scheduler:
            found = open_session(folder, session, writer=True, allow=allowed(allow))
            return Scheduler(opened.enter_context(closing(found)), shown)

        tell = (lambda words: None) if as_json else say
        planned = TransferGrid(config, scheduler(lab, tag), lambda other: scheduler(file.parent / other, None))
        tell(planned.plan())
        results = planned.run(tell)
        if as_json:
            typer.echo(json.dumps([asdict(one) for one in results], indent=1))
    raise typer.Exit(0 if all(one.rank and one.rank[1] > 0 for one in results) else REFUTED)


def say_confirmed(claims: Confirmer, evidence: Evidence | None) -> None:
    """What a confirmation found, pair by pair, and what may be claimed."""
    from nightlab.ui.terminal.log import confirmed_words

    if evidence is None:
        say("the champion is still the baseline: there is no gain to confirm")
    else:
        say(confirmed_words(claims.session.metric, evidence, *claims.values))


def say_worths(metric: Metric, worths: Sequence[Contribution]) -> None:
    from nightlab.ui.terminal.log import worths_words

    rows = [(w.experiment.number, w.experiment.candidate.hypothesis, w.gain, w.why, w.nothing) for w in worths]
    say(worths_words(metric, rows))


def _simplify(claims: Confirmer, worths: Sequence[Contribution], seeds: int, quiet: bool) -> None:
    from nightlab.core.config import StopRules
    from nightlab.core.types import NightlabError
    from nightlab.loop.loop import ExperimentLoop
    from nightlab.loop.simplify import simplify
    from nightlab.storage.git import OutOfScope

    try:
        simplified = claims.simplified(worths)
        if simplified is None:
            if not quiet:
                say("every removable change brings a gain: nothing to simplify")
            return
        simplify(ExperimentLoop(claims.session, StopRules(), claims.scheduler), *simplified, pairs=seeds)
    except OutOfScope as refusal:
        raise NightlabError(
            f"the champion can't be simplified: {refusal}", "look at the changes: nightlab diff best"
        ) from None


def _facts(claims: Confirmer, evidence: Evidence | None, worths: Sequence[Contribution]) -> dict[str, Any]:
    if evidence is None:
        return {"confirmed": False, "reason": "the champion is the baseline"}
    baseline, champion = claims.values
    return {
        "confirmed": evidence.shown,
        **asdict(evidence),
        "baseline": [m.metric for m in baseline],
        "champion": [m.metric for m in champion],
        "ablation": [
            {"number": w.experiment.number, "gain": asdict(w.gain) if w.gain else None, "why": w.why} for w in worths
        ],
    }


def _constant(words: str) -> tuple[str, Any]:
    name, given, value = words.partition("=")
    if not given or not name.strip():
        raise typer.BadParameter(f"{words!r} is not NAME=VALUE")
    try:
        return name.strip(), ast.literal_eval(value.strip())
    except (ValueError, SyntaxError):
        return name.strip(), value.strip()
