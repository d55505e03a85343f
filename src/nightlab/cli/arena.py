"""The arena: rank genes under one standard evaluation, and audit published standings."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nightlab.cli.app import HERE, REFUTED, Allow, Json, Tag, allowed, app, console, escape, near, say, view
from nightlab.cli.help import App, Group
from nightlab.ui.terminal.outlet import unhurried

if TYPE_CHECKING:
    from nightlab.session.session import Session

LARGEST = 64 * 2**20  # bytes of published standings, or of a gene
arena = App(name="arena", cls=Group, no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]})
app.add_typer(arena)

Labs = Annotated[list[Path], typer.Option("--lab", "-C", metavar="FOLDER", help="Folder of a lab; repeatable.")]


@arena.callback(
    invoke_without_command=True,
    epilog="Examples:  nightlab arena   ·   nightlab arena -C mine -C theirs --seeds 5 --out arena.json   ·   "
    "nightlab arena audit arena.json",
)
@unhurried()
def rank(
    context: typer.Context,
    labs: Labs = [HERE],  # noqa: B006
    tag: Tag = None,
    seeds: Annotated[int, typer.Option(min=2, help="Number of seeds, the same for all genes.", metavar="N")] = 3,
    best: Annotated[
        int, typer.Option("--top", min=1, help="Rank this many of the best genes of each session.", metavar="N")
    ] = 8,
    look: Annotated[bool, typer.Option("--no-run", help="Rank only genes that were already measured.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the standings to this file.", metavar="PATH")
    ] = None,
    as_json: Json = False,
    allow: Allow = [],  # noqa: B006
) -> None:
    """Rank the best genes of sessions on the same seeds.

    Shows the Rotifer fitness with each of its terms, which also counts the resources that a gene needs. The search
    still selects by the task's metric.
    """
    if context.invoked_subcommand:
        return
    from nightlab.analysis.ranking import standings, text
    from nightlab.analysis.tournament import collect_entries, contestants, run_tournament
    from nightlab.commons.places import known_commons
    from nightlab.core.types import NightlabError
    from nightlab.loop.scheduler import Scheduler

    sessions = _sessions(labs, tag, writer=not look, allow=allow)
    for session in () if look else sessions:
        shown = view(quiet=as_json)
        try:
            run_tournament(Scheduler(session, shown), contestants(session, best), seeds)
        finally:
            shown.close()
    found = collect_entries(sessions, best, known_commons())
    for session in sessions:
        session.close()
    if not found:
        hint = "measure them: nightlab arena" if look else "run a session first: nightlab run"
        raise NightlabError("no gene has taken part in the arena", hint)
    try:
        made = standings(found, time.time())
    except ValueError as error:
        raise NightlabError(str(error), "give the labs' folders different names") from None
    if out:
        out.write_text(text(made), encoding="utf-8")
    if as_json:
        typer.echo(text(made), nl=False)
        return
    from nightlab.cli.ranking_table import print_standings

    print_standings(console(), made)
    if out:
        say(f"published in {near(out)}; check it with: nightlab arena audit {near(out)}")


@arena.command(epilog="Examples:  nightlab arena audit arena.json   ·   nightlab arena audit arena.json -C mine")
def audit(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Standings written by nightlab arena --out.")],
    labs: Labs = [],  # noqa: B006
    tag: Tag = None,
) -> None:
    """Recompute every score of published standings.

    With --lab, also compares the measurements with the ledgers of those labs. Exit status 3 if a score differs.
    """
    from nightlab.analysis.ranking import audit_ranking as recompute
    from nightlab.analysis.ranking import parse_fitness
    from nightlab.analysis.tournament import measured_otherwise
    from nightlab.cli.ranking_table import print_drifts
    from nightlab.core.files import read_plain

    published = parse_fitness(read_plain(file, LARGEST), str(file))
    drifts = recompute(published)
    if labs:
        drifts += measured_otherwise(published, _sessions(labs, tag))
    print_drifts(console(), published, drifts, against_ledgers=bool(labs))
    raise typer.Exit(REFUTED if drifts else 0)


@app.command(
    epilog="Examples:  nightlab gene gene.wat   ·   nightlab gene theirs.wasm --max-memory 4MB --max-fuel 20000"
)
def gene(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A WebAssembly module, .wasm or .wat.")],
    memory: Annotated[str, typer.Option("--max-memory", metavar="SIZE", help="Memory available here.")] = "5MB",
    fuel: Annotated[
        int, typer.Option("--max-fuel", min=1, help="Fuel available for each unit of its task.", metavar="N")
    ] = 1_000_000,
    domain: Annotated[str | None, typer.Option(metavar="NAME", help="Domain it must serve; any if omitted.")] = None,
    as_json: Json = False,
) -> None:
    """Check whether a portable gene can run here.

    Shows what the gene needs, without running it. Exit status 3 if it can't run.
    """
    from nightlab.commons.capability import GeneHost
    from nightlab.commons.genes import check_gene, read_gene
    from nightlab.core.config import megabytes
    from nightlab.core.files import read_plain
    from nightlab.core.text import one_line

    try:
        most = int(megabytes(memory) * 2**20)
    except ValueError as error:
        raise typer.BadParameter(f"--max-memory: {error}") from None
    found = read_gene(read_plain(file, LARGEST), str(file))
    fit = check_gene(found, GeneHost(memory_bytes=most, fuel=fuel, domain=domain))
    if as_json:
        typer.echo(json.dumps({"fit": fit.level, "reasons": fit.reasons, "gene": found.model_dump()}, indent=1))
    else:
        needs = found.constraints
        say(escape(f"{one_line(found.phenotype.domain, 100)}, version {found.version}"))
        say(f"needs {needs.memory_bytes / 2**20:.1f} MB of memory and {found.metering.fuel:,} fuel for each unit")
        say({"compatible": "[green]compatible[/]", "partly": "[yellow]partly[/]", "not": "[red]not[/]"}[fit.level])
        for reason in fit.reasons:
            say(escape(f"  {reason}"))
    raise typer.Exit(REFUTED if fit.level == "not" else 0)


def _sessions(labs: Sequence[Path], tag: str | None, *, writer: bool = False, allow: list[str] = []) -> list[Session]:  # noqa: B006
    from nightlab.session.session import open_session

    return [open_session(lab, tag, writer=writer, allow=allowed(allow)) for lab in labs]
