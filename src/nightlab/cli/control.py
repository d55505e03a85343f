"""What a human may want of a session while it runs: each leaves an order, which counts now, or from the next start."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nightlab.cli.app import HERE, Tag, Where, app, say

Number = Annotated[int | None, typer.Argument(metavar="[N]", min=0, help="An experiment's number.", show_default=False)]


@app.command(epilog="Examples:  nightlab pause   ·   nightlab pause --tag nov21")
def pause(lab: Where = HERE, tag: Tag = None) -> None:
    """Start nothing new: what is in flight, or being thought, ends as usual. It holds until nightlab resume."""
    tag = _order(lab, tag, "pause")
    say(f"session {tag} starts nothing new until: nightlab resume --tag {tag}")


@app.command(epilog="Examples:  nightlab resume   ·   nightlab resume --tag nov21")
def resume(lab: Where = HERE, tag: Tag = None) -> None:
    """Go on after nightlab pause."""
    say(f"session {_order(lab, tag, 'resume')} goes on, if it runs; else start it: nightlab run")


@app.command(epilog="Examples:  nightlab skip   ·   nightlab skip 12")
def skip(number: Number = None, lab: Where = HERE, tag: Tag = None) -> None:
    """End the trial in flight, or of experiment N: it is discarded, and never run again."""
    from nightlab.loop.controls import to_skip
    from nightlab.storage.ledger import find_ledger

    number = to_skip(find_ledger(lab, tag)) if number is None else number
    say(f"experiment {number} of session {_order(lab, tag, f'skip {number}')} is skipped")


@app.command(epilog="Examples:  nightlab pin   ·   nightlab pin 12   ·   nightlab pin --off")
def pin(
    number: Number = None,
    off: Annotated[bool, typer.Option("--off", help="Leave it to the search again.")] = False,
    lab: Where = HERE,
    tag: Tag = None,
) -> None:
    """Start each new proposal from experiment N, kept or not, or from the champion as it is now.

    The judge goes on comparing with the champion, and a keep takes its place as ever; the pin stays.
    """
    from nightlab.core.types import NightlabError
    from nightlab.storage.ledger import find_ledger

    if off:
        if number is not None:
            raise typer.BadParameter("--off takes no number")
        say(f"session {_order(lab, tag, 'unpin')}: proposals start where the search wants them again")
        return
    if number is None:
        champion = find_ledger(lab, tag).champion()
        if champion is None:
            raise NightlabError("there is no measured baseline yet", "let it run: nightlab run")
        number = champion.number
    name = _order(lab, tag, f"pin {number}")
    say(f"session {name}: proposals start from experiment {number} until: nightlab pin --off")


def _order(lab: Path, tag: str | None, order: str) -> str:
    """Leave an order for a session, if it can be followed; returns the session's tag."""
    from nightlab.loop.controls import leave
    from nightlab.storage.ledger import find_session, state_folder

    tag = find_session(lab, tag)
    leave(state_folder(lab) / tag, order)
    return tag
