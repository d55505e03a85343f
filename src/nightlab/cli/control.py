"""Control of a session while it runs: each command leaves an order, which takes effect now or at the next start."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nightlab.cli.app import HERE, Tag, Where, app, say

Number = Annotated[int | None, typer.Argument(metavar="N", min=0, help="Number of an experiment.", show_default=False)]


@app.command(epilog="Examples:  nightlab pause   ·   nightlab pause --tag nov21")
def pause(lab: Where = HERE, tag: Tag = None) -> None:
    """Pause a session: start no new trials or proposals.

    Running ones finish. The session stays paused until nightlab resume.
    """
    tag = _order(lab, tag, "pause")
    say(f"session {tag} is paused until: nightlab resume --tag {tag}")


@app.command(epilog="Examples:  nightlab resume   ·   nightlab resume --tag nov21")
def resume(lab: Where = HERE, tag: Tag = None) -> None:
    """Continue a paused session."""
    say(f"session {_order(lab, tag, 'resume')} is resumed; if it is not running: nightlab run")


@app.command(epilog="Examples:  nightlab skip   ·   nightlab skip 12")
def skip(number: Number = None, lab: Where = HERE, tag: Tag = None) -> None:
    """Stop and discard the running trial, or experiment N.

    A skipped experiment is not run again.
    """
    from nightlab.loop.controls import to_skip
    from nightlab.storage.ledger import find_ledger

    number = to_skip(find_ledger(lab, tag)) if number is None else number
    say(f"experiment {number} of session {_order(lab, tag, f'skip {number}')} is skipped")


@app.command(epilog="Examples:  nightlab pin   ·   nightlab pin 12   ·   nightlab pin --off")
def pin(
    number: Number = None,
    off: Annotated[bool, typer.Option("--off", help="Remove the pin: the search selects parents again.")] = False,
    lab: Where = HERE,
    tag: Tag = None,
) -> None:
    """Base new proposals on experiment N, or on the current champion.

    N may be a discarded experiment. Candidates are still judged against the champion, and a keep becomes the new
    champion; the pin stays until nightlab pin --off.
    """
    from nightlab.core.types import NightlabError
    from nightlab.storage.ledger import find_ledger

    if off:
        if number is not None:
            raise typer.BadParameter("--off takes no number")
        say(f"session {_order(lab, tag, 'unpin')}: the search selects parents again")
        return
    if number is None:
        champion = find_ledger(lab, tag).champion()
        if champion is None:
            raise NightlabError("there is no measured baseline yet", "measure it: nightlab run")
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
