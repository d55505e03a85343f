"""Export of sessions to other programs, and import of their logs."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated, Literal

import typer

from nightlab.cli.app import HERE, Tag, Where, app, escape, near, read_only, say


@app.command(
    epilog="Examples:  nightlab export jsonl | jq .metric   ·   nightlab export parquet --out night.parquet"
    "   ·   nightlab export optuna   ·   nightlab export --for nanochat"
)
def export(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="FORMAT", help="tsv, jsonl, parquet, optuna, mlflow, tensorboard, trackio, or a plug-in's name."
        ),
    ] = None,
    harness: Annotated[
        Literal["nanochat"] | None,
        typer.Option(
            "--for",
            metavar="nanochat",
            help="Instead: the champion's changes as a patch, and a note for this larger harness.",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="PLACE",
            help="File, folder or tracker URL (docs/data.md); text goes to standard output if omitted.",
        ),
    ] = None,
    lab: Where = HERE,
    tag: Tag = None,
) -> None:
    """Export the experiments of a session.

    With --for, instead hand its champion over to a larger training harness (docs/transfer.md).
    """
    from nightlab.core.plugins import is_plugin
    from nightlab.integrations import export as exports

    if (kind is None) == (harness is None):
        raise typer.BadParameter("name a format, or a harness: --for nanochat")
    if harness:
        from nightlab.integrations.harness import write_handover
        from nightlab.session.session import open_session

        with closing(open_session(lab, tag)) as session:
            folder = write_handover(session, harness, Path(out) if out else session.folder / harness)
        say(f"wrote {near(folder)}: changes.patch, and NOTE.md, which says what carried over")
        return
    assert kind is not None
    if kind not in exports.formats() and not is_plugin("exporter", kind):
        raise typer.BadParameter(f"{kind!r} is none of {', '.join(exports.formats())}")
    metric, ledger = read_only(lab, tag)
    if kind not in exports.TEXT:
        place, look = exports.write_export(ledger, metric, kind, out)
        say(f"wrote {escape(place)}\nlook at it: {escape(look)}")
    elif out is None:
        exports.write_lines(ledger, metric, kind, sys.stdout)
    else:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        with Path(out).open("w", encoding="utf-8") as file:
            exports.write_lines(ledger, metric, kind, file)
        say(f"wrote {near(Path(out))}")


@app.command(
    "import",
    epilog="Examples:  nightlab import results.tsv   ·   nightlab import results.tsv mar8"
    "   ·   nightlab import results.tsv --repo autoresearch --branch autoresearch/mar8"
    "   ·   nightlab import my-lab/.auto/log.jsonl --repo my-lab",
)
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A results.tsv, or a log.jsonl of pi-autoresearch.")],
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="New folder for it; 'imported' if omitted.")
    ] = None,
    repo: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Repository with its commits; the session is created there.")
    ] = None,
    branch: Annotated[
        str | None, typer.Option(metavar="NAME", help="Branch of the log in that repository; HEAD if omitted.")
    ] = None,
    goal: Annotated[
        Literal["minimise", "maximise"] | None,
        typer.Option(
            metavar="minimise|maximise", help="Goal of a results.tsv; inferred from its kept rows if omitted."
        ),
    ] = None,
    tag: Annotated[
        str | None, typer.Option("--tag", "-t", metavar="TAG", help="Tag for the session; chosen if omitted.")
    ] = None,
) -> None:
    """Import the log of another program, for reading.

    Works with log, show, diff, plot, report and export. The numbers remain claims: nothing can run in an imported
    session.
    """
    from nightlab.core.text import counted
    from nightlab.integrations.imports import bring_in

    if repo is None and branch is not None:
        raise typer.BadParameter("--branch needs the repository that has it: --repo FOLDER")
    if repo is not None and folder is not None:
        raise typer.BadParameter("give a new FOLDER or --repo, not both")
    home, tag, log = bring_in(file, repo, branch, tag, goal, folder)
    said = f"{log.metric}, {log.goal}d ({log.how})"
    say(f"imported {counted(len(log.claims), 'experiment')} of {log.by} as session {tag}: {escape(said)}")
    for words in [log.left_out, *log.faults[:10], f"… and {len(log.faults) - 10} more" * (len(log.faults) > 10)]:
        if words:
            say(f"  not imported: {escape(words)}")
    where = "" if home.resolve() == Path.cwd() else f" -C {near(home)}"
    say(f"look at it: nightlab log{where} --tag {tag}   ·   nightlab report{where} --tag {tag}")
