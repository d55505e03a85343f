"""Attack your own lab before the night."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from nightlab.cli.app import HERE, REFUTED, Allow, Device, Json, Where, allowed, app, escape, say, view
from nightlab.ui.terminal.outlet import unhurried


@app.command(
    epilog="Examples:  nightlab redteam   ·   nightlab redteam --attack 'early output' --attack clock   ·   "
    "nightlab redteam --json"
)
@unhurried()
def redteam(
    lab: Where = HERE,
    attack: Annotated[
        list[str] | None, typer.Option("--attack", metavar="NAME", help="Run this attack only; repeatable.")
    ] = None,
    as_json: Json = False,
    device: Device = None,
    allow: Allow = [],  # noqa: B006
) -> None:
    """Attack your own lab and say which cheats would be kept.

    Puts known cheats into the genome, one at a time, and measures each with ordinary trials in a scratch copy of what
    is committed. Takes one trial or two for each attack. Exit status 3: at least one would be kept; its hint says
    what to fix. Of a genome in another language than Python only some are made, and the last line says which not.
    """
    from nightlab.analysis.redteam.run import AttackResult
    from nightlab.analysis.redteam.run import redteam as run

    def told(result: AttackResult) -> None:
        if not as_json:
            mark = "[red]kept[/]    " if result.kept else "[green]not kept[/]"
            say(f"{mark}  {result.attack}: {escape(result.does)}\n          {escape(result.verdict)}")
            if result.kept:
                say(f"          hint: {escape(result.hint)}")

    shown = view(quiet=True)
    try:
        results, left_out = run(lab, attack or (), device=device, allow=allowed(allow), view=shown, said=told)
    finally:
        shown.close()
    kept = [result.attack for result in results if result.kept]
    if as_json:
        typer.echo(
            json.dumps({"kept": kept, "attacks": [one.facts() for one in results], "left_out": left_out}, indent=1)
        )
    else:
        say(f"{len(kept)} of {len(results)} attacks would be kept{f'; {left_out}' if left_out else ''}")
    raise typer.Exit(REFUTED if kept else 0)
