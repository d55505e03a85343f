"""Making labs, and asking whether one can run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from nightlab.cli.app import FIXABLE, HERE, Allow, Json, OnEngine, Where, allowed, app, escape, say


@app.command(epilog="Examples:  nightlab new my-lm   ·   nightlab new packing   ·   nightlab new faster --from speed")
def new(
    name: Annotated[
        Path | None, typer.Argument(metavar="NAME", help="Folder to create; lists the shipped labs, if omitted.")
    ] = None,
    template: Annotated[
        str | None, typer.Option("--from", metavar="LAB", help="Shipped lab to copy; NAME, or lm.")
    ] = None,
) -> None:
    """Create a lab from a template, ready to run."""
    from nightlab.session.create import make_lab, shipped

    if name is None:
        for known, heading in shipped().items():
            say(f"  {known:<10} {heading}")
        say("next: nightlab new NAME, with one of these names or your own and --from LAB")
        return
    template = template or (name.name if name.name in shipped() else "lm")
    folder = make_lab(name, template)
    say(f"made {folder}/ from the lab '{template}', committed")
    say(f"next: cd {folder} && nightlab check && nightlab run")


Unsealed = Annotated[
    bool,
    typer.Option("--unsealed", help="Run evaluator and candidate in one sandbox: the number is then a claim."),
]


@app.command(
    "open", epilog="Examples:  nightlab open ~/openevolve/examples/circle_packing   ·   nightlab open . --show"
)
def open_(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Folder of the problem; it is not changed.")],
    name: Annotated[
        Path | None, typer.Argument(metavar="NAME", help="Folder to create; by its name, if omitted.")
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Print the contract without making a lab.")] = False,
    unsealed: Unsealed = False,
) -> None:
    """Make a lab of a problem written for another system."""
    from nightlab.session.create import infer, open_problem

    if show:
        typer.echo(infer(path, sealed=not unsealed)[0], nl=False)
        return
    folder = name or Path(path.resolve().name)
    reading = open_problem(path, folder, sealed=not unsealed)
    say(f"made {folder}/, committed, from {escape(reading.source)}")
    for note in reading.notes:
        say(f"[yellow]note[/] {escape(note)}")
    say(f"next: cd {folder} && nightlab check && nightlab run")


@app.command(epilog="Examples:  nightlab init   ·   nightlab init --show")
def init(
    lab: Where = HERE,
    show: Annotated[bool, typer.Option("--show", help="Print the contract without writing it.")] = False,
    unsealed: Unsealed = False,
) -> None:
    """Write a lab.toml inferred from this folder."""
    from nightlab.session.create import infer

    text, source = infer(lab, sealed=not unsealed)
    if show:
        typer.echo(text, nl=False)
        return
    path = lab / "lab.toml"
    if path.exists():
        from nightlab.core.types import NightlabError

        raise NightlabError(f"{path} exists already", "edit it, or print what would be inferred: nightlab init --show")
    path.write_text(text, encoding="utf-8")
    say(f"wrote {path}, inferred from {source}")
    say("next: read it, then commit it with the files that it names: git add lab.toml …; git commit; nightlab check")


@app.command(
    epilog="Examples:  nightlab check   ·   nightlab check -C path/to/lab --json   ·   nightlab check --engine slurm"
)
def check(lab: Where = HERE, as_json: Json = False, allow: Allow = [], engine: OnEngine = None) -> None:  # noqa: B006
    """Check that this lab can run."""
    from nightlab.engines.platform import this_platform
    from nightlab.session.preflight import inspect
    from nightlab.session.rehearsal import check_thoroughly
    from nightlab.storage.git import Repo

    repo = Repo(lab)
    if engine:
        from nightlab.session.engine_check import check_engine_for

        contract, source, checks = inspect(repo)
        found, there = check_engine_for(engine, repo, contract)
        checks, platform = [*checks, *found], there or this_platform()
    else:
        contract, source, checks = check_thoroughly(repo, allowed(allow))
        platform = this_platform()
    budget = contract.budget.on(platform.device)
    good = all(c.ok or not c.fatal for c in checks)
    if as_json:
        facts = [{"what": c.what, "ok": c.ok, "mend": c.hint, "fatal": c.fatal} for c in checks]
        typer.echo(json.dumps({"ok": good, "source": source, "checks": facts}, indent=1))
    else:
        say(f"lab {contract.name}: {contract.metric.goal} {contract.metric.name}, from {source}")
        say(f"a trial trains for {budget.record()} on {platform}")
        say(f"{budget.limit()}")
        for c in checks:
            mark = "[green]ok[/]  " if c.ok else "[red]no[/]  " if c.fatal else "[yellow]note[/]"
            say(f"{mark} {escape(c.what)}" + (f"\n     hint: {escape(c.hint)}" if not c.ok else ""))
        say("ready: nightlab run" if good else "not ready: fix what says 'no'")
    raise typer.Exit(0 if good else FIXABLE)
